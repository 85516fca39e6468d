"""Closes the books: what the ledger has metered for a period against what Stripe has invoiced for it.

    an invoice's metered line  ->  all rows of its time are done?  ->  the difference, as one invoice item  ->  a row

The line and the ledger differ where usage was counted too late for its invoice, and where the plan changed in
mid-period: Stripe begins to count anew then, the ledger does not. What went over invoice items is on neither side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import stripe
import structlog

from metering.outbox import price_usd_cents
from metering.outbox_rules import SETTLED_AFTER, Route, State
from metering.stripe.accounts import Account
from metering.stripe.catalogue import PAGE
from metering.stripe.invoice_items import CURRENCY, STUDIES, find_by
from storage.clinic_lock import lock_clinic
from storage.database import Database
from storage.tables import billing_outbox, billing_settlements, ledger

log = structlog.get_logger()

SETTLES = "collimator_settles"
LOOKS_BACK = timedelta(days=100)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What an invoice says of the metered price, for a time."""

    begins_at: datetime
    ends_at: datetime
    studies: int
    usd_cents: int


def settle(database: Database, client: stripe.StripeClient, account: Account, *, now: datetime) -> int:
    """How many periods were settled now.

    Raises:
        stripe.StripeError: it did not answer; the rest is settled the next time.
    """
    settled = 0
    known = _settled(database, account.clinic)
    for line in _metered_lines(client, account, now):
        if line.begins_at in known or line.begins_at == line.ends_at:
            continue
        metered = _metered(database, account.clinic, line, now)
        if metered is None:
            continue
        studies, usd_cents = metered
        item = ""
        if (studies, usd_cents) != (line.studies, line.usd_cents):
            log.warning("stripe_differs", clinic=account.clinic, ledger=metered, stripe=(line.studies, line.usd_cents))
            item = _make_up(client, account, line, studies - line.studies, usd_cents - line.usd_cents)
        with database.write() as connection:
            lock_clinic(connection, account.clinic)
            connection.execute(
                sa.insert(billing_settlements).values(
                    clinic=account.clinic,
                    begins_at=line.begins_at,
                    ends_at=line.ends_at,
                    ledger_studies=studies,
                    ledger_usd_cents=usd_cents,
                    stripe_studies=line.studies,
                    stripe_usd_cents=line.usd_cents,
                    invoice_item_id=item,
                    settled_at=now,
                )
            )
        settled += 1
    return settled


def _metered_lines(client: stripe.StripeClient, account: Account, now: datetime) -> Iterator[Line]:
    """Of the final invoices of the last months, those of a metered price."""
    is_metered: dict[str, bool] = {}
    since_s = int((now - LOOKS_BACK).timestamp())
    invoices = client.v1.invoices.list({"customer": account.customer_id, "created": {"gte": since_s}, "limit": PAGE})
    for invoice in invoices.auto_paging_iter():
        if invoice.status in ("draft", "void"):
            continue
        # With an invoice come its first ten lines only.
        for one in client.v1.invoices.line_items.list(str(invoice.id), {"limit": PAGE}).auto_paging_iter():
            line: dict[str, Any] = one.to_dict()
            price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
            if price is None:
                continue
            if price not in is_metered:
                recurring = client.v1.prices.retrieve(price).recurring
                is_metered[price] = recurring is not None and recurring.usage_type == "metered"
            if is_metered[price]:
                yield Line(
                    begins_at=datetime.fromtimestamp(line["period"]["start"], UTC),
                    ends_at=datetime.fromtimestamp(line["period"]["end"], UTC),
                    studies=line["quantity"],
                    usd_cents=line["amount"],
                )


def _metered(database: Database, clinic: str, line: Line, now: datetime) -> tuple[int, int] | None:
    """Studies and US cents that the ledger says went by the meter in that time; None: it is too early to say."""
    charges = billing_outbox.alias("charges")
    metered_at = sa.func.coalesce(charges.c.metered_at, billing_outbox.c.metered_at)
    query = (
        sa.select(billing_outbox, ledger)
        .join(ledger, ledger.c.id == billing_outbox.c.ledger_id)
        .outerjoin(charges, charges.c.ledger_id == ledger.c.corrects)
        .where(billing_outbox.c.clinic == clinic, metered_at >= line.begins_at, metered_at < line.ends_at)
    )
    if now < line.ends_at + 2 * SETTLED_AFTER:
        return None
    with database.read() as connection:
        rows = connection.execute(query).all()
    if any(row.state != State.DONE for row in rows):
        return None
    sent = [row for row in rows if row.route == Route.METER]
    cancelled = [row for row in rows if row.route == Route.CANCEL]
    return (
        len(sent) - len(cancelled),
        sum(price_usd_cents(row) for row in sent) - sum(price_usd_cents(row) for row in cancelled),
    )


def _make_up(client: stripe.StripeClient, account: Account, line: Line, studies: int, usd_cents: int) -> str:
    """The item that was made for this before, or a new one."""
    name = f"{line.begins_at:%Y-%m-%dT%H:%M:%SZ}"
    since_s = int(line.begins_at.timestamp())
    found = find_by(client, customer_id=account.customer_id, name=SETTLES, value=name, since_s=since_s)
    if found is not None:
        return found
    made = client.v1.invoice_items.create(
        {
            "customer": account.customer_id,
            "amount": usd_cents,
            "currency": CURRENCY,
            "description": f"Correction for {line.begins_at:%Y-%m-%d} to {line.ends_at:%Y-%m-%d}: {studies:+d} studies",
            "metadata": {SETTLES: name, STUDIES: str(studies)},
        },
        {"idempotency_key": f"{account.customer_id}-settle-{name}"},
    )
    return str(made.id)


def _settled(database: Database, clinic: str) -> set[datetime]:
    query = sa.select(billing_settlements.c.begins_at).where(billing_settlements.c.clinic == clinic)
    with database.read() as connection:
        return set(connection.scalars(query))
