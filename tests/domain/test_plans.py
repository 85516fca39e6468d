"""What the three subscriptions cost and hold, as it is written in the price list."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from domain.plans import PLANS, Tier, billing_period, has_room


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


@pytest.mark.parametrize(
    ("moment", "period"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "2026-11"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12"),
        (datetime(2027, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=9))), "2026-12"),
        (datetime(2026, 12, 31, 22, 0, tzinfo=timezone(timedelta(hours=-5))), "2027-01"),
    ],
)
def test_a_study_counts_towards_the_calendar_month_in_utc(moment: datetime, period: str) -> None:
    assert billing_period(moment) == period
