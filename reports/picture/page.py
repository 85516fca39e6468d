"""The page that a radiologist sees beside the images: film, findings, legend, and what must not be overlooked.

    ┌──────────────────────────────────────────┐
    │ free      NOT FOR DIAGNOSTIC USE     free│   viewers write into the four corners of what they show,
    │ ┌────────────────────┐  At or above      │   so the bands keep their outer parts empty
    │ │                    │  Pneumonia   83 % │
    │ │        film        │  ━━━━━━━━┃━━━     │   a bar is the certainty, the mark on it the threshold
    │ │                    │  Below threshold  │
    │ └────────────────────┘  …   legend       │
    │ free  the warning, model, image      free│   OHIF's cine controls cover the upper one
    └──────────────────────────────────────────┘

A wide film (a panoramic view of the teeth) has its findings below it, in columns. The page is about 1,280 pixels
wide whatever the film's size, and its letters are sized to be read when a viewer shows it 700 pixels wide. A note, why
there is no analysis, is a page of the same design without a film.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from domain.findings import ActivationMap, DisplayImage, Finding, ImageAnalysis, Measurement, ModelIdentity
from reports.language import Words
from reports.picture.heatmap import colour_scale, covers_all, film_with_activation
from reports.picture.letters import Colour, font, length, wrapped, write
from reports.picture.marks import draw_marks
from reports.words import (
    ENGLISH,
    label_in_words,
    model_in_words,
    percents,
    value_and_threshold,
    warnings_for,
)

# Dark and neutral, as a reading room is: nothing brighter than the film but what has to be seen.
BACKGROUND: Colour = (10, 11, 12)
LINE: Colour = (52, 56, 61)
TEXT: Colour = (222, 225, 228)
QUIET_TEXT: Colour = (148, 155, 163)
TRACK: Colour = (38, 41, 45)
QUIET_BAR: Colour = (98, 106, 115)
DETECTED: Colour = (242, 178, 76)
WARNING_GROUND: Colour = (104, 22, 26)
WARNING_TEXT: Colour = (255, 222, 216)
WARNING_ON_BACKGROUND: Colour = (238, 118, 104)
NOTE_GROUND: Colour = (44, 58, 74)
DEMONSTRATION_GROUND: Colour = (242, 178, 76)
DEMONSTRATION_TEXT: Colour = (24, 16, 4)

Coloured = tuple[str, Colour, Colour]  # text, ground, letters

MARGIN = 28
FILM_BOX = (800, 1040)  # the most that a film beside its findings may take, width and height
WIDE_FILM_BOX = (1224, 720)  # the same for a film above its findings
FILM_BOXES = (FILM_BOX, WIDE_FILM_BOX)
WIDE_FROM = 1.45  # width to height
COLUMN_WIDTH = 396
NARROWEST_PAGE = 860
TALLEST_COLUMN = 1200  # of findings; more of them stand in two columns

LARGE, BODY, SMALL = 30, 22, 19  # 22 of 1,280 pixels are still 12 of 700
LEADING = 1.28
NOTE_WIDTH, NOTE_TEXT_WIDTH, NOTE_HEIGHT = 1280, 880, 860  # at least so high: a page of a viewer's usual proportions
CENTRE = 0.56  # the part of a band's width that viewers leave free of their own text


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A piece of the page: how tall it is, and how to paint it at (left, top)."""

    height: int
    paint: Callable[[Image.Image, int, int], None]


def draw_page(
    display: DisplayImage,
    image: ImageAnalysis,
    model: ModelIdentity,
    signature: str,
    *,
    not_analysed: str = "",
    words: Words = ENGLISH,
) -> Image.Image:
    """One analysed image as a page in RGB. `signature` names the image, the node and its version; `not_analysed` says
    which other images of the study nobody has looked at.

    The source's size does not matter: a small film is enlarged, a large one reduced, its proportions kept.
    """
    is_wide = display.columns >= WIDE_FROM * display.rows
    film_size = _fitted(display, WIDE_FILM_BOX if is_wide else FILM_BOX)
    rows = list(_rows(image, words))
    legend = list(_legend(display, image, COLUMN_WIDTH, words))
    if is_wide:
        body = _film_above(film_size, _in_columns([*rows, *legend], 3))
    else:
        # One column of many rows outgrows the film: then the legend finds its place below the film.
        column_count = 1 if _height(rows) <= TALLEST_COLUMN else 2
        fits_beside = _height(rows) + _height(legend) <= film_size[1]
        below = [] if fits_beside else list(_legend(display, image, film_size[0], words))
        columns = _in_columns([*rows, *legend] if fits_beside else rows, column_count)
        body = _film_beside(film_size, columns, below)
    small_print = [(text, colour) for text, colour in ((not_analysed, TEXT), (signature, QUIET_TEXT)) if text]
    return _page_of(body, display, image, model, small_print, words)


