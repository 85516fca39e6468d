"""What the three subscriptions cost and hold, as it is written in the price list."""

from dataclasses import replace

import pytest

from domain.plans import (
    PLANS,
    Plan,
    Tier,
    UsageTier,
    alert_at,
    basis_of,
    has_grace,
    has_room,
    price_of,
    wrong_with,
)

LIGHT = UsageTier(name="light use", up_to=200, price_usd_cents=45)
MODERATE = UsageTier(name="moderate use", up_to=400, price_usd_cents=40)
HEAVY = UsageTier(name="heavy use", up_to=None, price_usd_cents=35)


@pytest.mark.parametrize(
    ("tier", "price_usd_cents", "studies_per_month", "packages"),
    [
        ("basic", 2900, 100, {"chest"}),
        ("professional", 7900, 300, {"chest", "bone_fracture", "dental", "pediatric_chest"}),
        ("enterprise", 19900, None, {"chest", "bone_fracture", "dental", "pediatric_chest", "spine"}),
    ],
)
def test_a_plan_is_as_it_is_sold(
    tier: str, price_usd_cents: int, studies_per_month: int | None, packages: set[str]
) -> None:
    plan = PLANS[Tier(tier)]
    assert plan.price_usd_cents == price_usd_cents
    assert plan.studies_per_month == studies_per_month
    assert plan.packages == packages


def test_there_are_three_plans_and_a_dearer_one_weighs_more_in_a_busy_queue() -> None:
    assert [str(tier) for tier in PLANS] == ["basic", "professional", "enterprise"]
    assert [plan.queue_weight for plan in PLANS.values()] == [1, 2, 4]


@pytest.mark.parametrize(
    ("tier", "used", "fits"),
    [
        ("basic", 0, True),
        ("basic", 99, True),
        ("basic", 100, False),
        ("basic", 101, False),
        ("enterprise", 10**9, True),
    ],
)
def test_a_study_fits_while_less_than_the_quota_is_used(tier: str, used: int, fits: bool) -> None:
    assert has_room(PLANS[Tier(tier)], used) is fits


def basic(**changes: object) -> Plan:
    return replace(PLANS[Tier.BASIC], **changes)  # type: ignore[arg-type]


def test_no_plan_has_an_overage_price_unless_the_operator_sets_one() -> None:
    assert [plan.usage_tiers for plan in PLANS.values()] == [(), (), ()]
    assert price_of(PLANS[Tier.BASIC], 101) == 0


@pytest.mark.parametrize(
    ("number", "price", "basis"),
    [
        (1, 0, "included"),
        (100, 0, "included"),
        (101, 45, "usage"),
        (200, 45, "usage"),
        (201, 40, "usage"),
        (400, 40, "usage"),
        (401, 35, "usage"),
        (10**6, 35, "usage"),
    ],
)
def test_with_usage_tiers_each_study_has_the_price_of_its_place_in_the_period(
    number: int, price: int, basis: str
) -> None:
    plan = basic(usage_tiers=(LIGHT, MODERATE, HEAVY))
    assert (price_of(plan, number), basis_of(plan, number)) == (price, basis)
    assert has_room(plan, number - 1)


def test_after_the_last_usage_tier_that_ends_work_waits() -> None:
    plan = basic(usage_tiers=(LIGHT, MODERATE))
    assert has_room(plan, 399)
    assert not has_room(plan, 400)
    assert (price_of(plan, 401), basis_of(plan, 401)) == (0, "grace")


@pytest.mark.parametrize(("used", "fits"), [(99, True), (100, True), (109, True), (110, False)])
def test_so_many_stat_studies_go_through_on_grace(used: int, fits: bool) -> None:
    assert has_grace(basic(grace_studies=10), used) is fits


def test_grace_begins_where_the_last_price_ends() -> None:
    plan = basic(usage_tiers=(LIGHT,), grace_studies=1)
    assert [has_grace(plan, used) for used in (199, 200, 201)] == [True, True, False]


@pytest.mark.parametrize(
    ("included", "number", "percent"),
    [
        (100, 79, None),
        (100, 80, 80),
        (100, 81, None),
        (100, 100, 100),
        (100, 101, None),
        (3, 3, 100),
        (1, 1, 100),
        (7, 6, 80),
        (None, 80, None),
        (0, 1, None),
    ],
)
def test_one_study_is_the_first_to_reach_80_and_one_to_reach_100_percent(
    included: int | None, number: int, percent: int | None
) -> None:
    assert alert_at(basic(studies_per_month=included), number) == percent


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price_usd_cents": -1}, "a price is below 0"),
        ({"usage_tiers": (replace(LIGHT, price_usd_cents=-1),)}, "a price is below 0"),
        ({"usage_tiers": (MODERATE, LIGHT)}, "usage tier 'light use' ends at 200, where 400 are spoken for already"),
        ({"usage_tiers": (LIGHT, LIGHT)}, "ends at 200, where 200 are spoken for already; sort them by up_to"),
        ({"usage_tiers": (replace(LIGHT, up_to=100),)}, "ends at 100, where 100 are spoken for already"),
        ({"usage_tiers": (HEAVY, LIGHT)}, "comes after one without up_to, which holds for all; put that one last"),
        ({"usage_tiers": (HEAVY,), "studies_per_month": None}, "an unlimited plan includes every study"),
    ],
)
def test_terms_that_cannot_be_meant_are_named_with_what_to_do(changes: dict[str, object], said: str) -> None:
    assert said in (wrong_with(basic(**changes)) or "")


def test_terms_that_can_be_meant_are_not_complained_about() -> None:
    assert [wrong_with(plan) for plan in PLANS.values()] == [None, None, None]
    assert wrong_with(basic(usage_tiers=(LIGHT, MODERATE, HEAVY))) is None
