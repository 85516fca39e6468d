"""Closes the books: what the ledger says of a billing period against what Stripe has on its invoices for it.

    the period is over, all its rows are done, no draft is left  ->  ledger less Stripe  ->  one invoice item  ->  a row

They differ where usage was counted too late for its invoice; where the plan changed in mid-period, for Stripe begins to
count anew then and the ledger does not; and where a credit made later studies cheaper. After a later credit the period
is settled once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import stripe
import structlog
from sqlalchemy.dialects import postgresql, sqlite

from domain.periods import Period
from metering.invoices import reckon
from metering.outbox import ENDED
from metering.outbox_rules import SETTLED_AFTER, State
from metering.stripe.accounts import Account
from metering.stripe.catalogue import PAGE
from metering.stripe.invoice_items import CURRENCY, PERIOD, STUDIES, metadata_of
from metering.subscriptions import calendar_of
from storage.database import Database
from storage.tables import billing_outbox, billing_settlements, ledger

log = structlog.get_logger()

SETTLES = "collimator_settles"
# Stripe's periods and the ledger's begin on the same day, in different time zones.
A_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Studies beyond the plan's own price, and what they cost."""

    studies: int = 0
    usd_cents: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(studies=self.studies + other.studies, usd_cents=self.usd_cents + other.usd_cents)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(studies=self.studies - other.studies, usd_cents=self.usd_cents - other.usd_cents)


def settle(database: Database, client: stripe.StripeClient, account: Account, *, now: datetime) -> int:
    """How many periods were settled now.

    Raises:
        stripe.StripeError: it did not answer; the rest is settled the next time.
    """
    counts = [(period, _rows_to_settle(database, account, period)) for period in _ended_periods(database, account, now)]
    due = [(period, rows) for period, rows in counts if rows is not None]
    if not due or _has_draft(client, account):
        return 0
    lines = list(_metered_lines(client, account, since=due[0][0].begins_at))
    for period, rows in due:
        metered = ledger_usage(database, account.clinic, period)
        invoiced = sum((usage for at, usage in lines if at in period), Usage())
        invoiced += _usage_of_items(client, account, period)
        _settle(database, client, account, period, rows, metered, invoiced, now)
    return len(due)


def ledger_usage(database: Database, clinic: str, period: Period) -> Usage:
    """What the clinic owes for the studies that Stripe was told of."""
    with database.read() as connection:
        told = set(connection.scalars(sa.select(billing_outbox.c.ledger_id).where(billing_outbox.c.clinic == clinic)))
        bill = reckon(connection, clinic=clinic, period=period)
    studies = [study for study in bill.studies if study.ledger_id in told]
    given_back = sum(credit.amount_usd_cents for credit in bill.credits if credit.ledger_id in told)
    return Usage(studies=len(studies), usd_cents=sum(study.price_usd_cents for study in studies) - given_back)


def _ended_periods(database: Database, account: Account, now: datetime) -> list[Period]:
    """For which Stripe has written its invoices, as far as is known."""
    with database.read() as connection:
        calendar = calendar_of(connection, clinic=account.clinic)
    period = calendar.period_at(account.begun_at)
    ended = []
    while period.ends_at + 2 * SETTLED_AFTER <= now:
        goes_on = account.period_begins_at is not None and account.period_begins_at < period.ends_at - A_DAY
        if not goes_on or account.status in ENDED:
            ended.append(period)
        period = calendar.period_after(period)
    return ended


def _rows_to_settle(database: Database, account: Account, period: Period) -> int | None:
    """How many rows the period has; None: they were all settled, or some are not done. They only grow in number."""
    rows = (
        sa.select(sa.func.count(), sa.func.count(sa.case((billing_outbox.c.state != State.DONE, 1))))
        .join(ledger, ledger.c.id == billing_outbox.c.ledger_id)
        .where(billing_outbox.c.clinic == account.clinic, ledger.c.period == period.key)
    )
    settled = sa.select(sa.func.max(billing_settlements.c.ledger_rows)).where(
        billing_settlements.c.clinic == account.clinic, billing_settlements.c.period == period.key
    )
    with database.read() as connection:
        count, waiting = connection.execute(rows).one()
        known = connection.scalar(settled)
    return None if waiting or known == count else int(count)


