"""The evidence of an invoice as CSV: each study that was charged, what it cost and why, and each credit."""

import csv
from io import StringIO

from domain.invoice import Invoice, dollars

COLUMNS = (
    "invoice",
    "clinic",
    "period",
    "kind",
    "number",
    "ledger_id",
    "study_instance_uid",
    "charged_at",
    "packages",
    "basis",
    "amount_usd",
)


def evidence(invoice: Invoice) -> bytes:
    """RFC 4180, UTF-8, with a header; several packages are parted by blanks. A credit's basis is its reason."""
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    common = (invoice.number, invoice.clinic, invoice.period)
    for one in invoice.bill.studies:
        writer.writerow(
            (
                *common,
                "charge",
                one.number,
                one.ledger_id,
                one.study_instance_uid,
                one.charged_at.isoformat(),
                " ".join(one.packages),
                one.basis,
                dollars(one.price_usd_cents),
            )
        )
    for given in invoice.bill.credits:
        writer.writerow(
            (
                *common,
                "credit",
                "",
                given.ledger_id,
                given.study_instance_uid,
                given.credited_at.isoformat(),
                "",
                inert(f"of {given.of_period}: {given.why}"),
                dollars(-given.amount_usd_cents),
            )
        )
    return buffer.getvalue().encode("utf-8")


def inert(text: str) -> str:
    """A spreadsheet takes what begins like this for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text
