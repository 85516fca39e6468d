"""The studies of a period as CSV."""

import csv
from collections.abc import Iterable
from io import StringIO

from domain.invoice import dollars
from metering.invoice_csv import inert
from metering.statement import StatementLine

COLUMNS = (
    "clinic",
    "at",
    "study_instance_uid",
    "generation",
    "state",
    "charged",
    "why",
    "price_usd",
    "sent_again",
    "sent_back",
)


def statement_csv(lines: Iterable[StatementLine]) -> bytes:
    """RFC 4180, UTF-8, with a header."""
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for one in lines:
        writer.writerow(
            (
                one.clinic,
                one.at.isoformat(),
                one.study_instance_uid,
                one.generation,
                one.state,
                "yes" if one.is_charged else "no",
                inert(one.why),
                dollars(one.price_usd_cents),
                one.sent_again,
                one.sent_back,
            )
        )
    return buffer.getvalue().encode("utf-8")
