"""Invoices that the node writes itself, for hospitals that pay by purchase order: a PDF to read, a CSV to check it by.

    a period is over  ->  reckon (domain/invoice.py)  ->  the next number  ->  PDF and CSV  ->  one row, for good

A row is everything: the document, and both files as they went out. Nothing changes it afterwards, for the database
refuses to; what turns out wrong is taken back by a credit, which stands on the clinic's next invoice.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from domain.billing import Issuer, Payer
from domain.clinics import Clinic
from domain.invoice import Invoice
from domain.periods import Period
from metering.invoice_csv import evidence
from metering.invoice_pdf import render
from metering.invoices import reckon
from metering.subscriptions import calendar_of, period_at
from storage import audit
from storage.database import utc_now
from storage.plain import to_plain
from storage.tables import invoices, reservations


class InvoiceBilling:
    """The port's implementation (metering/billing.py)."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def told(self, connection: sa.Connection, clinic: Clinic, period: Period) -> bool:
        issued = sa.select(invoices.c.number).where(invoices.c.clinic == clinic.name, invoices.c.period == period.key)
        if connection.execute(issued).first() is not None:
            return True
        bill = reckon(connection, clinic=clinic.name, period=period, payer=Payer.INVOICE)
        return not (bill.studies or bill.credits or bill.total_usd_cents)

    def close_period(self, connection: sa.Connection, clinic: Clinic, period: Period) -> None:
        """Write the period's invoice. A number is never left out: whoever writes one waits for whoever does."""
        _one_after_the_other(connection)
        now = utc_now()
        number = (connection.scalar(sa.select(sa.func.max(invoices.c.number))) or 0) + 1
        invoice = self._invoice(connection, clinic, period, number, now)
        connection.execute(
            sa.insert(invoices).values(
                number=number,
                clinic=clinic.name,
                period=period.key,
                issued_at=now,
                due_at=invoice.due_at,
                total_usd_cents=invoice.bill.total_usd_cents,
                document=to_plain(invoice),
                pdf=render(invoice),
                csv=evidence(invoice),
            )
        )
        connection.execute(
            sa.update(reservations)
            .where(reservations.c.clinic == clinic.name, reservations.c.period == period.key)
            .values(period=period_at(connection, clinic=clinic.name, moment=now).key)
        )
        audit.enter(
            connection, at=now, who="node", act="invoiced", clinic=clinic.name, detail=f"{invoice.number}, {period.key}"
        )

    def _invoice(
        self, connection: sa.Connection, clinic: Clinic, period: Period, number: int, now: datetime
    ) -> Invoice:
        return Invoice(
            number=f"{self._issuer.number_prefix}{number:06d}",
            issuer=self._issuer.party,
            payment=self._issuer.payment,
            clinic=clinic.name,
            bill_to=clinic.billing.bill_to,
            purchase_order=clinic.billing.purchase_order,
            period=period.key,
            begins_at=period.begins_at,
            ends_at=period.ends_at,
            time_zone=calendar_of(connection, clinic=clinic.name).rule_at(period.begins_at).time_zone,
            issued_at=now.replace(microsecond=0),
            due_at=(now + timedelta(days=self._issuer.net_days)).replace(microsecond=0),
            net_days=self._issuer.net_days,
            bill=reckon(connection, clinic=clinic.name, period=period, payer=Payer.INVOICE),
        )


def _one_after_the_other(connection: sa.Connection) -> None:
    """SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE invoices IN SHARE ROW EXCLUSIVE MODE"))
