"""An invoice as PDF: on the first page what is owed and how to pay it, behind it each study that it is owed for.

    issuer                       INVOICE
    ─────────────────────────────────────
    billed to        number, dates, order
    lines ……………………………… amounts
                                    total
    how to pay
    ─────────────────────────────────────
    evidence, a line a study

The same invoice gives the same bytes. The font has the Latin letters; a character that it lacks is written without its
accent, or as a question mark: the CSV has it as it is.
"""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any
from unicodedata import normalize
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    KeepTogether,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from domain.billing import Party
from domain.invoice import Invoice, dollars

REGULAR, BOLD = "Vera", "VeraBd"
INK, QUIET, RULE, ACCENT = (colors.HexColor(code) for code in ("#16232a", "#55666f", "#d8dfe3", "#0f5c73"))
MARGIN = 20 * mm
WIDTH = A4[0] - 2 * MARGIN


def render(invoice: Invoice) -> bytes:
    """The complete file, A4."""
    _load_fonts()
    buffer = BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=f"{title_of(invoice)} {invoice.number}",
        author=invoice.issuer.name,
        creator="Collimator",
        invariant=1,
    )
    frame = Frame(MARGIN, 22 * mm, WIDTH, A4[1] - 40 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame]))
    document.build(_story(invoice), canvasmaker=_numbered(invoice))
    return buffer.getvalue()


def title_of(invoice: Invoice) -> str:
    return "Credit note" if invoice.bill.total_usd_cents < 0 else "Invoice"


def _story(invoice: Invoice) -> list[Any]:
    first = [
        _head(invoice),
        Spacer(1, 10 * mm),
        _facts(invoice),
        Spacer(1, 10 * mm),
        _lines(invoice),
        Spacer(1, 3 * mm),
        KeepTogether([_total(invoice), Spacer(1, 10 * mm), *_payment(invoice)]),
    ]
    return [*first, PageBreak(), *_evidence(invoice)] if invoice.bill.studies or invoice.bill.credits else first


def _head(invoice: Invoice) -> Table:
    issuer = [_text(invoice.issuer.name or "Collimator", bold=True, size=12), *_address(invoice.issuer)]
    return _columns([issuer, [_text(title_of(invoice), bold=True, size=22, color=ACCENT, right=True)]], (0.6, 0.4))


def _facts(invoice: Invoice) -> Table:
    """Billed to whom; and what an accounts department files it under."""
    bill_to = [
        _text("Billed to", color=QUIET, size=8),
        _text(invoice.bill_to.name or invoice.clinic, bold=True, size=10),
        *_address(invoice.bill_to),
    ]
    facts = [
        (f"{title_of(invoice)} number", invoice.number),
        ("Date", f"{invoice.issued_at:%Y-%m-%d}"),
        ("Due", f"{invoice.due_at:%Y-%m-%d} (net {invoice.net_days} days)"),
        ("Purchase order", invoice.purchase_order),
        ("Clinic", invoice.clinic),
        ("Billing period", f"{invoice.period} ({invoice.time_zone})"),
        ("From", f"{invoice.begins_at:%Y-%m-%d %H:%M} UTC"),
        ("To, not included", f"{invoice.ends_at:%Y-%m-%d %H:%M} UTC"),
    ]
    rows = [[_text(name, color=QUIET), _text(value, bold=name.endswith("number"))] for name, value in facts if value]
    table = Table(rows, colWidths=(33 * mm, WIDTH * 0.5 - 33 * mm), style=TableStyle(_PLAIN))
    return _columns([bill_to, [table]], (0.5, 0.5))


def _lines(invoice: Invoice) -> Table:
    header = [
        _text("Description", color=QUIET, size=8),
        *(_text(name, color=QUIET, size=8, right=True) for name in ("Quantity", "Each, USD", "Amount, USD")),
    ]
    rows = [
        [
            _text(line.text),
            _text("" if line.quantity is None else f"{line.quantity:,}", right=True),
            _text("" if line.unit_usd_cents is None else dollars(line.unit_usd_cents), right=True),
            _text(dollars(line.amount_usd_cents), right=True),
        ]
        for line in invoice.bill.lines
    ]
    widths = (WIDTH - 62 * mm, 18 * mm, 20 * mm, 24 * mm)
    return Table([header, *rows], colWidths=widths, repeatRows=1, style=TableStyle(_RULED))


def _total(invoice: Invoice) -> Table:
    total = invoice.bill.total_usd_cents
    says = "To your credit" if total < 0 else "Total due"
    row = [_text(says, bold=True, size=11), _text(f"USD {dollars(abs(total))}", bold=True, size=11, right=True)]
    style = [*_PLAIN, ("LINEABOVE", (0, 0), (-1, 0), 1, INK), ("TOPPADDING", (0, 0), (-1, -1), 5)]
    return Table([row], colWidths=(35 * mm, 45 * mm), hAlign="RIGHT", style=TableStyle(style))


def _payment(invoice: Invoice) -> list[Any]:
    if invoice.bill.total_usd_cents < 0:
        return [_text("Nothing is due. The amount is set off against your next invoice, or paid back on request.")]
    if not invoice.bill.total_usd_cents:
        return [_text("Nothing is due.")]
    due = f"Payable by {invoice.due_at:%Y-%m-%d}, in US dollars, quoting {invoice.number}."
    order = f" Your purchase order: {invoice.purchase_order}." if invoice.purchase_order else ""
    tax = "Amounts are without tax."
    return [_text(due + order), *(_text(line) for line in invoice.payment), Spacer(1, 2 * mm), _text(tax, color=QUIET)]


