"""The page that a radiologist sees beside the images: film, findings, legend, and what must not be overlooked.

    ┌──────────────────────────────────────────┐
    │ free      NOT FOR DIAGNOSTIC USE     free│   viewers write into the four corners of what they show,
    │ ┌────────────────────┐  At or above      │   so the bands keep their outer parts empty
    │ │                    │  Pneumonia   83 % │
    │ │        film        │  ━━━━━━━━┃━━━     │   a bar is the certainty, the mark on it the threshold
    │ │                    │  Below threshold  │
    │ └────────────────────┘  …   legend       │
    │ free       model and its version     free│
    └──────────────────────────────────────────┘

A wide film (a panoramic view of the teeth) has its findings below it, in columns. The page is about 1,280 pixels
wide whatever the film's size, and its letters are sized to be read when a viewer shows it 700 pixels wide.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from domain.findings import ActivationMap, DisplayImage, Finding, ImageAnalysis, Measurement, ModelIdentity
from reports.heatmap import colour_scale, covers_all, film_with_activation
from reports.marks import draw_marks
from reports.words import (
    DEMONSTRATION_MODEL,
    in_ascii,
    label_in_words,
    model_in_words,
    percents,
    value_and_threshold,
    warnings_for,
)

Colour = tuple[int, int, int]

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
DEMONSTRATION_GROUND: Colour = (242, 178, 76)
DEMONSTRATION_TEXT: Colour = (24, 16, 4)

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
LEGEND_OF_BOXES = "Boxes: where the model found it. Of several, each has its own certainty."
LEGEND_OF_LINES = "Lines: the two edges between which the model measured; thick where it found them."
CENTRE = 0.56  # the part of a band's width that viewers leave free of their own text


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A piece of the page: how tall it is, and how to paint it at (left, top)."""

    height: int
    paint: Callable[[Image.Image, int, int], None]


def draw_page(display: DisplayImage, image: ImageAnalysis, model: ModelIdentity, signature: str) -> Image.Image:
    """One analysed image as a page in RGB. `signature` names the node and its version.

    The source's size does not matter: a small film is enlarged, a large one reduced, its proportions kept.
    """
    is_wide = display.columns >= WIDE_FROM * display.rows
    film_size = _fitted(display, WIDE_FILM_BOX if is_wide else FILM_BOX)
    rows = list(_rows(image))
    legend = list(_legend(display, image, COLUMN_WIDTH))
    if is_wide:
        body = _film_above(film_size, _in_columns([*rows, *legend], 3))
    else:
        # One column of many rows outgrows the film: then the legend finds its place below the film.
        column_count = 1 if _height(rows) <= TALLEST_COLUMN else 2
        fits_beside = _height(rows) + _height(legend) <= film_size[1]
        below = [] if fits_beside else list(_legend(display, image, film_size[0]))
        columns = _in_columns([*rows, *legend] if fits_beside else rows, column_count)
        body = _film_beside(film_size, columns, below)
    return _page_of(body, display, image, model, signature)


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
    body: Body, display: DisplayImage, image: ImageAnalysis, model: ModelIdentity, signature: str
) -> Image.Image:
    width = max(NARROWEST_PAGE, body.width + 2 * MARGIN)
    banner, footer = _banner(model), _footer(model, signature, width)
    page = Image.new("RGB", (width, banner.height + body.height + footer.height), BACKGROUND)
    left, top = (width - body.width) // 2, banner.height
    film_corner = (left + body.film[0], top + body.film[1])
    film = film_with_activation(display, image.activation, body.film_size)
    draw_marks(film, display, image, _font(SMALL))
    page.paste(film, film_corner)
    if model.is_demonstration:
        _stamp_demonstration(page, film_corner, body.film_size)
    for x, y, block in body.placed:
        block.paint(page, left + x, top + y)
    banner.paint(page, 0, 0)
    footer.paint(page, 0, top + body.height)
    return page


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Text in lines that are measured to fit; a word that is wider than a line is broken, never clipped."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _length(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.extend(_broken(word, size, width))
    return lines or [""]


def _broken(word: str, size: int, width: float) -> Iterator[str]:
    while _length(word, size) > width and len(word) > 1:
        fitting = max(1, next(n for n in range(len(word)) if _length(word[: n + 1], size) > width))
        yield word[:fitting]
        word = word[fitting:]
    yield word


def _fitted(display: DisplayImage, most: tuple[int, int]) -> tuple[int, int]:
    scale = min(most[0] / display.columns, most[1] / display.rows)
    return max(1, round(display.columns * scale)), max(1, round(display.rows * scale))