def _settle(
    database: Database,
    client: stripe.StripeClient,
    account: Account,
    period: Period,
    rows: int,
    metered: Usage,
    invoiced: Usage,
    now: datetime,
) -> None:
    before = sa.select(sa.func.count()).where(
        billing_settlements.c.clinic == account.clinic, billing_settlements.c.period == period.key
    )
    with database.read() as connection:
        number = (connection.scalar(before) or 0) + 1
    item = ""
    if metered != invoiced:
        log.warning("stripe_differs", clinic=account.clinic, period=period.key)
        item = _make_up(client, account, period, number, rows, metered - invoiced)
    with database.write() as connection:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        row = insert(billing_settlements).values(
            clinic=account.clinic,
            period=period.key,
            number=number,
            ledger_rows=rows,
            ledger_studies=metered.studies,
            ledger_usd_cents=metered.usd_cents,
            stripe_studies=invoiced.studies,
            stripe_usd_cents=invoiced.usd_cents,
            invoice_item_id=item,
            settled_at=now,
        )
        connection.execute(row.on_conflict_do_nothing())


def _make_up(
    client: stripe.StripeClient, account: Account, period: Period, number: int, rows: int, difference: Usage
) -> str:
    """One whose answer was lost is among those that were counted: there is no difference then."""
    name = f"{period.key} {number} {rows}"
    made = client.v1.invoice_items.create(
        {
            "customer": account.customer_id,
            "amount": difference.usd_cents,
            "currency": CURRENCY,
            "description": f"Correction for {period.key}: {difference.studies:+d} studies",
            "metadata": {SETTLES: name, PERIOD: period.key, STUDIES: str(difference.studies)},
        },
        {"idempotency_key": f"{account.customer_id}-settle-{name}-{difference.studies}-{difference.usd_cents}"},
    )
    return str(made.id)


def _has_draft(client: stripe.StripeClient, account: Account) -> bool:
    return bool(list(client.v1.invoices.list({"customer": account.customer_id, "status": "draft", "limit": 1})))


def _metered_lines(client: stripe.StripeClient, account: Account, since: datetime) -> Iterator[tuple[datetime, Usage]]:
    """Of the invoices since then, and of what waits for the next one: a moment of each metered line's time."""
    is_metered: dict[str, bool] = {}
    for line in _lines(client, account, int(since.timestamp())):
        price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
        if price is None:
            continue
        if price not in is_metered:
            recurring = client.v1.prices.retrieve(price).recurring
            is_metered[price] = recurring is not None and recurring.usage_type == "metered"
        if is_metered[price]:
            # Its middle: Stripe's periods begin at midnight in UTC, and the ledger's where the clinic is.
            middle = datetime.fromtimestamp((line["period"]["start"] + line["period"]["end"]) / 2, UTC)
            yield middle, Usage(studies=line["quantity"], usd_cents=line["amount"])


def _lines(client: stripe.StripeClient, account: Account, since_s: int) -> Iterator[dict[str, Any]]:
    for invoice in client.v1.invoices.list(
        {"customer": account.customer_id, "created": {"gte": since_s}, "limit": PAGE}
    ).auto_paging_iter():
        if invoice.status not in ("draft", "void"):
            # With an invoice come its first ten lines only.
            for line in client.v1.invoices.line_items.list(str(invoice.id), {"limit": PAGE}).auto_paging_iter():
                yield line.to_dict()
    for item in client.v1.invoice_items.list(
        {"customer": account.customer_id, "pending": True, "limit": PAGE}
    ).auto_paging_iter():
        yield item.to_dict()


def _usage_of_items(client: stripe.StripeClient, account: Account, period: Period) -> Usage:
    """Of the items that name this period, on whatever invoice they are."""
    since_s = int(period.begins_at.timestamp())
    items = client.v1.invoice_items.list({"customer": account.customer_id, "created": {"gte": since_s}, "limit": PAGE})
    named = [item for item in items.auto_paging_iter() if metadata_of(item).get(PERIOD) == period.key]
    return sum((Usage(studies=int(metadata_of(item)[STUDIES]), usd_cents=item.amount) for item in named), Usage())
