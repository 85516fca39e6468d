"""The film with the model's activation laid over it, transparent enough to read the film through it."""

from functools import lru_cache
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from domain.findings import ActivationMap, DisplayImage

Greys = NDArray[np.uint8]
Weights = NDArray[np.float32]
Box = tuple[int, int, int, int]  # left, top, right, bottom

# Dark violet to pale yellow: brightness rises all the way, so it reads the same without colour vision.
COLOUR_STOPS = (
    (0, (46, 12, 84)),
    (96, (150, 38, 102)),
    (160, (226, 92, 48)),
    (216, (250, 168, 40)),
    (255, (252, 244, 160)),
)
INVISIBLE_BELOW = 64  # of 255: the low quarter is noise, and the film matters more
# Between cells that are all lower no interpolated value is visible: bicubic weights overshoot by less than a half.
SURELY_INVISIBLE_BELOW = 32
STRONGEST_OPACITY, WEAKEST_OPACITY = 0.5, 0.22  # at the map's maximum, of a finding and of what is none
# Half of the map's maximum, of 255; with a dark line just outside, so that it shows on a bright film as on a dark one.
# The lines are drawn into the map itself, as values of their own: what is that low is invisible anyway.
CONTOURS = ((125, 1, (58, 16, 70)), (128, 2, (255, 222, 140)))  # level, value, colour
LOWEST = 1 + len(CONTOURS)  # of the map; 0 is beside it
CONTOUR_OPACITY = 0.9
SHARED_FROM = 1200  # pixels of a film's shorter side for each pixel of a contour's width
STRIP_PIXELS = 1 << 16  # what is made of so many of a film's pixels fits into the processor's cache
FIELD_MARK_COLOUR = (150, 158, 166)
FIELD_MARK_LENGTH = 0.04  # of the film's shorter side


def film_with_activation(
    display: DisplayImage, activation: ActivationMap | None, size: tuple[int, int], *, is_strong: bool = True
) -> Image.Image:
    """The film at `size` (width, height) in RGBA, opaque. The map lies on the rectangle that the network looked at.

    is_strong: what it shows was found. Every map reaches its own maximum somewhere, that of a score below its threshold
    as well: in full colour it would point at something that the model does not say is there.
    """
    film = _film(display, size)
    if activation is None:
        return Image.fromarray(film).convert("RGBA")
    box = field_of_view(display, activation, size)
    # Of a very large film a few pixels share a value, or nobody would see the lines where it is shown reduced.
    shared = max(1, min(size) // SHARED_FROM)
    levels = _levels(activation, box, film.shape, shared)
    colours = _coloured(film, levels, shared, _blends(is_strong))
    picture = Image.frombuffer("RGBA", size, colours, "raw", "RGBA", 0, 1)
    picture.readonly = 0  # nobody else has this memory, which Pillow would copy before a mark is drawn
    if not covers_all(display, activation):
        _mark_corners(ImageDraw.Draw(picture), box, round(FIELD_MARK_LENGTH * min(size)))
    return picture


def covers_all(display: DisplayImage, activation: ActivationMap) -> bool:
    """Whether the network looked at the whole image, up to a hundredth of a side."""
    return (
        activation.left <= 0.01 * display.source_columns
        and activation.top <= 0.01 * display.source_rows
        and activation.left + activation.width >= 0.99 * display.source_columns
        and activation.top + activation.height >= 0.99 * display.source_rows
    )


def field_of_view(display: DisplayImage, activation: ActivationMap, size: tuple[int, int]) -> Box:
    """The map's rectangle from source pixels to the film as drawn: (left, top, right, bottom)."""
    across, down = size[0] / display.source_columns, size[1] / display.source_rows
    left, top = round(activation.left * across), round(activation.top * down)
    right = max(left + 1, round((activation.left + activation.width) * across))
    bottom = max(top + 1, round((activation.top + activation.height) * down))
    return left, top, right, bottom


def colour_scale(width: int, height: int) -> Image.Image:
    """The colours of the map from low to high, for its legend."""
    values = np.linspace(INVISIBLE_BELOW, 255, width).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(_palette()[values], (height, width, 3))))


