"""A result on paper: its pictures above its text, as a PDF that can be read and searched.

The patient is not named on it: whoever prints it has the name from the object around it, in its own script, which the
fonts that every PDF reader has do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.sax.saxutils import escape

from PIL import Image as Picture
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, Paragraph, SimpleDocTemplate, Spacer

MARGIN = 14 * mm
WIDTH = A4[0] - 2 * MARGIN
HIGHEST_PICTURE = 118 * mm
WARNING = ParagraphStyle("warning", fontName="Helvetica-Bold", fontSize=11, leading=14, textColor=HexColor(0x9C1C1C))
TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=15, leading=19)
HEADING = ParagraphStyle("heading", fontName="Helvetica-Bold", fontSize=9, leading=11, spaceBefore=5, keepWithNext=1)
LINE = ParagraphStyle("line", fontName="Helvetica", fontSize=8.5, leading=10.5, leftIndent=3 * mm)
SMALL = ParagraphStyle(
    "small", fontName="Helvetica", fontSize=7, leading=9, spaceBefore=6, textColor=HexColor(0x555555)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    heading: str
    lines: tuple[str, ...]


def as_pdf(
    *,
    title: str,
    warnings: Sequence[str],
    pictures: Sequence[Picture.Image],
    sections: Sequence[Section],
    footer: str,
) -> bytes:
    """One page of A4, more where the text is longer. The same input gives the same bytes."""
    story: list[Flowable] = [Paragraph(_printable(title), TITLE)]
    story += [Paragraph(_printable(warning), WARNING) for warning in warnings]
    for picture in pictures:
        story += [Spacer(0, 2 * mm), _fitted(picture)]
    for section in sections:
        story.append(Paragraph(_printable(section.heading), HEADING))
        story += [Paragraph(_printable(line), LINE) for line in section.lines]
    story.append(Paragraph(_printable(footer), SMALL))
    buffer = BytesIO()
    page = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        title=title,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        invariant=1,  # without the time of day and a number drawn by lot
    )
    page.build(story)
    return buffer.getvalue()


def _fitted(picture: Picture.Image) -> Image:
    scale = min(WIDTH / picture.width, HIGHEST_PICTURE / picture.height)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return Image(buffer, width=picture.width * scale, height=picture.height * scale)


def _printable(text: str) -> str:
    """In the characters that the fonts of every PDF reader have, and without markup."""
    return escape(text.encode("cp1252", "replace").decode("cp1252"))