def _height(blocks: Sequence[Block]) -> int:
    return sum(block.height for block in blocks)


def _rows(image: ImageAnalysis) -> Iterator[Block]:
    by_margin = sorted(image.findings, key=lambda finding: finding.threshold - finding.certainty)
    detected = [
        *(_measurement_row(one, DETECTED) for one in image.measurements if one.is_detected),
        *(_finding_row(finding, BODY, DETECTED, DETECTED) for finding in by_margin if finding.is_detected),
    ]
    below = [
        *(_measurement_row(one, TEXT) for one in image.measurements if not one.is_detected),
        *(_finding_row(finding, SMALL, QUIET_TEXT, QUIET_BAR) for finding in by_margin if not finding.is_detected),
    ]
    yield _heading("At or above threshold", has_bars=bool(image.findings))
    yield from detected or [_paragraph("No finding. This does not exclude disease.", BODY, TEXT, COLUMN_WIDTH)]
    if below:
        yield _heading("Below threshold", has_bars=bool(image.findings))
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


def _heading(text: str, *, has_bars: bool) -> Block:
    """A heading over a line, with the key to the mark that the bars below it carry."""

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        _write(page, (left, top), text, SMALL, QUIET_TEXT)
        if has_bars:
            key_left = left + COLUMN_WIDTH - _length("threshold", SMALL)
            _write(page, (key_left, top), "threshold", SMALL, QUIET_TEXT)
            draw.rectangle([key_left - 10, top + 5, key_left - 8, top + 18], fill=TEXT)
        draw.line([(left, top + 30), (left + COLUMN_WIDTH - 1, top + 30)], fill=LINE, width=1)

    return Block(height=44, paint=paint)


def _paragraph(text: str, size: int, colour: Colour, width: int) -> Block:
    lines = wrapped(text, size, width)
    step = round(size * LEADING)

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, line in enumerate(lines):
            _write(page, (left, top + number * step), line, size, colour)

    return Block(height=len(lines) * step + 18, paint=paint)


def _finding_row(finding: Finding, size: int, colour: Colour, bar: Colour) -> Block:
    """The label and its certainty; below them the certainty as a bar, with a mark where the threshold is."""
    certainty = f"{percents(finding)[0]} %"
    lines = wrapped(in_ascii(label_in_words(finding.label)), size, COLUMN_WIDTH - _length(certainty, size) - 16)
    step = round(size * LEADING)
    bar_top, bar_height = len(lines) * step + 3, 6

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        for number, line in enumerate(lines):
            _write(page, (left, top + number * step), line, size, colour)
        _write(page, (left + COLUMN_WIDTH, top), certainty, size, colour, anchor="ra")
        y = top + bar_top
        draw.rectangle([left, y, left + COLUMN_WIDTH - 1, y + bar_height - 1], fill=TRACK)
        filled = round(finding.certainty * (COLUMN_WIDTH - 1))
        if filled:
            draw.rectangle([left, y, left + filled, y + bar_height - 1], fill=bar)
        mark = left + round(finding.threshold * (COLUMN_WIDTH - 3))
        draw.rectangle([mark, y - 3, mark + 2, y + bar_height + 2], fill=TEXT)

    return Block(height=bar_top + bar_height + (18 if size == BODY else 12), paint=paint)


def _measurement_row(measurement: Measurement, colour: Colour) -> Block:
    """The label and its value; below them the threshold, if it has one."""
    value, threshold = value_and_threshold(measurement)
    lines = wrapped(in_ascii(label_in_words(measurement.label)), BODY, COLUMN_WIDTH - _length(value, BODY) - 16)
    step = round(BODY * LEADING)
    below = round(SMALL * LEADING) if threshold else 0

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, line in enumerate(lines):
            _write(page, (left, top + number * step), line, BODY, colour)
        _write(page, (left + COLUMN_WIDTH, top), in_ascii(value), BODY, colour, anchor="ra")
        if threshold:
            note = f"threshold {in_ascii(threshold)}"
            _write(page, (left, top + len(lines) * step), note, SMALL, QUIET_TEXT)

    return Block(height=len(lines) * step + below + 18, paint=paint)


def _legend(display: DisplayImage, image: ImageAnalysis, width: int) -> Iterator[Block]:
    if image.activation is not None:
        yield _legend_of_map(display, image.activation, width)
    if image.regions:
        yield _paragraph(LEGEND_OF_BOXES, SMALL, QUIET_TEXT, width)
    if image.measurements:
        yield _paragraph(LEGEND_OF_LINES, SMALL, QUIET_TEXT, width)


