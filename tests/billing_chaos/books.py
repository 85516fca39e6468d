"""Holds the ledger against what the stand-in has counted and invoiced: by minute, by row, by period, and in all."""

from collections import Counter
from datetime import datetime

import sqlalchemy as sa

from domain.periods import Period
from metering.ledger import read_ledger
from metering.outbox_rules import Route
from metering.stripe.meter import minute_of
from metering.stripe.settle import ledger_usage
from metering.subscriptions import calendar_of
from storage.tables import billing_outbox, billing_settlements, ledger
from tests.billing_chaos.clinics import CLINICS
from tests.billing_chaos.outcome import Outcome
from tests.factories.stripe_house import StripeHouse


def compare(house: StripeHouse, outcome: Outcome) -> None:
    _count_rows(house, outcome)
    for clinic in CLINICS:
        _by_minute(house, clinic.name, outcome)
        _by_item(house, clinic.name, outcome)
        _in_all(house, clinic.name, outcome)
    outcome.misfortunes = Counter({str(name): count for name, count in house.server.script.happened.items()})
    drafts = [one for one in house.server.account.all("invoice") if one["status"] == "draft"]
    waiting = [one for one in house.server.account.all("invoiceitem") if one["invoice"] is None]
    if drafts or waiting:
        outcome.broken.append(f"{len(drafts)} invoices are drafts, {len(waiting)} items on no invoice")


def _count_rows(house: StripeHouse, outcome: Outcome) -> None:
    rows = house.rows()
    outcome.ways = Counter(f"{row.state} by {row.route}" for row in rows)
    outcome.sent_again = sum(row.attempts > 1 for row in rows)
    outcome.reconciled = sum(row.round > 0 for row in rows)
    outcome.broken += [f"row {row.ledger_id} is {row.state}: {row.last_error}" for row in rows if row.state != "done"]
    written = {row.id for row in read_ledger(house.database)}
    known = {row.ledger_id for row in rows}
    if written != known:
        outcome.broken.append(f"{len(written ^ known)} ledger rows without an outbox row")
    with house.database.read() as connection:
        query = sa.select(sa.func.count()).select_from(billing_settlements)
        outcome.corrected = connection.scalar(query.where(billing_settlements.c.invoice_item_id != "")) or 0


def _by_minute(house: StripeHouse, clinic: str, outcome: Outcome) -> None:
    """As many live events in each minute as charges went to the meter, less those that were cancelled there."""
    charges = billing_outbox.alias()
    metered_at = sa.func.coalesce(charges.c.metered_at, billing_outbox.c.metered_at).label("metered_at")
    query = (
        sa.select(billing_outbox.c.route, metered_at)
        .join(ledger, ledger.c.id == billing_outbox.c.ledger_id)
        .outerjoin(charges, charges.c.ledger_id == ledger.c.corrects)
        .where(billing_outbox.c.clinic == clinic, billing_outbox.c.route.in_((Route.METER, Route.CANCEL)))
    )
    wanted: Counter[float] = Counter()
    with house.database.read() as connection:
        for row in connection.execute(query):
            wanted[_minute(row.metered_at)] += 1 if row.route == Route.METER else -1
    customer = house.account(clinic).customer_id
    counted: Counter[float] = Counter(
        event["timestamp"] // 60 * 60
        for event in house.server.account.all("billing.meter_event")
        if event["payload"]["stripe_customer_id"] == customer and event["cancelled_at"] is None
    )
    for minute in wanted.keys() | counted.keys():
        outcome.lost += max(0, wanted[minute] - counted[minute])
        outcome.double += max(0, counted[minute] - wanted[minute])


def _by_item(house: StripeHouse, clinic: str, outcome: Outcome) -> None:
    """One invoice item for each row that became one, and none for any other."""
    made = Counter(
        int(item["metadata"]["collimator_ledger_id"])
        for item in house.items(clinic)
        if "collimator_ledger_id" in item["metadata"]
    )
    wanted = {row.ledger_id for row in house.rows() if row.clinic == clinic and row.route == Route.INVOICE_ITEM}
    outcome.lost += len(wanted - made.keys())
    outcome.double += sum(count - (ledger_id in wanted) for ledger_id, count in made.items())


def _in_all(house: StripeHouse, clinic: str, outcome: Outcome) -> None:
    """Usage by the ledger, by the meter with the items of rows, and by the sum of the final invoices."""
    rows = read_ledger(house.database, clinic=clinic)
    named = sum(row.amount_usd_cents is not None for row in rows)
    net = sum(1 if row.kind == "charge" else -1 for row in rows) + named  # these studies stay on the bill
    usages = [ledger_usage(house.database, clinic, period) for period in _periods(house, clinic)]
    invoiced = house.invoiced(clinic)
    of_rows = [item["metadata"] for item in house.items(clinic) if "collimator_ledger_id" in item["metadata"]]
    if sum(usage.studies for usage in usages) != net:
        outcome.broken.append(f"{clinic}: the ledger's periods add up to other than its rows")
    outcome.ledger_studies += net
    outcome.ledger_cents += sum(usage.usd_cents for usage in usages)
    outcome.stripe_studies += house.counted(clinic) + sum(int(one["collimator_studies"]) for one in of_rows)
    outcome.invoice_studies += invoiced["studies"]
    outcome.invoice_cents += invoiced["cents"]
    outcome.months = max(outcome.months, len(usages) - 1)


def _periods(house: StripeHouse, clinic: str) -> list[Period]:
    with house.database.read() as connection:
        calendar = calendar_of(connection, clinic=clinic)
    return list(calendar.periods_between(house.account(clinic).begun_at, house.now))


def _minute(moment: datetime) -> float:
    return minute_of(moment).timestamp()
