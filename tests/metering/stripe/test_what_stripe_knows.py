"""What is at Stripe: customers, plans, entitlements and links, and nothing of any patient."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.errors import Refuse, Retry
from domain.plans import PLANS, Tier, UsageTier, price_of
from metering.billing_status import read_status
from metering.entitlements import are_known, with_entitlements
from metering.quota import reserve, why_none
from metering.stripe.catalogue import ensure_catalogue, graduated_tiers
from storage.database import Database
from tests.factories.stripe_house import ST_MARY, StripeHouse
from tests.stripe_server.catalogue import amount_for
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.server import StripeServer
from tests.stripe_server.sessions import complete_checkout

PHI = ("1.2.826.0.1.3680043.8.498.77", "DOE^JANE", "PID-4711", "2.25.4711")


def test_no_study_instance_uid_and_nothing_of_a_patient_reaches_stripe(house: StripeHouse) -> None:
    """Through every route: the meter, a cancellation, invoice items, settlements, links."""
    for number in range(4):
        house.charge(f"{PHI[0]}.{number}")
    house.send()
    house.credit(f"{PHI[0]}.0")
    house.send()
    house.pass_by(days=2)
    house.credit(f"{PHI[0]}.1")
    house.pass_by(days=20)
    house.billing.round()
    house.billing.portal("st-mary", return_url="http://127.0.0.1/usage")
    assert len(house.server.journal) > 20
    said = "\n".join(house.server.journal)
    assert not [canary for canary in (*PHI, "1.2.826", "2.25.") if canary in said]
    # Nor a name of this machine, which Stripe's library would add to every request.
    assert "telemetry" not in said.lower()


def test_the_same_study_has_another_identifier_for_another_clinic(database: Database, server: StripeServer) -> None:
    mercy = replace(ST_MARY, name="mercy", tier=Tier.BASIC)
    house = StripeHouse(database, server, clinics=(ST_MARY, mercy))
    for clinic in ("st-mary", "mercy"):
        house.subscribe(clinic)
        house.charge("1.2.3", clinic=clinic)
    house.send()
    identifiers = {event["identifier"] for event in server.account.all("billing.meter_event")}
    assert len(identifiers) == 2
    assert all(len(identifier) == 64 for identifier in identifiers)


def test_the_catalogue_is_made_once(house: StripeHouse) -> None:
    before = {kind: len(objects) for kind, objects in house.server.account.objects.items()}
    again = ensure_catalogue(house.client, PLANS)
    assert again == house.billing.catalogue()
    assert {kind: len(objects) for kind, objects in house.server.account.objects.items()} == before
    assert (before["billing.meter"], before["product"], before["price"], before["entitlements.feature"]) == (1, 3, 6, 5)


def test_other_terms_are_other_prices_and_the_old_ones_stay(house: StripeHouse) -> None:
    dearer = {**PLANS, Tier.BASIC: replace(PLANS[Tier.BASIC], price_usd_cents=3900)}
    old, new = house.billing.catalogue(), ensure_catalogue(house.client, dearer)
    assert new.prices[Tier.BASIC].base != old.prices[Tier.BASIC].base
    assert new.prices[Tier.BASIC].usage == old.prices[Tier.BASIC].usage
    assert new.prices[Tier.PROFESSIONAL] == old.prices[Tier.PROFESSIONAL]
    amounts = [price["unit_amount"] for price in house.server.account.all("price") if "unit_amount" in price]
    assert sorted(amounts) == [2900, 3900, 7900, 19900]


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 300, 301, 450, 1000])
def test_a_graduated_price_costs_what_the_plan_says(tier: Tier, count: int) -> None:
    usage = (
        UsageTier(name="light", up_to=400, price_usd_cents=50),
        UsageTier(name="heavy", up_to=900, price_usd_cents=30),
    )
    plan = PLANS[tier] if PLANS[tier].studies_per_month is None else replace(PLANS[tier], usage_tiers=usage)
    tiers = [
        {"flat_amount": None} | one | {"up_to": None if one["up_to"] == "inf" else one["up_to"]}
        for one in graduated_tiers(plan)
    ]
    asked = amount_for({"billing_scheme": "tiered", "tiers": tiers}, count)
    assert asked == sum(price_of(plan, number) for number in range(1, count + 1))


def test_a_customer_whose_answer_was_lost_is_found_again(database: Database, server: StripeServer) -> None:
    house = StripeHouse(database, server)
    server.script.then(Misfortune.LOST_ANSWER, path="/v1/customers$")
    with pytest.raises(Retry, match="Stripe does not answer"):
        house.subscribe()
    house.subscribe()
    assert len(server.account.all("customer")) == 1
    assert len(server.account.all("subscription")) == 1


def test_a_subscription_begins_its_periods_on_the_ledgers_day(house: StripeHouse) -> None:
    (item, _) = house.server.account.all("subscription")[0]["items"]["data"]
    assert (house.account().period_ends_at or house.now).isoformat() == "2026-12-01T00:00:00+00:00"
    assert item["current_period_end"] == 1796083200
    (invoice,) = house.server.account.all("invoice")
    # Ten and a half of thirty days of 79 dollars.
    assert invoice["total"] == 2765


def test_a_plan_that_is_changed_at_stripe_is_changed_here(house: StripeHouse) -> None:
    house.billing.put_on_plan("st-mary", Tier.ENTERPRISE)
    (status,) = read_status(house.database, now=house.now)
    assert (status.tier, status.packages) == (
        "enterprise",
        ("bone_fracture", "chest", "dental", "pediatric_chest", "spine"),
    )
    with pytest.raises(Refuse, match="is on the enterprise plan already"):
        house.billing.put_on_plan("st-mary", Tier.ENTERPRISE)


def test_what_was_bought_at_stripe_is_what_may_be_analysed(house: StripeHouse) -> None:
    plan = PLANS[Tier.PROFESSIONAL]
    attached = house.server.account.objects["product_feature"]
    for name in [
        name for name, one in attached.items() if one["entitlement_feature"]["lookup_key"] == "collimator_dental"
    ]:
        del attached[name]
    house.billing.refresh_all()
    with house.database.read() as connection:
        assert with_entitlements(connection, plan, clinic="st-mary").packages == plan.packages - {"dental"}
        assert with_entitlements(connection, plan, clinic="mercy").packages == plan.packages


def test_the_last_answer_is_good_for_72_hours_then_new_studies_wait(house: StripeHouse) -> None:
    def takes(uid: str) -> bool:
        with house.database.write() as connection:
            return reserve(connection, clinic="st-mary", study_instance_uid=uid, now=house.now)

    house.server.script.is_away = True
    house.pass_by(hours=72)
    house.billing.round()
    assert takes("1.2.1")
    house.pass_by(minutes=1)
    assert not takes("1.2.2")
    with house.database.read() as connection:
        refusal = why_none(connection, clinic="st-mary", now=house.now)
        assert not are_known(connection, clinic="st-mary", now=house.now)
    assert (refusal.reason, refusal.hint) == (
        "no_subscription",
        "Stripe has not answered for 72 hours; the study is analysed by itself when it does",
    )
    house.server.script.peace()
    house.pass_by(minutes=30)
    house.billing.round()
    assert takes("1.2.2")


def test_a_clinic_subscribes_in_checkout(database: Database, server: StripeServer) -> None:
    house = StripeHouse(database, server)
    link = house.billing.checkout("st-mary", tier=None, return_url="http://127.0.0.1/usage")
    assert link.startswith("https://checkout.stripe.com/")
    complete_checkout(server.account, link.rpartition("/")[2])
    house.billing.refresh_all()
    assert (house.account().status, house.account().tier) == ("active", "professional")
    assert (house.account().period_ends_at or house.now) - house.now == timedelta(days=10, hours=12)
    with pytest.raises(Refuse, match="has a subscription already"):
        house.billing.checkout("st-mary", tier=None, return_url="http://127.0.0.1/usage")


def test_a_clinic_that_pays_otherwise_has_no_links(house: StripeHouse) -> None:
    with pytest.raises(Refuse, match="'mercy' does not pay by Stripe"):
        house.billing.portal("mercy", return_url="http://127.0.0.1/usage")
