"""The billing outbox: one row for each ledger row that Stripe has to learn of, written in the ledger row's transaction.

    enqueue  (with the ledger row)     ->  waiting
    claim    (a lease, by one sender)  ->  begin (before the request)  ->  asked  ->  finish | put_off

A sender that dies between `begin` and `finish` leaves the row asked: nobody knows whether Stripe has it, and the rules
(outbox_rules.py) go on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from domain.billing import Payer
from domain.plans import Basis, Plan, price_of
from metering.outbox_rules import ALARM_AFTER, Entry, Route, State, closed_until
from metering.subscriptions import calendar_of, subscription_at
from storage.database import Database
from storage.plain import from_plain
from storage.tables import billing_accounts, billing_outbox, ledger

LEASE = timedelta(minutes=10)
AT_ONCE = 20
LONGEST_ERROR = 500
# A study is charged in the period that its quota was taken in; nothing waits longer than this many.
PERIODS_BACK = 24
# What Stripe says of a subscription that will not come back.
ENDED = ("canceled", "incomplete_expired")

_ACCOUNT = sa.select(billing_accounts.c.clinic).where(billing_accounts.c.clinic == sa.bindparam("clinic"))

charge_rows = billing_outbox.alias("charge_rows")
credit_rows = ledger.alias("credit_rows")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A row that is this sender's until `leased_until`.

    round: how often it was begun anew with another identifier. errors: how often Stripe answered with a fault of its
    own, which it would repeat for the same Idempotency-Key. price_usd_cents: what the study cost, or is given back.
    """

    entry: Entry
    study_instance_uid: str
    period: str
    price_usd_cents: int
    customer_id: str
    identifier_key: str
    charge_identifier: str
    round: int
    errors: int
    attempts: int
    leased_until: datetime

    @property
    def ledger_id(self) -> int:
        return self.entry.ledger_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """Of one clinic: rows that are not done, since when the oldest waits, and how many wait longer than seven days."""

    clinic: str
    waiting: int
    oldest: datetime | None
    overdue: int
    last_error: str


def enqueue(connection: sa.Connection, *, clinic: str, ledger_id: int, now: datetime) -> None:
    """Stripe has to learn of this ledger row, where it is the clinic's payer, or was told of the charge that a credit
    takes back. To be called in the row's transaction.
    """
    if connection.execute(_ACCOUNT, {"clinic": clinic}).first() is None:
        return
    row = connection.execute(
        sa.select(ledger.c.period, ledger.c.charged_at, ledger.c.corrects).where(ledger.c.id == ledger_id)
    ).one()
    is_payer = subscription_at(connection, clinic=clinic, moment=now).is_paid_by(Payer.STRIPE)
    if not is_payer and not _was_told(connection, row.corrects):
        return
    connection.execute(
        sa.insert(billing_outbox).values(
            ledger_id=ledger_id,
            clinic=clinic,
            state=State.WAITING,
            metered_at=_metered_at(connection, clinic, row.period, row.charged_at),
            enqueued_at=now,
            due_at=now,
        )
    )


def _was_told(connection: sa.Connection, ledger_id: int | None) -> bool:
    told = sa.select(billing_outbox.c.ledger_id).where(billing_outbox.c.ledger_id == ledger_id)
    return ledger_id is not None and connection.execute(told).first() is not None


def _metered_at(connection: sa.Connection, clinic: str, period_key: str, charged_at: datetime) -> datetime:
    """When it was charged; for a study that counts in an earlier period, the last second of that."""
    calendar = calendar_of(connection, clinic=clinic)
    period = calendar.period_at(charged_at)
    if period.key == period_key:
        return charged_at
    for _ in range(PERIODS_BACK):
        period = calendar.period_at(period.begins_at - timedelta(seconds=1))
        if period.key == period_key:
            return period.ends_at - timedelta(seconds=1)
    return charged_at


