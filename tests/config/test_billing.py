"""Plans and billing in the configuration: laid over what the node comes with, or refused with what to do."""

from typing import Any

import pytest

from config.settings import Settings, check
from domain.billing import Payer
from domain.errors import Misconfigured
from domain.periods import PeriodRule
from domain.plans import PLANS, Tier, UsageTier


def clinic(**billing: object) -> dict[str, Any]:
    return {"clinics": [{"name": "mercy", "tier": "basic", "billing": billing}]}


def read(content: dict[str, Any]) -> Settings:
    return check(content, origin="test")


def test_without_a_word_the_plans_are_those_that_the_node_comes_with() -> None:
    assert read({}).plans.plans == PLANS


def test_a_key_of_a_plan_is_laid_over_its_own_and_the_others_stay() -> None:
    tiers = [{"name": "light use", "up_to": 200, "price_usd_cents": 45}, {"price_usd_cents": 30}]
    plans = read({"plans": {"basic": {"price_usd_cents": 3900, "usage_tiers": tiers, "trial_days": 14}}}).plans.plans
    basic = plans[Tier.BASIC]
    assert (basic.price_usd_cents, basic.trial_days, basic.studies_per_month) == (3900, 14, 100)
    assert basic.usage_tiers == (
        UsageTier(name="light use", up_to=200, price_usd_cents=45),
        UsageTier(name="", up_to=None, price_usd_cents=30),
    )
    assert plans[Tier.PROFESSIONAL] == PLANS[Tier.PROFESSIONAL]


@pytest.mark.parametrize(("written", "means"), [("unlimited", None), (0, 0), (250, 250)])
def test_a_plan_includes_a_number_of_studies_or_every_one(written: object, means: int | None) -> None:
    assert read({"plans": {"basic": {"studies_per_month": written}}}).plans.plans[Tier.BASIC].studies_per_month == means


def test_a_clinics_side_of_the_bill_is_read() -> None:
    one = read(
        {"billing": {"name": "Radiograph Services Inc."}}
        | clinic(
            period="anniversary",
            anchor=31,
            time_zone="Europe/Berlin",
            payer="invoice",
            name="Klinikum",
            tax_id="DE 1",
            purchase_order="PO 7",
            address=["Hauptstraße 5"],
        )
    ).clinic_directory[0]
    assert one.billing.periods == PeriodRule(anchor_day=31, time_zone="Europe/Berlin")
    assert (one.billing.payer, one.billing.purchase_order) == (Payer.INVOICE, "PO 7")
    assert (one.billing.bill_to.name, one.billing.bill_to.address) == ("Klinikum", ("Hauptstraße 5",))


def test_without_a_word_a_clinic_has_calendar_months_in_utc_and_nobody_bills_it() -> None:
    (one,) = read({"clinics": [{"name": "mercy", "tier": "basic"}]}).clinic_directory
    assert (one.billing.periods, one.billing.payer) == (PeriodRule(), Payer.NONE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"clinics": [{"name": "mercy", "tier": "gold"}]}, "clinics.0.tier: Input should be 'basic', 'professional'"),
        ({"plans": {"gold": {}}}, "plans: there is no tier gold; the tiers are basic, professional, enterprise"),
        ({"plans": {"basic": {"price_usd_cents": -1}}}, "plans.basic.price_usd_cents: Input should be greater than or"),
        ({"plans": {"basic": {"price_usd_cents": 29.5}}}, "plans.basic.price_usd_cents: Input should be a valid int"),
        ({"plans": {"basic": {"price": 1}}}, "plans.basic.price: there is no such key"),
        (
            {
                "plans": {
                    "basic": {
                        "usage_tiers": [{"up_to": 300, "price_usd_cents": 1}, {"up_to": 200, "price_usd_cents": 1}]
                    }
                }
            },
            "plans.basic: usage tier '' ends at 200, where 300 are spoken for already; sort them by up_to",
        ),
        (
            {"plans": {"enterprise": {"usage_tiers": [{"price_usd_cents": 1}]}}},
            "an unlimited plan includes every study, so usage_tiers would never count; set studies_per_month",
        ),
        (clinic(period="anniversary"), "anchor must say on which day of the month it begins, 1 to 31"),
        (clinic(period="anniversary", anchor=32), "clinics.0.billing.anchor: Input should be less than or equal to 31"),
        (clinic(anchor=15), 'anchor is 15, so period must be "anniversary"'),
        (clinic(time_zone="Mars/Olympus"), 'a time zone of the IANA database is expected, such as "Europe/Berlin"'),
        (clinic(time_zone="../../etc/passwd"), "a time zone of the IANA database is expected"),
        (clinic(payer="barter"), "clinics.0.billing.payer: Input should be 'none', 'invoice' or 'stripe'"),
        (clinic(payer="invoice"), "mercy pays by invoice, so billing.name must say who writes the invoices"),
        ({"billing": {"number_prefix": "20/26-"}}, "billing.number_prefix: String should match pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_key_and_what_to_do(content: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read(content)
    assert said in caught.value.message
