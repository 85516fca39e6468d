"""The ledger: one row for each study that was charged, written with the delivery that earned it. It is the truth.

    charge   once for ever for a clinic and a Study Instance UID
    credit   takes one charge back, once, and says who wanted it and why; the charge stays where it is

No row is ever changed or removed: the database refuses it. Copies that others keep (Stripe, an invoice) follow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.errors import Refuse
from domain.plans import Basis, basis_of
from domain.subscription import SubscriptionState
from metering.outbox import enqueue
from metering.quota import charged, end_reservation
from metering.subscriptions import calendar_of, subscription_at
from storage import audit
from storage.clinic_lock import lock_clinic
from storage.database import Database
from storage.events import add_event
from storage.plain import from_plain, to_plain
from storage.tables import invoices, ledger

CHARGE, CREDIT = "charge", "credit"
_OF_STUDY = sa.select(ledger.c.id).where(
    ledger.c.clinic == sa.bindparam("of"), ledger.c.study_instance_uid == sa.bindparam("study")
)
_ENTER = sa.insert(ledger).returning(ledger.c.id)
_INVOICED = sa.select(invoices.c.period).where(invoices.c.clinic == sa.bindparam("of"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargedModel:
    """A model that answered for a charged study. `device_uid` changes with its weights and its manifest."""

    package: str
    version: str
    device_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """One charged study, and the first result that a destination accepted for it; or the credit that took it back.

    number: which study of its period it was. result_sop_instance_uids: all results of the analysis.
    corrects, who, why, amount_usd_cents: of a credit; an amount of None is what the study cost.
    """

    clinic: str
    study_instance_uid: str
    period: str
    tier: str
    packages: tuple[str, ...]
    result_sop_instance_uid: str
    destination: str
    charged_at: datetime
    id: int
    kind: str
    basis: Basis
    number: int
    models: tuple[ChargedModel, ...]
    result_sop_instance_uids: tuple[str, ...]
    corrects: int | None
    who: str
    why: str
    amount_usd_cents: int | None


def charge(
    connection: sa.Connection,
    *,
    clinic: str,
    study_instance_uid: str,
    study_id: int,
    packages: Sequence[str],
    result_sop_instance_uid: str,
    destination: str,
    now: datetime,
    models: Sequence[ChargedModel] = (),
    result_sop_instance_uids: Sequence[str] = (),
) -> bool:
    """Charge a study, once for ever; False when it was charged before. The reservation becomes the charge, in the
    period that it was made in.
    """
    lock_clinic(connection, clinic)
    if connection.execute(_OF_STUDY, {"of": clinic, "study": study_instance_uid}).first() is not None:
        return False
    reserved_in = end_reservation(connection, clinic=clinic, study_instance_uid=study_instance_uid)
    period = _open_period(connection, clinic, reserved_in, now)
    subscription = subscription_at(connection, clinic=clinic, moment=now)
    number = charged(connection, clinic=clinic, period=period) + 1
    is_on_trial = subscription.state_at(now) is SubscriptionState.TRIALING
    ledger_id = _insert(
        connection,
        clinic=clinic,
        kind=CHARGE,
        study_instance_uid=study_instance_uid,
        study_id=study_id,
        period=period,
        tier=subscription.plan.tier,
        plan=to_plain(subscription.plan),
        basis=Basis.TRIAL if is_on_trial else basis_of(subscription.plan, number),
        number=number,
        packages=list(packages),
        models=[to_plain(model) for model in models],
        result_sop_instance_uid=result_sop_instance_uid,
        result_sop_instance_uids=list(result_sop_instance_uids) or [result_sop_instance_uid],
        destination=destination,
        charged_at=now,
    )
    enqueue(connection, clinic=clinic, ledger_id=ledger_id, now=now)
    return True


def credit(
    connection: sa.Connection,
    *,
    clinic: str,
    study_instance_uid: str,
    why: str,
    who: str,
    now: datetime,
    amount_usd_cents: int | None = None,
) -> int:
    """Take a study's charge back; the id of the new row. The study is not charged again.

    While the charge's period has no invoice, the study does not count in it any more, and leaves room in its quota.
    Later the credit stands on the invoice of the period in which it is given.

    Raises:
        Refuse: the study was never charged, its charge was taken back before, or nobody said why.
    """
    if not why.strip():
        raise Refuse("a credit needs a reason", reason="no_reason", hint="say why: it stands in the ledger for good")
    lock_clinic(connection, clinic)
    rows = connection.execute(
        sa.select(ledger)
        .where(ledger.c.clinic == clinic, ledger.c.study_instance_uid == study_instance_uid)
        .order_by(ledger.c.id)
    ).all()
    if not rows:
        raise Refuse(f"{clinic} was never charged for study {study_instance_uid!r}", reason="unknown_charge")
    if len(rows) > 1:
        given = f"by {rows[1].who} at {rows[1].charged_at:%Y-%m-%d %H:%M} UTC"
        raise Refuse("the study's charge was taken back before", reason="credited_before", hint=given)
    taken_back = rows[0]
    credit_id = _insert(
        connection,
        **{
            **taken_back._mapping,
            "id": None,
            "kind": CREDIT,
            "period": _open_period(connection, clinic, taken_back.period, now),
            "charged_at": now,
            "corrects": taken_back.id,
            "who": who,
            "why": why.strip(),
            "amount_usd_cents": amount_usd_cents,
        },
    )
    enqueue(connection, clinic=clinic, ledger_id=credit_id, now=now)
    add_event(connection, taken_back.study_id, "credited", f"by {who}")
    audit.enter(connection, at=now, who=who, act="credited", clinic=clinic, detail=f"ledger row {taken_back.id}: {why}")
    return credit_id


def read_ledger(database: Database, *, clinic: str | None = None, period: str | None = None) -> list[LedgerRow]:
    """The ledger's rows in the order in which they were written. `period`: a key, or a month in which periods begin."""
    query = sa.select(ledger).order_by(ledger.c.id)
    if clinic is not None:
        query = query.where(ledger.c.clinic == clinic)
    if period is not None:
        query = query.where(ledger.c.period.startswith(period))
    with database.read() as connection:
        return [row_of(row) for row in connection.execute(query)]


