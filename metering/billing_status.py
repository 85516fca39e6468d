"""How it stands between the ledger and Stripe, clinic by clinic, for people and for alarms, by the rows alone."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from metering.outbox import read_backlog
from metering.stripe.accounts import read_accounts
from storage.audit import AuditLine, last_of
from storage.database import Database
from storage.tables import billing_settlements, stripe_events


@dataclass(frozen=True, kw_only=True, slots=True)
class BillingStatus:
    """`status`, `tier`, `packages`: as Stripe said at `seen_at`; empty: there is no subscription yet.

    waiting, oldest_waiting, overdue, last_error: ledger rows that Stripe does not know; overdue after seven days.
    corrected: periods for which an invoice item had to make up for a difference.
    """

    clinic: str
    customer_id: str
    status: str
    tier: str
    period_ends_at: datetime | None
    packages: tuple[str, ...]
    disputes: tuple[str, ...]
    seen_at: datetime | None
    waiting: int
    oldest_waiting: datetime | None
    overdue: int
    last_error: str
    corrected: int


def read_status(database: Database, *, now: datetime, clinics: frozenset[str] | None = None) -> list[BillingStatus]:
    """Of the clinics that have an account at Stripe; `clinics` None: of all."""
    backlogs = {backlog.clinic: backlog for backlog in read_backlog(database, now=now)}
    corrected = _corrected(database)
    return [
        BillingStatus(
            clinic=account.clinic,
            customer_id=account.customer_id,
            status=account.status,
            tier=account.tier,
            period_ends_at=account.period_ends_at,
            packages=account.packages,
            disputes=tuple(account.disputes.values()),
            seen_at=account.seen_at,
            waiting=backlogs[account.clinic].waiting,
            oldest_waiting=backlogs[account.clinic].oldest,
            overdue=backlogs[account.clinic].overdue,
            last_error=backlogs[account.clinic].last_error,
            corrected=corrected.get(account.clinic, 0),
        )
        for account in read_accounts(database)
        if account.clinic in backlogs and (clinics is None or account.clinic in clinics)
    ]


def events_waiting(database: Database) -> int:
    """What Stripe told and nobody has acted on yet."""
    query = sa.select(sa.func.count()).select_from(stripe_events).where(stripe_events.c.processed_at.is_(None))
    with database.read() as connection:
        return connection.scalar(query) or 0


def last_event_at(database: Database) -> datetime | None:
    """When Stripe last told something that was taken in."""
    newest = sa.select(stripe_events.c.received_at).order_by(stripe_events.c.received_at.desc()).limit(1)
    with database.read() as connection:
        return connection.scalars(newest).first()


def last_event_refused(database: Database) -> AuditLine | None:
    """The last time that something at the webhook's door was not."""
    return last_of(database, act="webhook_refused")


def _corrected(database: Database) -> dict[str, int]:
    query = (
        sa.select(billing_settlements.c.clinic, sa.func.count())
        .where(billing_settlements.c.invoice_item_id != "")
        .group_by(billing_settlements.c.clinic)
    )
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}
