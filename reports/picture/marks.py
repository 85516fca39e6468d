"""What a model found or measured somewhere, marked on the film: a box for a region, a line for an edge it measured."""

from PIL import Image, ImageDraw, ImageFont

from domain.findings import DisplayImage, ImageAnalysis, Measurement, Region

Point = tuple[float, float]

MARK = (250, 168, 40)
OUTLINE = (24, 16, 4)  # beside the mark, so that it shows on a bright film as on a dark one
THICKNESS = 3
ROOM = 6  # between a mark and what stands beside it


def draw_marks(film: Image.Image, display: DisplayImage, image: ImageAnalysis, font: ImageFont.FreeTypeFont) -> None:
    """Draw on the film, which shows the whole source image. Of several regions each has its own certainty beside it."""
    draw = ImageDraw.Draw(film)
    across, down = film.width / display.source_columns, film.height / display.source_rows
    for region in image.regions:
        _box(draw, region, across, down)
        if len(image.regions) > 1:
            _note(draw, f"{round(region.certainty * 100)} %", (region.left * across, region.top * down), font)
    for measurement in image.measurements:
        _lines(draw, measurement, across, down, film.size)


def _box(draw: ImageDraw.ImageDraw, region: Region, across: float, down: float) -> None:
    corners = (
        region.left * across,
        region.top * down,
        (region.left + region.width) * across,
        (region.top + region.height) * down,
    )
    draw.rectangle(_grown(corners, 1), outline=OUTLINE, width=THICKNESS + 2)
    draw.rectangle(corners, outline=MARK, width=THICKNESS)


def _note(draw: ImageDraw.ImageDraw, text: str, corner: Point, font: ImageFont.FreeTypeFont) -> None:
    """Within the box's upper left corner: above it there may be no film."""
    left, top = max(corner[0], 0) + ROOM, max(corner[1], 0) + ROOM
    draw.text((left, top), text, font=font, fill=MARK, stroke_width=2, stroke_fill=OUTLINE)


def _lines(
    draw: ImageDraw.ImageDraw, measurement: Measurement, across: float, down: float, film_size: tuple[int, int]
) -> None:
    """Each line to the film's edges: it is their directions that are compared. The part that was found is thicker."""
    for line in measurement.lines:
        start, end = ((x * across, y * down) for x, y in (line.start, line.end))
        long = _lengthened(start, end, by=sum(film_size))
        draw.line(long, fill=OUTLINE, width=THICKNESS)
        draw.line(long, fill=MARK, width=1)
        draw.line([start, end], fill=OUTLINE, width=THICKNESS + 4)
        draw.line([start, end], fill=MARK, width=THICKNESS + 1)


def _lengthened(start: Point, end: Point, *, by: float) -> tuple[Point, Point]:
    length = max(((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5, 1e-6)
    x, y = (end[0] - start[0]) / length * by, (end[1] - start[1]) / length * by
    return (start[0] - x, start[1] - y), (end[0] + x, end[1] + y)


def _grown(corners: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = corners
    return left - by, top - by, right + by, bottom + by
