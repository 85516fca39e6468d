"""Acts on events that were taken in: finds whose they are, and asks Stripe anew how it stands with that clinic.

charge.dispute.*                      names a charge, and that its customer
v1.billing.meter.error_report_*,      nobody's: a meter event was taken and not counted. An alarm, and the
v1.billing.meter.no_meter_found       settlement of the period makes up for it
everything else with a customer       that clinic's
anything else                         not ours
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import stripe
import structlog

from domain.plans import Plan, Tier
from metering.outbox_rules import retry_in_s
from metering.stripe.accounts import clinic_of_customer, read_accounts
from metering.stripe.mirror import refresh
from storage import audit
from storage.database import Database
from storage.tables import stripe_events

log = structlog.get_logger()

AT_ONCE = 100
REMEMBERED_FOR = timedelta(days=60)
METER_FAILED = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
# They change nothing here (states.py), and whoever reads the audit trail wants to know of them.
WRITTEN_DOWN = {
    "charge.refunded": "refunded",
    "charge.dispute.created": "disputed",
    "charge.dispute.closed": "disputed",
}
WHO = "stripe"


def process_events(
    database: Database, client: stripe.StripeClient, *, plans: Mapping[Tier, Plan], now: datetime
) -> int:
    """How many were dealt with. Several workers may do it at the same time: asking twice does no harm.

    Raises:
        stripe.StripeError: it did not answer; what is left is tried again later.
    """
    accounts = {account.clinic: account for account in read_accounts(database)}
    fresh: set[str] = set()
    processed = 0
    for event in _due(database, now):
        try:
            clinic = _clinic_of(database, client, event) or ""
            if clinic in accounts and clinic not in fresh:
                refresh(database, client, accounts[clinic], plans=plans, now=now)
                fresh.add(clinic)
        except stripe.InvalidRequestError as error:
            # What it names is not there, or not ours; what it was about is asked for every hour in any case.
            _close(database, event, "", now)
            log.warning("event_without_object", kind=event.type, why=str(error.user_message))
            continue
        except stripe.StripeError as error:
            _put_off(database, event, now, f"{type(error).__name__}: {error.user_message}")
            raise
        _close(database, event, clinic, now)
        processed += 1
    return processed


def forget_events(database: Database, now: datetime) -> int:
    """Of those that were dealt with; Stripe itself forgets them after 30 days."""
    old = stripe_events.c.processed_at < now - REMEMBERED_FOR
    with database.write() as connection:
        return connection.execute(sa.delete(stripe_events).where(old)).rowcount


def _due(database: Database, now: datetime) -> list[sa.Row[Any]]:
    query = (
        sa.select(stripe_events)
        .where(stripe_events.c.processed_at.is_(None), stripe_events.c.due_at <= now)
        .order_by(stripe_events.c.received_at, stripe_events.c.id)
        .limit(AT_ONCE)
    )
    with database.read() as connection:
        return list(connection.execute(query))


def _clinic_of(database: Database, client: stripe.StripeClient, event: sa.Row[Any]) -> str | None:
    customer_id = event.customer_id
    if not customer_id and event.type.startswith("charge.dispute.") and event.object_id:
        customer = client.v1.charges.retrieve(event.object_id).customer
        customer_id = customer if isinstance(customer, str) else getattr(customer, "id", "")
    return clinic_of_customer(database, customer_id) if customer_id else None


def _close(database: Database, event: sa.Row[Any], clinic: str, now: datetime) -> None:
    if event.type in METER_FAILED:
        log.error("meter_event_not_counted", kind=event.type)
    with database.write() as connection:
        closed = connection.execute(
            sa.update(stripe_events)
            .where(stripe_events.c.id == event.id, stripe_events.c.processed_at.is_(None))
            .values(processed_at=now, outcome=clinic or "not ours")
        ).rowcount
        if closed and clinic and event.type in WRITTEN_DOWN:
            act, detail = WRITTEN_DOWN[event.type], f"{event.type}, {event.object_id}"
            audit.enter(connection, at=now, who=WHO, act=act, clinic=clinic, detail=detail)


def _put_off(database: Database, event: sa.Row[Any], now: datetime, why: str) -> None:
    pause = timedelta(seconds=retry_in_s(event.attempts + 1, 1.0))
    with database.write() as connection:
        connection.execute(
            sa.update(stripe_events)
            .where(stripe_events.c.id == event.id)
            .values(attempts=event.attempts + 1, due_at=now + pause, outcome=why[:500])
        )
