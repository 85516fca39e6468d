"""Reckons what a clinic owes, from the rows; and reads the invoices that were written (metering/invoice_billing.py)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.billing import Payer
from domain.errors import Refuse
from domain.invoice import Bill, Charge, Credit, Invoice, bill_of
from domain.periods import Period
from domain.plans import Basis, Plan
from domain.subscription import Subscription
from metering.subscriptions import subscription_at, subscriptions_of
from storage.database import Database
from storage.plain import from_plain
from storage.tables import billing_outbox, invoices, ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceLine:
    """An invoice in a list."""

    number: str
    clinic: str
    period: str
    issued_at: datetime
    due_at: datetime
    total_usd_cents: int


def reckon(connection: sa.Connection, *, clinic: str, period: Period, payer: Payer | None = None) -> Bill:
    """What the clinic owes for a period as the ledger stands now, its plan to the period's end. `payer`: only for the
    time in which this one is asked.
    """
    credits = ledger.alias()
    rows = connection.execute(
        sa.select(ledger, credits.c.id.label("credit_id"), credits.c.amount_usd_cents.label("agreed"))
        .select_from(
            ledger.outerjoin(credits, sa.and_(credits.c.corrects == ledger.c.id, credits.c.period == period.key))
        )
        .where(ledger.c.clinic == clinic, ledger.c.period == period.key, ledger.c.kind == "charge")
        .order_by(ledger.c.id)
    ).all()
    plans: dict[str, Plan] = {}  # the same terms stand in thousands of rows
    all_time = subscriptions_of(connection, clinic=clinic)
    its_time = [one for one in all_time if payer is None or one.is_paid_by(payer)]
    charges = [
        replace(_charge(connection, row, plans), is_anothers=payer is not None and not _is_in(its_time, row.charged_at))
        for row in rows
        if row.credit_id is None or row.agreed is not None
    ]
    credited = _credits(connection, clinic, period, with_stripes=payer is not Payer.INVOICE)
    return bill_of(period, its_time, charges, credited)


def _is_in(stretches: Sequence[Subscription], moment: datetime) -> bool:
    return any(one.begins_at <= moment and (one.ends_at is None or moment < one.ends_at) for one in stretches)


def list_invoices(database: Database, *, clinics: Sequence[str] | frozenset[str] | None = None) -> list[InvoiceLine]:
    """In the order of their numbers; `clinics` None: of all."""
    query = sa.select(invoices).order_by(invoices.c.number)
    if clinics is not None:
        query = query.where(invoices.c.clinic.in_(clinics))
    with database.read() as connection:
        return [
            InvoiceLine(
                number=row.document["number"],
                clinic=row.clinic,
                period=row.period,
                issued_at=row.issued_at,
                due_at=row.due_at,
                total_usd_cents=row.total_usd_cents,
            )
            for row in connection.execute(query)
        ]


def read_invoice(
    database: Database, number: str, *, clinics: frozenset[str] | None = None
) -> tuple[Invoice, bytes, bytes]:
    """The invoice, its PDF and its CSV.

    Raises:
        Refuse: there is none of this number that may be seen.
    """
    digits = number[-6:]
    query = sa.select(invoices).where(invoices.c.number == (int(digits) if digits.isdecimal() else 0))
    with database.read() as connection:
        row = connection.execute(query).first()
    if row is None or row.document["number"] != number or (clinics is not None and row.clinic not in clinics):
        raise Refuse(f"there is no invoice {number!r}", reason="unknown_invoice")
    return from_plain(Invoice, row.document), row.pdf, row.csv


def _charge(connection: sa.Connection, row: sa.Row[Any], plans: dict[str, Plan]) -> Charge:
    terms = json.dumps(row.plan, sort_keys=True)
    if terms not in plans and row.plan:
        plans[terms] = from_plain(Plan, row.plan)
    # Without terms it is from before they were kept with it.
    plan = plans.get(terms) or subscription_at(connection, clinic=row.clinic, moment=row.charged_at).plan
    return Charge(
        ledger_id=row.id,
        study_instance_uid=row.study_instance_uid,
        charged_at=row.charged_at,
        packages=tuple(row.packages),
        plan=plan,
        basis=Basis(row.basis),
    )


def _credits(connection: sa.Connection, clinic: str, period: Period, *, with_stripes: bool) -> list[Credit]:
    """What is paid back in this period: for studies of earlier ones what they cost there, or what was agreed on.

    with_stripes: those as well that Stripe was told of, and pays back itself.
    """
    charges = ledger.alias()
    is_stripes = sa.exists().where(billing_outbox.c.ledger_id == ledger.c.id)
    rows = connection.execute(
        sa.select(ledger, charges.c.period.label("of_period"))
        .join(charges, charges.c.id == ledger.c.corrects)
        .where(ledger.c.clinic == clinic, ledger.c.period == period.key, ledger.c.kind == "credit")
        .where(sa.true() if with_stripes else ~is_stripes)
        .order_by(ledger.c.id)
    ).all()
    return [
        Credit(
            ledger_id=row.id,
            study_instance_uid=row.study_instance_uid,
            credited_at=row.charged_at,
            of_period=row.of_period,
            amount_usd_cents=(
                row.amount_usd_cents
                if row.amount_usd_cents is not None
                else _cost(connection, clinic, row.of_period, row.corrects)
            ),
            why=row.why,
        )
        for row in rows
        if row.amount_usd_cents is not None or row.of_period != period.key
    ]


def _cost(connection: sa.Connection, clinic: str, period: str, ledger_id: int) -> int:
    """What a charge cost on the invoice that it stood on."""
    document = connection.scalars(
        sa.select(invoices.c.document).where(invoices.c.clinic == clinic, invoices.c.period == period)
    ).one()
    studies = from_plain(Invoice, document).bill.studies
    return next((one.price_usd_cents for one in studies if one.ledger_id == ledger_id), 0)