def _evidence(invoice: Invoice) -> list[Any]:
    """Each study by its Study Instance UID: no patient is named."""
    heading = [
        _text("Evidence", bold=True, size=14, color=ACCENT),
        Spacer(1, 1 * mm),
        _text(
            "Each study is charged once, when the first result of its analysis was accepted by a destination. "
            "Times are in UTC. The same lines are in the CSV that belongs to this document.",
            color=QUIET,
        ),
        Spacer(1, 4 * mm),
    ]
    story: list[Any] = heading
    if invoice.bill.studies:
        story.append(_studies(invoice))
    if invoice.bill.credits:
        story += [Spacer(1, 6 * mm), _text("Credits", bold=True, size=11), Spacer(1, 2 * mm), _credits(invoice)]
    return story


def _studies(invoice: Invoice) -> Table:
    rows: list[list[Any]] = [["", "Charged", "Study Instance UID", "Models", "Basis", "USD"]]
    rows += [
        [
            str(one.number),
            f"{one.charged_at:%Y-%m-%d %H:%M}",
            one.study_instance_uid,
            _fitting(", ".join(one.packages), 26 * mm),
            str(one.basis),
            dollars(one.price_usd_cents),
        ]
        for one in invoice.bill.studies
    ]
    widths = (9 * mm, 26 * mm, WIDTH - 90 * mm, 28 * mm, 14 * mm, 13 * mm)  # a UID of 64 characters fits
    style = [*_RULED, *_SMALL, ("ALIGN", (0, 0), (0, -1), "RIGHT"), ("ALIGN", (-1, 0), (-1, -1), "RIGHT")]
    style.append(("FONTSIZE", (2, 1), (2, -1), 5.7))
    return Table(rows, colWidths=widths, repeatRows=1, style=TableStyle(style))


def _credits(invoice: Invoice) -> Table:
    rows: list[list[Any]] = [["Given", "Study Instance UID", "Of period", "Why", "USD"]]
    rows += [
        [
            f"{one.credited_at:%Y-%m-%d %H:%M}",
            _text(one.study_instance_uid, size=7),
            one.of_period,
            _text(one.why, size=7),
            dollars(-one.amount_usd_cents),
        ]
        for one in invoice.bill.credits
    ]
    widths = (29 * mm, 55 * mm, 20 * mm, WIDTH - 121 * mm, 17 * mm)
    style = [*_RULED, *_SMALL, ("ALIGN", (-1, 0), (-1, -1), "RIGHT")]
    return Table(rows, colWidths=widths, repeatRows=1, style=TableStyle(style))


def _address(party: Party) -> list[Paragraph]:
    lines = [*party.address, f"Tax ID {party.tax_id}" if party.tax_id else ""]
    return [_text(line) for line in lines if line]


def _columns(cells: Sequence[Sequence[Any]], shares: Sequence[float]) -> Table:
    return Table([list(cells)], colWidths=[WIDTH * share for share in shares], style=TableStyle(_PLAIN))


def _text(
    text: str, *, bold: bool = False, size: float = 9, color: colors.Color = INK, right: bool = False
) -> Paragraph:
    style = ParagraphStyle(
        "text", fontName=BOLD if bold else REGULAR, fontSize=size, leading=size * 1.4, textColor=color
    )
    if right:
        style.alignment = TA_RIGHT
    return Paragraph(escape(_in_font(text)), style)


def _fitting(text: str, width: float) -> Any:
    """As it is where it has room, which costs least; else on several lines."""
    fits = pdfmetrics.stringWidth(text, REGULAR, 7) <= width
    return _in_font(text) if fits else _text(text, size=6.5)


def _in_font(text: str) -> str:
    glyphs = pdfmetrics.getFont(REGULAR).face.charToGlyph
    return "".join(one if ord(one) in glyphs else _nearest(one, glyphs) for one in text)


def _nearest(character: str, glyphs: dict[int, int]) -> str:
    plain = "".join(one for one in normalize("NFKD", character) if ord(one) in glyphs)
    return plain or "?"


def _numbered(invoice: Invoice) -> type[Canvas]:
    """A canvas that knows at its end how many pages there are."""

    class Numbered(Canvas):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802  # the library's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                self._foot(f"Page {number} of {len(self._pages)}")
                Canvas.showPage(self)
            Canvas.save(self)

        def _foot(self, page: str) -> None:
            self.setStrokeColor(RULE)
            self.line(MARGIN, 16 * mm, A4[0] - MARGIN, 16 * mm)
            self.setFillColor(QUIET)
            self.setFont(REGULAR, 7.5)
            self.drawString(MARGIN, 11.5 * mm, _in_font(f"{title_of(invoice)} {invoice.number}"))
            self.drawRightString(A4[0] - MARGIN, 11.5 * mm, page)

    return Numbered


@cache
def _load_fonts() -> None:
    """Bitstream Vera, which reportlab brings along."""
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))


_PLAIN = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 1),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
]
_RULED = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 2),
    ("RIGHTPADDING", (0, 0), (-1, -1), 2),
    ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
    ("LINEBELOW", (0, 1), (-1, -1), 0.3, RULE),
]
_SMALL = [
    ("FONT", (0, 0), (-1, -1), REGULAR, 7),
    ("TEXTCOLOR", (0, 0), (-1, -1), INK),
    ("TEXTCOLOR", (0, 0), (-1, 0), QUIET),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]