def _legend_of_map(display: DisplayImage, activation: ActivationMap, width: int) -> Block:
    scale_width = min(width, COLUMN_WIDTH)
    explanation = "Colour: where the model's answer comes from, not how sure it is. Line: half of the maximum."
    if not covers_all(display, activation):
        explanation += " Corner marks: the area that the model looked at."
    title = _paragraph(f"Activation map: {in_ascii(label_in_words(activation.label))}", SMALL, TEXT, width)
    text = _paragraph(explanation, SMALL, QUIET_TEXT, width)

    def paint(page: Image.Image, left: int, top: int) -> None:
        top += 18
        title.paint(page, left, top)
        top += title.height - 10
        page.paste(colour_scale(scale_width, 12), (left, top))
        _write(page, (left, top + 16), "low", SMALL, QUIET_TEXT)
        _write(page, (left + scale_width, top + 16), "high", SMALL, QUIET_TEXT, anchor="ra")
        text.paint(page, left, top + 48)

    return Block(height=18 + title.height - 10 + 48 + text.height, paint=paint)


def _banner(model: ModelIdentity) -> Block:
    """The warnings, each on a ground of its own, in the middle of the upper band."""
    warnings = warnings_for(model) or ("AI RESULT",)

    def paint(page: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(page)
        y = top + 26
        for warning in warnings:
            ground, colour = _warning_colours(warning)
            half = _length(warning, LARGE) / 2 + 22
            draw.rounded_rectangle([page.width / 2 - half, y, page.width / 2 + half, y + 46], radius=6, fill=ground)
            _write(page, (page.width / 2, y + 23), warning, LARGE, colour, anchor="mm")
            y += 54

    return Block(height=26 + 54 * len(warnings) + 18, paint=paint)


def _warning_colours(warning: str) -> tuple[Colour, Colour]:
    if warning == DEMONSTRATION_MODEL:
        return DEMONSTRATION_GROUND, DEMONSTRATION_TEXT
    return (WARNING_GROUND, WARNING_TEXT) if warning.startswith("NOT ") else (BACKGROUND, TEXT)


def _footer(model: ModelIdentity, signature: str, width: int) -> Block:
    lines = [
        *((line, TEXT) for line in wrapped(in_ascii(model_in_words(model)), SMALL, CENTRE * width)),
        *((line, QUIET_TEXT) for line in wrapped(in_ascii(signature), SMALL, CENTRE * width)),
    ]
    step = round(SMALL * LEADING)

    def paint(page: Image.Image, left: int, top: int) -> None:
        for number, (line, colour) in enumerate(lines):
            y = top + 20 + number * step
            _write(page, (width / 2, y), line, SMALL, colour, anchor="ma")

    return Block(height=20 + step * len(lines) + 24, paint=paint)


def _stamp_demonstration(page: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """The words on the film itself: a film cut out of the page still carries them."""
    draw = ImageDraw.Draw(page)
    height = 44
    top = corner[1] + size[1] - height
    draw.rectangle([corner[0], top, corner[0] + size[0] - 1, top + height - 1], fill=DEMONSTRATION_GROUND)
    letters = next((size_ for size_ in (LARGE, BODY, SMALL) if _length(DEMONSTRATION_MODEL, size_) < size[0] - 8), 12)
    middle = (corner[0] + size[0] / 2, top + height / 2)
    _write(page, middle, DEMONSTRATION_MODEL, letters, DEMONSTRATION_TEXT, anchor="mm")


def _write(
    page: Image.Image, at: tuple[float, float], text: str, size: int, colour: Colour, *, anchor: str = "la"
) -> None:
    letters, left, top = _letters(text, size, anchor)
    page.paste(colour, (round(at[0]) + left, round(at[1]) + top), letters)


# Labels, percents and warnings are the same words on page after page, and FreeType takes its time over each.
@lru_cache(maxsize=1024)
def _letters(text: str, size: int, anchor: str) -> tuple[Image.Image, int, int]:
    """How much of each pixel is covered, and where the first one lies as seen from the text's anchor."""
    font = _font(size)
    left, top, right, bottom = map(round, font.getbbox(text, anchor=anchor))
    covered = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(covered).text((-left, -top), text, font=font, fill=255, anchor=anchor)
    return covered, left, top


@lru_cache(maxsize=1024)
def _length(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Aileron, which Pillow brings along: no font has to be installed. It has the ASCII characters only."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which the overlay's letters need")
    return font