def claim(database: Database, *, now: datetime, limit: int = AT_ONCE) -> list[Claimed]:
    """Rows that are due, the oldest first; nobody else gets them before the lease has run out."""
    due = (
        sa.select(billing_outbox.c.ledger_id)
        .where(billing_outbox.c.state != State.DONE, billing_outbox.c.due_at <= now, is_free(now))
        .order_by(billing_outbox.c.due_at, billing_outbox.c.ledger_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with database.write() as connection:
        return take(connection, list(connection.scalars(due)), now=now)


def take(connection: sa.Connection, ledger_ids: list[int], *, now: datetime) -> list[Claimed]:
    """Lease these rows, which the transaction has locked, and read them."""
    if not ledger_ids:
        return []
    chosen = billing_outbox.c.ledger_id.in_(ledger_ids)
    connection.execute(sa.update(billing_outbox).where(chosen).values(leased_until=now + LEASE))
    return read(connection, chosen, now=now, limit=len(ledger_ids))


def read(connection: sa.Connection, *which: sa.ColumnElement[bool], now: datetime, limit: int) -> list[Claimed]:
    """Rows as they are, in the order of the ledger."""
    rows = connection.execute(_joined().where(*which).order_by(billing_outbox.c.ledger_id).limit(limit)).all()
    return [_claimed(row, now) for row in rows]


def release(database: Database, rows: Sequence[Claimed]) -> None:
    """Nothing was done with them; whoever comes next may have them."""
    for claimed in rows:
        _change(database, claimed, {"leased_until": None})


def begin(
    database: Database,
    claimed: Claimed,
    *,
    route: Route,
    identifier: str = "",
    round_: int | None = None,
    now: datetime,
) -> bool:
    """A request is about to go out; False when the lease was lost and it must not.

    `round_`: a round that begins with this request: what was asked before is settled.
    """
    values: dict[str, Any] = {
        "state": State.ASKED,
        "route": route,
        "attempts": billing_outbox.c.attempts + 1,
        "asked_at": now,
        "first_asked_at": sa.func.coalesce(billing_outbox.c.first_asked_at, now),
    }
    if identifier:
        values["identifier"] = identifier
    is_other = claimed.entry.route is not route
    if round_ is not None or is_other:
        values |= {"round": claimed.round if round_ is None else round_, "first_asked_at": now}
    return _change(database, claimed, values)


def finish(database: Database, claimed: Claimed, *, route: Route, now: datetime, stripe_id: str = "") -> bool:
    """Nothing more is to be done about it."""
    values = {"state": State.DONE, "route": route, "done_at": now, "last_error": "", "stripe_id": stripe_id}
    return _change(database, claimed, values | {"leased_until": None})


def put_off(
    database: Database,
    claimed: Claimed,
    *,
    until: datetime,
    why: str = "",
    was_refused: bool = False,
    is_fault: bool = False,
) -> bool:
    """Not now. `was_refused`: the last request changed nothing, as Stripe said. `is_fault`: it answered with one."""
    values: dict[str, Any] = {"due_at": until, "last_error": why[:LONGEST_ERROR], "leased_until": None}
    if was_refused and claimed.entry.state is State.WAITING:
        values |= {"state": State.WAITING, "route": claimed.entry.route, "first_asked_at": None}
    if is_fault:
        values["errors"] = billing_outbox.c.errors + 1
    return _change(database, claimed, values)


def start_over(database: Database, claimed: Claimed, *, route: Route, until: datetime, why: str = "") -> bool:
    """What was asked is known not to have happened; `route`: the one that is left for it."""
    values = {
        "state": State.WAITING,
        "route": route,
        "first_asked_at": None,
        "round": claimed.round + 1,
        "errors": 0,
        "due_at": until,
        "last_error": why[:LONGEST_ERROR],
        "leased_until": None,
    }
    return _change(database, claimed, values)


def read_backlog(database: Database, *, now: datetime) -> list[Backlog]:
    """One line for each clinic that has an account at Stripe, with rows or without."""
    is_open = billing_outbox.c.state != State.DONE
    is_overdue = sa.and_(is_open, billing_outbox.c.enqueued_at < now - ALARM_AFTER)
    query = (
        sa.select(
            billing_accounts.c.clinic,
            sa.func.count(sa.case((is_open, 1))).label("waiting"),
            sa.func.min(sa.case((is_open, billing_outbox.c.enqueued_at))).label("oldest"),
            sa.func.count(sa.case((is_overdue, 1))).label("overdue"),
            sa.func.max(sa.case((is_open, billing_outbox.c.last_error), else_="")).label("last_error"),
        )
        .select_from(billing_accounts.outerjoin(billing_outbox, billing_outbox.c.clinic == billing_accounts.c.clinic))
        .group_by(billing_accounts.c.clinic)
        .order_by(billing_accounts.c.clinic)
    )
    with database.read() as connection:
        return [Backlog(**row._mapping) for row in connection.execute(query)]


def _change(database: Database, claimed: Claimed, values: dict[str, Any]) -> bool:
    """Only while the lease is this sender's own."""
    mine = (
        billing_outbox.c.ledger_id == claimed.ledger_id,
        billing_outbox.c.leased_until == claimed.leased_until,
        billing_outbox.c.state != State.DONE,
    )
    with database.write() as connection:
        return connection.execute(sa.update(billing_outbox).where(*mine).values(**values)).rowcount == 1


def is_free(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(billing_outbox.c.leased_until.is_(None), billing_outbox.c.leased_until < now)


def _joined() -> sa.Select[Any]:
    return (
        sa.select(
            billing_outbox,
            ledger.c.kind,
            ledger.c.corrects,
            ledger.c.study_instance_uid,
            ledger.c.period,
            ledger.c.amount_usd_cents,
            ledger.c.plan,
            ledger.c.basis,
            ledger.c.number,
            billing_accounts.c.customer_id,
            billing_accounts.c.identifier_key,
            billing_accounts.c.period_begins_at,
            billing_accounts.c.period_ends_at,
            billing_accounts.c.metered_since,
            billing_accounts.c.subscription_id,
            billing_accounts.c.status,
            charge_rows.c.state.label("charge_state"),
            charge_rows.c.route.label("charge_route"),
            charge_rows.c.first_asked_at.label("charge_first_asked_at"),
            charge_rows.c.identifier.label("charge_identifier"),
            charge_rows.c.metered_at.label("charge_metered_at"),
            credit_rows.c.id.label("credited_by"),
            credit_rows.c.amount_usd_cents.label("credited_otherwise"),
        )
        .join(ledger, ledger.c.id == billing_outbox.c.ledger_id)
        .join(billing_accounts, billing_accounts.c.clinic == billing_outbox.c.clinic)
        .outerjoin(charge_rows, charge_rows.c.ledger_id == ledger.c.corrects)
        .outerjoin(credit_rows, credit_rows.c.corrects == ledger.c.id)
    )


def price_usd_cents(row: sa.Row[Any]) -> int:
    """Of a ledger row: what its study cost beyond the plan's own price, or the amount that a credit names."""
    if row.amount_usd_cents is not None:
        return int(row.amount_usd_cents)
    if row.basis != Basis.USAGE or not row.plan:
        return 0
    return price_of(from_plain(Plan, row.plan), row.number)


def _claimed(row: sa.Row[Any], now: datetime) -> Claimed:
    closed = closed_until(
        period_begins_at=row.period_begins_at,
        period_ends_at=row.period_ends_at,
        metered_since=row.metered_since,
        has_ended=row.status in ENDED,
        now=now,
    )
    charge = None
    if row.charge_state is not None:
        charge = Entry(
            ledger_id=row.corrects,
            clinic=row.clinic,
            is_credit=False,
            metered_at=row.charge_metered_at,
            state=State(row.charge_state),
            route=Route(row.charge_route),
            first_asked_at=row.charge_first_asked_at,
            closed_until=closed,
        )
    entry = Entry(
        ledger_id=row.ledger_id,
        clinic=row.clinic,
        is_credit=row.kind == "credit",
        metered_at=row.metered_at,
        state=State(row.state),
        route=Route(row.route),
        first_asked_at=row.first_asked_at,
        is_credited=row.credited_by is not None and row.credited_otherwise is None,
        has_own_amount=row.amount_usd_cents is not None,
        had_fault=row.errors > 0,
        charge=charge,
        closed_until=closed,
        has_invoices=row.subscription_id is not None,
    )
    return Claimed(
        entry=entry,
        study_instance_uid=row.study_instance_uid,
        period=row.period,
        price_usd_cents=price_usd_cents(row),
        customer_id=row.customer_id,
        identifier_key=row.identifier_key,
        charge_identifier=row.charge_identifier or "",
        round=row.round,
        errors=row.errors,
        attempts=row.attempts,
        leased_until=row.leased_until,
    )