def draw_note(title: str, lines: Sequence[str], signature: str, *, words: Words = ENGLISH) -> Image.Image:
    """Why there is no analysis, as a page in RGB."""
    banner = _banner([(words.banner_of_note, NOTE_GROUND, TEXT)])
    footer = _footer([(signature, QUIET_TEXT)], NOTE_WIDTH)
    blocks = [
        _paragraph(title, LARGE, TEXT, NOTE_TEXT_WIDTH),
        *(_paragraph(line, BODY, QUIET_TEXT, NOTE_TEXT_WIDTH) for line in lines),
    ]
    space = max(NOTE_HEIGHT - banner.height - footer.height - _height(blocks), 2 * MARGIN)
    height = banner.height + _height(blocks) + space
    page = Image.new("RGB", (NOTE_WIDTH, height + footer.height), BACKGROUND)
    left = (NOTE_WIDTH - NOTE_TEXT_WIDTH) // 2
    # A third of the space above the text: in the very middle it would seem to sink.
    for x, y, block in _stacked([blocks], left, banner.height + space // 3):
        block.paint(page, x, y)
    banner.paint(page, 0, 0)
    footer.paint(page, 0, height)
    return page


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """The middle of the page, laid out: where the film and each block go, from the body's own upper left corner."""

    width: int
    height: int
    film: tuple[int, int]
    film_size: tuple[int, int]
    placed: tuple[tuple[int, int, Block], ...]


def _film_beside(film_size: tuple[int, int], columns: Sequence[Sequence[Block]], below: Sequence[Block]) -> Body:
    film_height = film_size[1] + _height(below)
    return Body(
        width=film_size[0] + len(columns) * (MARGIN + COLUMN_WIDTH),
        height=max(film_height, *(_height(column) for column in columns)),
        film=(0, 0),
        film_size=film_size,
        placed=(*_stacked(columns, film_size[0] + MARGIN, 0), *_stacked([below], 0, film_size[1])),
    )


def _film_above(film_size: tuple[int, int], columns: Sequence[Sequence[Block]]) -> Body:
    width = max(film_size[0], len(columns) * (COLUMN_WIDTH + MARGIN) - MARGIN)
    top = film_size[1] + MARGIN
    return Body(
        width=width,
        height=top + max(_height(column) for column in columns),
        film=((width - film_size[0]) // 2, 0),
        film_size=film_size,
        placed=tuple(_stacked(columns, 0, top)),
    )


def _page_of(
    body: Body,
    display: DisplayImage,
    image: ImageAnalysis,
    model: ModelIdentity,
    small_print: Sequence[tuple[str, Colour]],
    words: Words,
) -> Image.Image:
    width = max(NARROWEST_PAGE, body.width + 2 * MARGIN)
    warnings = warnings_for(model, words)
    banner = _banner(list(_banners(model, words)))
    footer = _footer(
        [
            *((warning, WARNING_ON_BACKGROUND) for warning in (" · ".join(warnings),) if warning),
            (model_in_words(model, words), TEXT),
            *small_print,
        ],
        width,
    )
    page = Image.new("RGB", (width, banner.height + body.height + footer.height), BACKGROUND)
    left, top = (width - body.width) // 2, banner.height
    film_corner = (left + body.film[0], top + body.film[1])
    film = film_with_activation(display, image.activation, body.film_size, is_strong=_is_detected(image))
    draw_marks(film, display, image, font(SMALL))
    page.paste(film, film_corner)
    if model.is_demonstration:
        _stamp_demonstration(page, film_corner, body.film_size, words.demonstration_model)
    for x, y, block in body.placed:
        block.paint(page, left + x, top + y)
    banner.paint(page, 0, 0)
    footer.paint(page, 0, top + body.height)
    return page


def _is_detected(image: ImageAnalysis) -> bool:
    """Whether the activation is that of a finding which reached its threshold."""
    return image.activation is not None and any(one.label == image.activation.label for one in image.detected)


def _fitted(display: DisplayImage, most: tuple[int, int]) -> tuple[int, int]:
    scale = min(most[0] / display.columns, most[1] / display.rows)
    return max(1, round(display.columns * scale)), max(1, round(display.rows * scale))


def _height(blocks: Sequence[Block]) -> int:
    return sum(block.height for block in blocks)


def _rows(image: ImageAnalysis, words: Words) -> Iterator[Block]:
    by_margin = sorted(image.findings, key=lambda finding: finding.threshold - finding.certainty)
    detected = [
        *(_measurement_row(one, DETECTED, words) for one in image.measurements if one.is_detected),
        *(_finding_row(finding, BODY, DETECTED, DETECTED, words) for finding in by_margin if finding.is_detected),
    ]
    below = [
        *(_measurement_row(one, TEXT, words) for one in image.measurements if not one.is_detected),
        *(
            _finding_row(finding, SMALL, QUIET_TEXT, QUIET_BAR, words)
            for finding in by_margin
            if not finding.is_detected
        ),
    ]
    # The key to the marks stands once, above the first bars.
    keys = (words.threshold if image.detected else "", words.threshold if image.findings and not image.detected else "")
    yield _heading(words.at_or_above_threshold, keys[0])
    yield from detected or [_paragraph(words.no_finding, BODY, TEXT, COLUMN_WIDTH)]
    if below:
        yield _heading(words.below_threshold, keys[1])
        yield from below


def _in_columns(blocks: Sequence[Block], count: int) -> list[list[Block]]:
    """The blocks in reading order, in columns of about the same height."""
    enough = _height(blocks) / count
    columns: list[list[Block]] = [[]]
    for block in blocks:
        if columns[-1] and len(columns) < count and _height(columns[-1]) + block.height / 2 > enough:
            columns.append([])
        columns[-1].append(block)
    return columns


def _stacked(columns: Sequence[Sequence[Block]], left: int, top: int) -> Iterator[tuple[int, int, Block]]:
    for number, column in enumerate(columns):
        y = top
        for block in column:
            yield left + number * (COLUMN_WIDTH + MARGIN), y, block
            y += block.height


def _heading(text: str, key: str) -> Block:
    """A heading over a line; `key`, if not empty, is that to the mark which the bars below it carry."""

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        write(page, (left, top), text, SMALL, QUIET_TEXT)
        if key:
            key_left = left + COLUMN_WIDTH - length(key, SMALL)
            write(page, (key_left, top), key, SMALL, QUIET_TEXT)
            draw.rectangle([key_left - 10, top + 5, key_left - 8, top + 18], fill=TEXT)
        draw.line([(left, top + 30), (left + COLUMN_WIDTH - 1, top + 30)], fill=LINE, width=1)

    return Block(height=44, paint=paint)


def _paragraph(text: str, size: int, colour: Colour, width: int) -> Block:
    lines = wrapped(text, size, width)
    step = round(size * LEADING)

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, line in enumerate(lines):
            write(page, (left, top + number * step), line, size, colour)

    return Block(height=len(lines) * step + 18, paint=paint)


def _finding_row(finding: Finding, size: int, colour: Colour, bar: Colour, words: Words) -> Block:
    """The label and its certainty; below them the certainty as a bar, with a mark where the threshold is."""
    certainty = f"{percents(finding, words)[0]} %"
    lines = wrapped(label_in_words(finding.label, words), size, COLUMN_WIDTH - length(certainty, size) - 16)
    step = round(size * LEADING)
    bar_top, bar_height = len(lines) * step + 3, 6

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        for number, line in enumerate(lines):
            write(page, (left, top + number * step), line, size, colour)
        write(page, (left + COLUMN_WIDTH, top), certainty, size, colour, anchor="ra")
        y = top + bar_top
        draw.rectangle([left, y, left + COLUMN_WIDTH - 1, y + bar_height - 1], fill=TRACK)
        filled = round(finding.certainty * (COLUMN_WIDTH - 1))
        if filled:
            draw.rectangle([left, y, left + filled, y + bar_height - 1], fill=bar)
        mark = left + round(finding.threshold * (COLUMN_WIDTH - 3))
        draw.rectangle([mark, y - 3, mark + 2, y + bar_height + 2], fill=TEXT)

    return Block(height=bar_top + bar_height + (18 if size == BODY else 12), paint=paint)


def _measurement_row(measurement: Measurement, colour: Colour, words: Words) -> Block:
    """The label and its value; below them the threshold, if it has one."""
    value, threshold = value_and_threshold(measurement, words)
    lines = wrapped(label_in_words(measurement.label, words), BODY, COLUMN_WIDTH - length(value, BODY) - 16)
    step = round(BODY * LEADING)
    below = round(SMALL * LEADING) if threshold else 0

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, line in enumerate(lines):
            write(page, (left, top + number * step), line, BODY, colour)
        write(page, (left + COLUMN_WIDTH, top), value, BODY, colour, anchor="ra")
        if threshold:
            note = words.threshold_of.format(threshold=threshold)
            write(page, (left, top + len(lines) * step), note, SMALL, QUIET_TEXT)

    return Block(height=len(lines) * step + below + 18, paint=paint)


def _legend(display: DisplayImage, image: ImageAnalysis, width: int, words: Words) -> Iterator[Block]:
    if image.activation is not None:
        title = words.activation_map if _is_detected(image) else words.activation_map_below_threshold
        yield _legend_of_map(display, image.activation, title, width, words)
    if image.regions:
        yield _paragraph(words.boxes, SMALL, QUIET_TEXT, width)
    if image.measurements:
        yield _paragraph(words.lines, SMALL, QUIET_TEXT, width)


def _legend_of_map(display: DisplayImage, activation: ActivationMap, name: str, width: int, words: Words) -> Block:
    scale_width = min(width, COLUMN_WIDTH)
    explanation = words.colour_and_line
    if not covers_all(display, activation):
        explanation += f" {words.corner_marks}"
    title = _paragraph(name.format(label=label_in_words(activation.label, words)), SMALL, TEXT, width)
    text = _paragraph(explanation, SMALL, QUIET_TEXT, width)

    def paint(page: Image.Image, left: int, top: int) -> None:
        top += 18
        title.paint(page, left, top)
        top += title.height - 10
        page.paste(colour_scale(scale_width, 12), (left, top))
        write(page, (left, top + 16), words.low, SMALL, QUIET_TEXT)
        write(page, (left + scale_width, top + 16), words.high, SMALL, QUIET_TEXT, anchor="ra")
        text.paint(page, left, top + 48)

    return Block(height=18 + title.height - 10 + 48 + text.height, paint=paint)


def _banners(model: ModelIdentity, words: Words) -> Iterator[Coloured]:
    if not warnings_for(model):
        yield words.banner_of_result, BACKGROUND, TEXT
    for warning in warnings_for(model, words):
        is_demonstration = warning == words.demonstration_model
        ground = DEMONSTRATION_GROUND if is_demonstration else WARNING_GROUND
        yield warning, ground, DEMONSTRATION_TEXT if is_demonstration else WARNING_TEXT


def _banner(banners: Sequence[Coloured]) -> Block:
    """Each on a ground of its own, in the middle of the upper band."""

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        y = top + 26
        for text, ground, colour in banners:
            half = length(text, LARGE) / 2 + 22
            draw.rounded_rectangle([page.width / 2 - half, y, page.width / 2 + half, y + 46], radius=6, fill=ground)
            write(page, (page.width / 2, y + 23), text, LARGE, colour, anchor="mm")
            y += 54

    return Block(height=26 + 54 * len(banners) + 18, paint=paint)


def _footer(texts: Sequence[tuple[str, Colour]], width: int) -> Block:
    """In the middle of the lower band."""
    lines = [(line, colour) for text, colour in texts for line in wrapped(text, SMALL, CENTRE * width)]
    step = round(SMALL * LEADING)

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, (line, colour) in enumerate(lines):
            write(page, (width / 2, top + 20 + number * step), line, SMALL, colour, anchor="ma")

    return Block(height=20 + step * len(lines) + 24, paint=paint)


def _stamp_demonstration(page: Image.Image, corner: tuple[int, int], size: tuple[int, int], text: str) -> None:
    """The words on the film itself: a film cut out of the page still carries them."""
    draw = ImageDraw.Draw(page)
    height = 44
    top = corner[1] + size[1] - height
    draw.rectangle([corner[0], top, corner[0] + size[0] - 1, top + height - 1], fill=DEMONSTRATION_GROUND)
    letters = next((size_ for size_ in (LARGE, BODY, SMALL) if length(text, size_) < size[0] - 8), 12)
    middle = (corner[0] + size[0] / 2, top + height / 2)
    write(page, middle, text, letters, DEMONSTRATION_TEXT, anchor="mm")
