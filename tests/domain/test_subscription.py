"""What each state of a subscription means for new work, and what time alone makes of it."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.plans import PLANS, Tier
from domain.subscription import EFFECTS, Subscription, SubscriptionState

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def subscription(state: str, *, trial_days: int | None = None) -> Subscription:
    return Subscription(
        clinic="mercy",
        plan=PLANS[Tier.BASIC],
        state=SubscriptionState(state),
        state_since=BEGAN,
        begins_at=BEGAN,
        trial_ends_at=None if trial_days is None else BEGAN + timedelta(days=trial_days),
    )


@pytest.mark.parametrize(
    ("state", "takes_work", "is_paid"),
    [
        ("trialing", True, False),
        ("active", True, True),
        ("past_due", True, True),
        ("unpaid", False, False),
        ("paused", False, False),
        ("cancelled", False, False),
    ],
)
def test_each_state_has_one_effect_on_work_and_one_on_the_price(state: str, takes_work: bool, is_paid: bool) -> None:
    effect = EFFECTS[SubscriptionState(state)]
    assert (effect.takes_work, effect.is_paid) == (takes_work, is_paid)
    assert effect.meaning


def test_no_state_is_without_an_effect() -> None:
    assert set(EFFECTS) == set(SubscriptionState)


@pytest.mark.parametrize(
    ("state", "after", "becomes"),
    [
        ("trialing", timedelta(days=13, hours=23), "trialing"),
        ("trialing", timedelta(days=14), "active"),
        ("past_due", timedelta(days=13, hours=23), "past_due"),
        ("past_due", timedelta(days=14), "unpaid"),
        ("active", timedelta(days=900), "active"),
        ("paused", timedelta(days=900), "paused"),
    ],
)
def test_a_trial_ends_by_itself_and_so_does_patience(state: str, after: timedelta, becomes: str) -> None:
    one = subscription(state, trial_days=14 if state == "trialing" else None)
    assert one.state_at(BEGAN + after) == becomes
    assert one.takes_work(BEGAN + after) is (becomes in ("trialing", "active", "past_due"))


def test_a_trial_without_an_end_goes_on() -> None:
    assert subscription("trialing").state_at(BEGAN + timedelta(days=900)) == "trialing"
