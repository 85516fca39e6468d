"""At the end of a period Stripe has billed what the ledger says, to the cent; where not, an item makes up for it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from domain.plans import PLANS, Tier, UsageTier
from metering.stripe.settle import ledger_usage
from metering.subscriptions import calendar_of
from storage.database import Database
from storage.tables import billing_settlements
from tests.factories.stripe_house import StripeHouse
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.server import StripeServer

DECEMBER_THIRD = datetime(2026, 12, 3, 12, 0, tzinfo=UTC)
# Two studies are included, the next two are 5 dollars each, and all others 3.
METERED = {
    tier: replace(
        plan,
        studies_per_month=included,
        usage_tiers=(
            UsageTier(name="light", up_to=included + 2, price_usd_cents=500),
            UsageTier(name="heavy", up_to=None, price_usd_cents=300),
        ),
    )
    for tier, plan, included in ((Tier.BASIC, PLANS[Tier.BASIC], 1), (Tier.PROFESSIONAL, PLANS[Tier.PROFESSIONAL], 2))
} | {Tier.ENTERPRISE: PLANS[Tier.ENTERPRISE]}


@pytest.fixture
def house(database: Database, server: StripeServer) -> StripeHouse:
    house = StripeHouse(database, server, plans=METERED)
    house.subscribe()
    return house


def settlements(house: StripeHouse) -> list[tuple[int, int, int, int, bool]]:
    """Ledger and Stripe, each in studies and cents, and whether an item had to make up for it."""
    table = billing_settlements.c
    with house.database.read() as connection:
        rows = connection.execute(sa.select(billing_settlements).order_by(table.period, table.number)).all()
    return [
        (row.ledger_studies, row.ledger_usd_cents, row.stripe_studies, row.stripe_usd_cents, bool(row.invoice_item_id))
        for row in rows
    ]


def owed(house: StripeHouse) -> tuple[int, int]:
    """By the ledger, for November."""
    with house.database.read() as connection:
        period = calendar_of(connection, clinic="st-mary").period_named("2026-11")
    assert period is not None
    usage = ledger_usage(house.database, "st-mary", period)
    return usage.studies, usage.usd_cents


def billed(house: StripeHouse) -> tuple[int, int]:
    sums = house.invoiced()
    return sums["studies"], sums["cents"]


def close_november(house: StripeHouse) -> None:
    house.send()
    house.move_to(DECEMBER_THIRD)
    house.billing.round()


def test_where_everything_went_well_ledger_and_invoice_are_the_same(house: StripeHouse) -> None:
    house.charge(*(f"1.2.{number}" for number in range(6)))
    close_november(house)
    assert settlements(house) == [(6, 1600, 6, 1600, False)]
    assert owed(house) == billed(house) == (6, 1600)


def test_a_credit_that_makes_later_studies_cheaper_is_made_up_for(house: StripeHouse) -> None:
    """The first of six was free; without it the third is free, and the fifth costs 5 dollars and not 3."""
    house.charge(*(f"1.2.{number}" for number in range(6)))
    house.send()
    house.pass_by(days=2)
    house.credit("1.2.0")
    close_november(house)
    assert settlements(house) == [(5, 1300, 5, 1600, True)]
    assert owed(house) == billed(house) == (5, 1300)


def test_a_credit_after_the_invoice_settles_the_period_once_more(house: StripeHouse) -> None:
    house.charge(*(f"1.2.{number}" for number in range(6)))
    close_november(house)
    house.credit("1.2.0")
    for _ in range(2):
        house.pass_by(hours=2)
        house.billing.round()
    assert settlements(house) == [(6, 1600, 6, 1600, False), (5, 1300, 5, 1600, True)]
    assert owed(house) == billed(house) == (5, 1300)


def test_a_credit_that_comes_while_the_correction_has_no_answer_is_not_forgotten(house: StripeHouse) -> None:
    """The first correction was made and its answer lost; what is lacking after the second credit is made as well."""
    house.charge(*(f"1.2.{number}" for number in range(6)))
    house.send()
    house.pass_by(days=2)
    house.credit("1.2.0")
    house.send()
    house.server.script.then(Misfortune.LOST_ANSWER, path="POST /v1/invoiceitems$")
    house.move_to(DECEMBER_THIRD)
    house.billing.round()
    assert (settlements(house), len(house.items())) == ([], 2)
    house.credit("1.2.1")
    for _ in range(3):
        house.billing.round()
        house.pass_by(hours=2)
    assert owed(house) == billed(house) == (4, 1000)


def test_a_plan_that_changes_in_mid_period_is_billed_as_the_ledger_counts(house: StripeHouse) -> None:
    """Stripe counts from one again under the new price; the ledger goes on counting."""
    house.charge("1.2.0", "1.2.1", "1.2.2")
    house.billing.put_on_plan("st-mary", Tier.BASIC)
    house.pass_by(hours=1)
    house.charge("1.2.3", "1.2.4", "1.2.5")
    close_november(house)
    assert owed(house) == billed(house)
    ((studies, _, seen, _, is_made_up),) = settlements(house)
    assert (studies, seen, is_made_up) == (6, 6, True)


def test_what_stripe_counted_too_late_for_its_invoice_is_made_up_for(house: StripeHouse) -> None:
    house.move_to(datetime(2026, 11, 30, 23, 0, tzinfo=UTC))
    house.charge("1.2.0", "1.2.1", "1.2.2")
    house.server.account.lag_s = 3 * 3600.0
    close_november(house)
    assert settlements(house) == [(3, 500, 0, 0, True)]
    assert owed(house) == billed(house) == (3, 500)


def test_nothing_is_settled_while_a_row_is_not_done_or_an_invoice_is_a_draft(house: StripeHouse) -> None:
    house.charge("1.2.0")
    house.server.script.is_away = True
    house.send()
    house.move_to(datetime(2026, 12, 1, 0, 30, tzinfo=UTC))
    house.server.script.peace()
    house.billing.round()
    assert settlements(house) == []
    for _ in range(4):
        house.pass_by(hours=13)
        house.billing.round()
    assert settlements(house) == [(1, 0, 1, 0, False)]
    assert owed(house) == billed(house) == (1, 0)