def _film(display: DisplayImage, size: tuple[int, int]) -> Greys:
    """(rows, columns) at `size`."""
    greys = np.frombuffer(display.pixels, np.uint8).reshape(display.rows, display.columns)
    if size == (display.columns, display.rows):
        return greys
    return np.asarray(Image.fromarray(greys).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def _levels(activation: ActivationMap, box: Box, film: tuple[int, ...], shared: int) -> Greys:
    """The map with its contours, a value for as many rows and columns of the film as share it; 0 where none shows."""
    height, width = (-(-side // shared) for side in film)
    left, top, right, bottom = (edge // shared for edge in box)
    levels = np.zeros((height, width), np.uint8)
    cells = np.array(activation.values, np.float32).reshape(activation.rows, activation.columns)
    rows = _reach(cells.max(axis=1), top, bottom, height)
    columns = _reach(cells.max(axis=0), left, right, width)
    if not rows or not columns:
        return levels
    down = _enlarging(activation.rows, top, bottom, rows)
    values = cells @ _enlarging(activation.columns, left, right, columns).T
    seen = levels[rows.start : rows.stop, columns.start : columns.stop]
    rows_at_once = max(1, STRIP_PIXELS // width)
    for first in range(0, len(down), rows_at_once):
        strip = slice(first, first + rows_at_once)
        seen[strip] = np.clip(np.rint(down[strip] @ values), LOWEST, 255)
    seen[:] = _with_contours(seen)
    return levels


def _coloured(film: Greys, levels: Greys, shared: int, blends: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """In strips: film and map -> one place in the table of blends -> red, green, blue and opaque."""
    columns = film.shape[1]
    colours = np.empty(film.shape, np.uint32)
    rows_at_once = max(1, STRIP_PIXELS // (columns * shared))
    for first in range(0, len(levels), rows_at_once):
        high = levels[first : first + rows_at_once].astype(np.uint16) << 8
        wide = np.empty((len(high), high.shape[1] * shared), np.uint16)
        for column in range(shared):
            wide[:, column::shared] = high
        strip = slice(first * shared, (first + rows_at_once) * shared)
        places = film[strip].astype(np.uint16)
        for row in range(shared):
            sharing = places[row::shared]
            sharing |= wide[: len(sharing), :columns]
        blends.take(places, out=colours[strip], mode="clip")
    return colours


def _reach(highest: Weights, start: int, stop: int, length: int) -> range:
    """The film's rows (or columns) on which those of the map can show that are so high, spread from `start` to `stop`.

    With a pixel beside them, where a contour sees that the map ends.
    """
    (shown,) = np.nonzero(highest >= SURELY_INVISIBLE_BELOW)
    if not len(shown):
        return range(0)
    pixels_per_cell = (stop - start) / len(highest)
    beside = ceil(2 * max(pixels_per_cell, 1)) + 1  # as far as bicubic interpolation looks
    first = start + floor(shown[0] * pixels_per_cell) - beside
    last = start + ceil((shown[-1] + 1) * pixels_per_cell) + beside
    return range(max(first, start - 1, 0), min(last, stop + 1, length))


def _enlarging(count: int, start: int, stop: int, shown: range) -> Weights:
    """(shown, count): the weights of the map's rows (or columns) for these of the film's; none beside the map."""
    inside = Image.fromarray(np.eye(count, dtype=np.float32)).resize((count, stop - start), Image.Resampling.BICUBIC)
    weights = np.zeros((len(shown), count), np.float32)
    within = range(max(start, shown.start), min(stop, shown.stop))
    weights[within.start - shown.start : within.stop - shown.start] = np.asarray(inside)[
        within.start - start : within.stop - start
    ]
    return weights


def _with_contours(values: Greys) -> Greys:
    """The map with the outermost pixels of the area where it reaches a level set to the level's own value."""
    least = values.copy()  # of each pixel and its four neighbours
    for here, beside in (
        (least[1:], values[:-1]),
        (least[:-1], values[1:]),
        (least[:, 1:], values[:, :-1]),
        (least[:, :-1], values[:, 1:]),
    ):
        np.minimum(here, beside, out=here)
    marked = values.copy()
    for level, value, _ in CONTOURS:
        marked[(values >= level) & (least < level)] = value
    return marked


@lru_cache(maxsize=2)
def _blends(is_strong: bool) -> NDArray[np.uint32]:
    """The colour under each value of the map (the place's high byte) of each grey of the film (its low byte).

    RGBA, as it lies in memory. Neighbours share a value more often than a grey, and so find their colours close by.
    """
    greys = np.arange(256.0)[:, np.newaxis]
    colours, opacities = _palette().astype(np.float64), _opacities(is_strong)
    for _, value, colour in CONTOURS:
        colours[value], opacities[value] = colour, CONTOUR_OPACITY
    blends = np.full((256, 256, 4), 255, np.uint8)
    colours = colours[:, np.newaxis]
    blends[..., :3] = np.rint(greys + (colours - greys) * opacities[:, np.newaxis, np.newaxis])
    return blends.view(np.uint32).ravel()


@lru_cache(maxsize=1)
def _palette() -> Greys:
    """(256, 3) red, green and blue."""
    positions = [position for position, _ in COLOUR_STOPS]
    channels = [
        np.interp(np.arange(256), positions, [colour[channel] for _, colour in COLOUR_STOPS]) for channel in range(3)
    ]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _opacities(is_strong: bool) -> NDArray[np.float64]:
    """(256,), in [0, 1]: none at the bottom, rising evenly to the top."""
    rising = (np.arange(256) - INVISIBLE_BELOW) / (255 - INVISIBLE_BELOW)
    return np.asarray(np.clip(rising, 0, 1) * (STRONGEST_OPACITY if is_strong else WEAKEST_OPACITY))


def _mark_corners(draw: ImageDraw.ImageDraw, box: Box, length: int) -> None:
    left, top, right, bottom = box
    for x, inward_x in ((left, length), (right - 1, -length)):
        for y, inward_y in ((top, length), (bottom - 1, -length)):
            draw.line([(x + inward_x, y), (x, y), (x, y + inward_y)], fill=FIELD_MARK_COLOUR, width=2)
