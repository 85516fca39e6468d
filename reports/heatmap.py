"""The film with the model's activation laid over it, transparent enough to read the film through it."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from domain.findings import ActivationMap, DisplayImage

# Dark violet to pale yellow: brightness rises all the way, so it reads the same without colour vision.
COLOUR_STOPS = (
    (0, (46, 12, 84)),
    (96, (150, 38, 102)),
    (160, (226, 92, 48)),
    (216, (250, 168, 40)),
    (255, (252, 244, 160)),
)
INVISIBLE_BELOW = 64  # of 255: the low quarter is noise, and the film matters more
STRONGEST_OPACITY = 0.5
# Half of the map's maximum, of 255; with a dark line just outside, so that it shows on a bright film as on a dark one.
CONTOURS = ((125, (58, 16, 70)), (128, (255, 222, 140)))
FIELD_MARK_COLOUR = (150, 158, 166)
FIELD_MARK_LENGTH = 0.04  # of the film's shorter side


def film_with_activation(display: DisplayImage, activation: ActivationMap | None, size: tuple[int, int]) -> Image.Image:
    """The film at `size` (width, height) in RGB. The map lies on the rectangle that the network looked at."""
    film = Image.frombytes("L", (display.columns, display.rows), display.pixels)
    picture = film.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0).convert("RGB")
    if activation is None:
        return picture
    box = field_of_view(display, activation, size)
    values = _activation_on_film(activation, box, size)
    picture.paste(_in_colour(values), mask=values.point(_opacities()))
    for level, colour in CONTOURS:
        picture.paste(colour, mask=_contour(values, level))
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


def field_of_view(display: DisplayImage, activation: ActivationMap, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The map's rectangle from source pixels to the film as drawn: (left, top, right, bottom)."""
    across, down = size[0] / display.source_columns, size[1] / display.source_rows
    left, top = round(activation.left * across), round(activation.top * down)
    right = max(left + 1, round((activation.left + activation.width) * across))
    bottom = max(top + 1, round((activation.top + activation.height) * down))
    return left, top, right, bottom


def colour_scale(width: int, height: int) -> Image.Image:
    """The colours of the map from low to high, for its legend."""
    ramp = np.broadcast_to(np.linspace(INVISIBLE_BELOW, 255, width).astype(np.uint8), (height, width))
    return _in_colour(Image.fromarray(np.ascontiguousarray(ramp)))


def _activation_on_film(
    activation: ActivationMap, box: tuple[int, int, int, int], size: tuple[int, int]
) -> Image.Image:
    left, top, right, bottom = box
    small = Image.frombytes("L", (activation.columns, activation.rows), bytes(activation.values))
    values = Image.new("L", size)
    values.paste(small.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return values


def _in_colour(values: Image.Image) -> Image.Image:
    coloured = values.copy()
    coloured.putpalette(_palette())
    return coloured.convert("RGB")


@lru_cache(maxsize=1)
def _palette() -> bytes:
    positions = [position for position, _ in COLOUR_STOPS]
    channels = [
        np.interp(np.arange(256), positions, [colour[channel] for _, colour in COLOUR_STOPS]) for channel in range(3)
    ]
    return np.stack(channels, axis=-1).round().astype(np.uint8).tobytes()


@lru_cache(maxsize=1)
def _opacities() -> list[int]:
    """Opacity for each value of the map: none at the bottom, rising evenly to the strongest."""
    rising = (np.arange(256) - INVISIBLE_BELOW) / (255 - INVISIBLE_BELOW)
    opacities: list[int] = (np.clip(rising, 0, 1) * STRONGEST_OPACITY * 255).round().astype(int).tolist()
    return opacities


def _contour(values: Image.Image, level: int) -> Image.Image:
    """The outermost pixels of the area where the map reaches a level."""
    inside = np.asarray(values) >= level
    surrounded = inside.copy()
    surrounded[1:] &= inside[:-1]
    surrounded[:-1] &= inside[1:]
    surrounded[:, 1:] &= inside[:, :-1]
    surrounded[:, :-1] &= inside[:, 1:]
    return Image.fromarray((inside & ~surrounded).astype(np.uint8) * 230)


def _mark_corners(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], length: int) -> None:
    left, top, right, bottom = box
    for x, inward_x in ((left, length), (right - 1, -length)):
        for y, inward_y in ((top, length), (bottom - 1, -length)):
            draw.line([(x + inward_x, y), (x, y), (x, y + inward_y)], fill=FIELD_MARK_COLOUR, width=2)
