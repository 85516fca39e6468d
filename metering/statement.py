"""What happened to each study of a billing period, as far as money goes: charged and why, or free and why.

A study is in the period in which its charge is; one that was never charged, in the period in which it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.invoice import PricedStudy
from domain.periods import Period
from domain.plans import Basis
from domain.states import Reason, StudyState
from metering.invoices import reckon
from metering.ledger import CHARGE, CREDIT
from storage.database import Database
from storage.tables import instances, ledger, results, studies

# Of what was charged; the price is in the line.
WHY_CHARGED = {
    Basis.TRIAL: "the first result was delivered; on trial",
    Basis.INCLUDED: "the first result was delivered; included in the plan",
    Basis.USAGE: "the first result was delivered; beyond the included studies",
    Basis.GRACE: "the first result was delivered; STAT, on grace",
}
IN_WORK = frozenset({StudyState.RECEIVING, StudyState.QUEUED, StudyState.DELIVERING})
WHY_FREE = {
    Reason.NO_IMAGE: "refused: it holds no image",
    Reason.UNROUTABLE: "refused: no model is for it",
    Reason.NOT_IN_PLAN: "refused: the model is not part of the plan",
    Reason.NOT_CONFIGURED: "not configured: no model is installed for it",
    Reason.OUTSIDE_POPULATION: "refused: outside the population of the model",
    Reason.OVER_QUOTA: "waits: the quota is used up",
    Reason.NO_SUBSCRIPTION: "waits: the subscription takes no new studies",
    Reason.UNREADABLE_PIXELS: "failed: the image cannot be read",
    Reason.INVALID_RESULT: "failed: the result was not valid",
    Reason.NOT_MEASURABLE: "failed: the model did not find what it measures",
    Reason.KEEPS_FAILING: "failed: its processing kept failing",
    Reason.NOT_DELIVERED: "failed: no destination took a result",
    Reason.NOT_COMMITTED: "failed: no destination committed to a result",
    Reason.ERASED: "erased before it was charged",
    Reason.CANCELLED: "cancelled by a person",
}
REVISED = "revised: the study is charged once, however often it is analysed"


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementLine:
    """A study, or a generation of one, in a period. `price_usd_cents`: of a charge, as the period stands now.

    sent_again: instances of it that came once more, and were dropped. sent_back: times that a PACS sent one of the
    node's own results of it back. Both are free, and listed because somebody may wonder.
    """

    clinic: str
    study_instance_uid: str
    generation: int
    at: datetime
    state: str
    is_charged: bool
    why: str
    price_usd_cents: int
    sent_again: int
    sent_back: int


def read_statement(database: Database, *, clinic: str, period: Period) -> list[StatementLine]:
    """Every study of the clinic in the period, in the order in which they came."""
    with database.read() as connection:
        charges = _charges(connection, clinic, period)
        bill = reckon(connection, clinic=clinic, period=period)
        came_in = sa.and_(studies.c.opened_at >= period.begins_at, studies.c.opened_at < period.ends_at)
        charged_here = sa.select(ledger.c.study_id).where(ledger.c.clinic == clinic, ledger.c.period == period.key)
        rows = connection.execute(
            sa.select(studies, *_counts())
            .where(studies.c.clinic == clinic, sa.or_(came_in, studies.c.id.in_(charged_here)))
            .order_by(studies.c.id)
        ).all()
        charged_at_all = connection.execute(
            sa.select(ledger.c.study_id, ledger.c.study_instance_uid).where(
                ledger.c.clinic == clinic, ledger.c.kind == CHARGE
            )
        ).all()
    priced = {one.ledger_id: one for one in bill.studies}
    elsewhere = {row.study_id for row in charged_at_all} - set(charges)
    uids = {row.study_instance_uid for row in charged_at_all}
    return [
        _line(row, charges.get(row.id), priced, is_charged_study=row.study_instance_uid in uids)
        for row in rows
        if row.id not in elsewhere
    ]


def _line(
    row: sa.Row[Any], charge: sa.Row[Any] | None, priced: Mapping[int, PricedStudy], *, is_charged_study: bool
) -> StatementLine:
    price = None if charge is None else priced.get(charge.id)
    return StatementLine(
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        generation=row.generation,
        at=row.opened_at if charge is None else charge.charged_at,
        state=row.state,
        is_charged=charge is not None and charge.credit_id is None,
        why=_why_free(row, is_charged_study) if charge is None else _why_charged(charge, price),
        price_usd_cents=0 if price is None else price.price_usd_cents,
        sent_again=row.sent_again,
        sent_back=row.sent_back,
    )


def _charges(connection: sa.Connection, clinic: str, period: Period) -> dict[int, sa.Row[Any]]:
    """By the id of the study's generation that was charged."""
    credits = ledger.alias()
    rows = connection.execute(
        sa.select(ledger, credits.c.id.label("credit_id"), credits.c.why.label("credit_why"))
        .select_from(ledger.outerjoin(credits, sa.and_(credits.c.corrects == ledger.c.id, credits.c.kind == CREDIT)))
        .where(ledger.c.clinic == clinic, ledger.c.period == period.key, ledger.c.kind == CHARGE)
    )
    return {row.study_id: row for row in rows}


def _counts() -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    again = sa.select(sa.func.coalesce(sa.func.sum(instances.c.times_sent_again), 0))
    back = sa.select(sa.func.coalesce(sa.func.sum(results.c.times_sent_back), 0))
    return (
        again.where(instances.c.study_id == studies.c.id).scalar_subquery().label("sent_again"),
        back.where(results.c.study_id == studies.c.id).scalar_subquery().label("sent_back"),
    )


def _why_charged(charge: sa.Row[Any], price: PricedStudy | None) -> str:
    if charge.credit_id is not None:
        return f"credited: {charge.credit_why}"
    return WHY_CHARGED[Basis(charge.basis) if price is None else price.basis]


def _why_free(row: sa.Row[Any], is_charged_study: bool) -> str:
    if row.reason in WHY_FREE:
        return WHY_FREE[Reason(row.reason)]
    if is_charged_study:
        return REVISED
    if row.state in IN_WORK:
        return "in work: it is charged with its first delivered result"
    return "no result reached a destination: there is none to send to"
