"""Finds out what became of requests that may not be repeated: asks the meter what it counted, and acts on the number.

    unsure for long enough  ->  all rows of that clinic's minute, leased  ->  what was counted in it?
        as many as were wanted    they were all counted
        fewer                     so many are sent anew, each with another identifier
        more                      so many cancellations did not happen: they become invoice items
        none of these             somebody else has written to the meter: a person has to look

A minute is the finest that Stripe tells. Which of its studies were counted does not matter: the number is billed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import stripe
import structlog

from metering import outbox
from metering.outbox import Claimed
from metering.outbox_rules import SETTLED_AFTER, Minute, Route, State, Step, next_step, verdict
from metering.stripe import meter
from metering.stripe.answers import Meaning, ask
from storage.database import Database
from storage.tables import billing_outbox, ledger

log = structlog.get_logger()

AT_ONCE = 200
ON_METER = (Route.METER, Route.CANCEL)
LOOK_AGAIN = timedelta(minutes=30)
charge_rows = billing_outbox.alias("charge_rows")
# Of a credit, when its charge was metered; of a charge, when it was.
METERED_AT = sa.func.coalesce(charge_rows.c.metered_at, billing_outbox.c.metered_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One clinic's minute: all of its rows that are not done, this process's now, and what is done of it."""

    minute: datetime
    charges: tuple[Claimed, ...]
    cancels: tuple[Claimed, ...]
    others: tuple[Claimed, ...]
    sent: int


def reconcile(database: Database, client: stripe.StripeClient, *, meter_id: str, now: datetime) -> int:
    """How many rows it is known of now what became of them."""
    decided = 0
    for clinic, minute in _unsure_minutes(database, now):
        group = _lease(database, clinic, minute, now)
        if group is None:
            continue
        decided += _decide(database, client, group, meter_id, now)
    return decided


def _decide(database: Database, client: stripe.StripeClient, group: Group, meter_id: str, now: datetime) -> int:
    unsure = [*group.charges, *group.cancels]
    customer_id = unsure[0].customer_id
    answer = ask(
        lambda: meter.counted_in_minute(client, meter_id=meter_id, customer_id=customer_id, minute=group.minute)
    )
    outbox.release(database, group.others)
    if answer.meaning is not Meaning.DONE:
        _look_again(database, unsure, now, answer.why)
        return 0
    known = Minute(
        sent=group.sent, unsure=len(group.charges), unsure_cancels=len(group.cancels), counted=answer.content
    )
    found = verdict(known)
    if not found.is_possible:
        why = f"Stripe counted otherwise in the minute of {group.minute:%Y-%m-%d %H:%M} UTC: {known}"
        log.error("meter_disagrees", clinic=unsure[0].entry.clinic, why=why)
        _look_again(database, unsure, now, why)
        return 0
    for place, row in enumerate(group.charges):
        if place < found.missing:
            outbox.start_over(database, row, route=Route.NONE, until=now, why="it was not counted")
        else:
            outbox.finish(database, row, route=Route.METER, now=now)
    for place, row in enumerate(group.cancels):
        if place < found.not_cancelled:
            outbox.start_over(database, row, route=Route.INVOICE_ITEM, until=now, why="it was not cancelled")
        else:
            outbox.finish(database, row, route=Route.CANCEL, now=now)
    return len(unsure)


def _look_again(database: Database, rows: list[Claimed], now: datetime, why: str) -> None:
    for row in rows:
        outbox.put_off(database, row, until=now + LOOK_AGAIN, why=why)


def _unsure_minutes(database: Database, now: datetime) -> list[tuple[str, datetime]]:
    unsure = (
        billing_outbox.c.state == State.ASKED,
        billing_outbox.c.route.in_(ON_METER),
        billing_outbox.c.asked_at <= now - SETTLED_AFTER,
        billing_outbox.c.due_at <= now,
        outbox.is_free(now),
    )
    with database.read() as connection:
        rows = outbox.read(connection, *unsure, now=now, limit=AT_ONCE)
    found = [row for row in rows if next_step(row.entry, now) is Step.RECONCILE]
    return list(dict.fromkeys((row.entry.clinic, meter.minute_of(_metered_at(row))) for row in found))


def _lease(database: Database, clinic: str, minute: datetime, now: datetime) -> Group | None:
    """None: somebody works on it, it has not settled, or nothing of it is unsure any more."""
    in_minute = (
        billing_outbox.c.clinic == clinic,
        minute <= METERED_AT,
        minute + meter.A_MINUTE > METERED_AT,
    )
    query = _rows(billing_outbox).where(*in_minute).with_for_update(of=billing_outbox)
    with database.write() as connection:
        rows = connection.execute(query).all()
        done = [row for row in rows if row.state == State.DONE]
        still = [row for row in rows if row.state != State.DONE]
        if any(row.leased_until is not None and row.leased_until >= now for row in still):
            return None
        if any(_is_too_new(row, now) for row in rows):
            return None
        claimed = outbox.take(connection, [row.ledger_id for row in still], now=now)
    unsure = [row for row in claimed if next_step(row.entry, now) is Step.RECONCILE]
    others = [row for row in claimed if row not in unsure]
    may_yet_come = any(row.entry.state is State.ASKED and row.entry.route in ON_METER for row in others)
    if may_yet_come or not unsure:
        outbox.release(database, claimed)
        return None
    return Group(
        minute=minute,
        charges=tuple(row for row in unsure if not row.entry.is_credit),
        cancels=tuple(row for row in unsure if row.entry.is_credit),
        others=tuple(others),
        sent=sum(row.route == Route.METER for row in done) - sum(row.route == Route.CANCEL for row in done),
    )


def _metered_at(row: Claimed) -> datetime:
    """Of a credit, when its charge was."""
    return row.entry.metered_at if row.entry.charge is None else row.entry.charge.metered_at


def _is_too_new(row: sa.Row[tuple[object, ...]], now: datetime) -> bool:
    """Stripe may not have counted it yet."""
    values = row._mapping
    asked_at: datetime | None = values["asked_at"]
    return values["route"] in ON_METER and asked_at is not None and asked_at > now - SETTLED_AFTER


def _rows(*what: sa.ColumnElement[object] | sa.Table) -> sa.Select[tuple[object, ...]]:
    return (
        sa.select(*what)
        .join(ledger, ledger.c.id == billing_outbox.c.ledger_id)
        .outerjoin(charge_rows, charge_rows.c.ledger_id == ledger.c.corrects)
    )