def row_of(row: sa.Row[tuple[object, ...]]) -> LedgerRow:
    values = row._mapping
    return LedgerRow(
        clinic=values["clinic"],
        study_instance_uid=values["study_instance_uid"],
        period=values["period"],
        tier=values["tier"],
        packages=tuple(values["packages"]),
        result_sop_instance_uid=values["result_sop_instance_uid"],
        destination=values["destination"],
        charged_at=values["charged_at"],
        id=values["id"],
        kind=values["kind"],
        basis=Basis(values["basis"]),
        number=values["number"],
        models=tuple(from_plain(ChargedModel, model) for model in values["models"]),
        result_sop_instance_uids=tuple(values["result_sop_instance_uids"]),
        corrects=values["corrects"],
        who=values["who"],
        why=values["why"],
        amount_usd_cents=values["amount_usd_cents"],
    )


def _insert(connection: sa.Connection, **values: object) -> int:
    values = {key: value for key, value in values.items() if key != "id"}
    return int(connection.execute(_ENTER, values).scalar_one())


def _open_period(connection: sa.Connection, clinic: str, wanted: str | None, now: datetime) -> str:
    """The period that is wanted, as long as nobody was asked to pay for it; or the present one. Whoever had to wait for
    the clinic's lock may be late: no row comes to a period that has its invoice.
    """
    invoiced = set(connection.scalars(_INVOICED, {"of": clinic}))
    if wanted is not None and wanted not in invoiced:
        return wanted
    calendar = calendar_of(connection, clinic=clinic)
    period = calendar.period_at(now)
    while period.key in invoiced:
        period = calendar.period_after(period)
    return period.key
