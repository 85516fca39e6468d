"""What a clinic's subscription and its periods were at any moment, and who may change them to what."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from domain.billing import BillingTerms, Payer
from domain.clinics import Clinic
from domain.errors import Refuse
from domain.periods import PeriodRule
from domain.plans import PLANS, Tier
from domain.subscription import Subscription, SubscriptionState
from metering.subscriptions import (
    begin,
    calendar_of,
    change_tier,
    known_tier,
    period_at,
    set_state,
    subscription_at,
    subscriptions_of,
    sync_subscriptions,
)
from storage.audit import read_audit
from storage.database import Database
from storage.tables import subscriptions
from tests.metering.rows import NOW, pay, take

LATER = NOW + timedelta(days=3)
STRIPE, INVOICE = BillingTerms(payer=Payer.STRIPE), BillingTerms(payer=Payer.INVOICE)


def clinic(tier: str = "basic", billing: BillingTerms | None = None) -> Clinic:
    billing = billing or BillingTerms()
    return Clinic(name="mercy", tier=Tier(tier), sends_notes=False, callers=(), destinations=(), billing=billing)


def sync(database: Database, one: Clinic, *, now: datetime = NOW, **terms: object) -> None:
    plans = {tier: replace(plan, **terms) for tier, plan in PLANS.items()}  # type: ignore[arg-type]
    sync_subscriptions(database, [one], plans, now=now)


def change(database: Database, tier: Tier, at: datetime) -> bool:
    with database.write() as connection:
        return change_tier(connection, clinic="mercy", tier=tier, at=at, why="agreed on the phone", who="eva")


def bring(database: Database, state: str, at: datetime = NOW) -> bool:
    with database.write() as connection:
        return set_state(connection, clinic="mercy", state=SubscriptionState(state), at=at, why="agreed", who="eva")


def all_of(database: Database) -> list[Subscription]:
    with database.read() as connection:
        return subscriptions_of(connection, clinic="mercy")


def at(database: Database, moment: datetime) -> Subscription:
    with database.read() as connection:
        return subscription_at(connection, clinic="mercy", moment=moment)


def period(database: Database, moment: datetime) -> str:
    with database.read() as connection:
        return period_at(connection, clinic="mercy", moment=moment).key


def test_a_clinic_of_which_nothing_is_written_has_its_tiers_usual_plan(database: Database) -> None:
    one = at(database, NOW)
    assert (one.plan, one.state, period(database, NOW)) == (PLANS[Tier.BASIC], "active", "2026-11")


def test_the_configuration_opens_a_subscription_and_says_so_once(database: Database) -> None:
    sync(database, clinic())
    sync(database, clinic(), now=LATER)
    (one,) = all_of(database)
    assert (one.plan.tier, one.state, one.begins_at, one.ends_at) == ("basic", "active", NOW, None)
    (line,) = read_audit(database)
    assert (line.who, line.act, line.detail) == ("configuration", "subscribed", "basic, active: it was configured")


def test_a_plan_with_a_trial_begins_with_it(database: Database) -> None:
    sync(database, clinic(), trial_days=14)
    (one,) = all_of(database)
    assert (one.state, one.trial_ends_at) == ("trialing", NOW + timedelta(days=14))


def test_a_clinic_that_was_served_before_gets_no_trial(database: Database) -> None:
    pay(database, "1.2.3")
    sync(database, clinic(), trial_days=14)
    assert [(one.state, one.trial_ends_at) for one in all_of(database)] == [("active", None)]


def test_another_payer_is_asked_from_the_next_start_on(database: Database) -> None:
    sync(database, clinic())
    sync(database, clinic(billing=INVOICE), now=LATER)
    assert [(one.payer, one.begins_at) for one in all_of(database)] == [("none", NOW), ("invoice", LATER)]
    assert (read_audit(database)[-1].act, read_audit(database)[-1].detail) == ("payer_changed", "none to invoice")


@pytest.mark.parametrize("tier", ["professional", "enterprise"])
def test_another_tier_in_the_configuration_holds_from_its_next_start_on(database: Database, tier: str) -> None:
    sync(database, clinic())
    sync(database, clinic(tier), now=LATER)
    assert [(one.plan.tier, one.begins_at, one.ends_at) for one in all_of(database)] == [
        ("basic", NOW, LATER),
        (tier, LATER, None),
    ]
    assert [at(database, moment).plan.tier for moment in (LATER - timedelta(seconds=1), LATER)] == ["basic", tier]


def test_a_new_price_is_a_new_stretch_and_the_old_one_keeps_the_old_price(database: Database) -> None:
    sync(database, clinic())
    sync(database, clinic(), now=LATER, price_usd_cents=3100)
    assert [one.plan.price_usd_cents for one in all_of(database)] == [2900, 3100]
    assert read_audit(database)[-1].detail == "terms of basic: the configuration says so"


def test_of_a_clinic_that_pays_by_stripe_the_tier_is_stripes_to_say(database: Database) -> None:
    sync(database, clinic(billing=STRIPE))
    change(database, Tier.PROFESSIONAL, LATER)
    sync(database, clinic(billing=STRIPE), now=LATER + timedelta(days=1))
    assert all_of(database)[-1].plan.tier == "professional"


def test_of_any_other_clinic_the_configuration_has_the_last_word(database: Database) -> None:
    sync(database, clinic(billing=INVOICE))
    change(database, Tier.PROFESSIONAL, LATER)
    sync(database, clinic(billing=INVOICE), now=LATER + timedelta(days=1))
    assert all_of(database)[-1].plan.tier == "basic"


def test_states_follow_each_other_and_a_plan_keeps_the_state(database: Database) -> None:
    sync(database, clinic())
    assert bring(database, "past_due", LATER)
    assert change(database, Tier.PROFESSIONAL, LATER + timedelta(days=1))
    assert bring(database, "active", LATER + timedelta(days=2))
    assert [(one.plan.tier, str(one.state), one.state_since) for one in all_of(database)] == [
        ("basic", "active", NOW),
        ("basic", "past_due", LATER),
        ("professional", "past_due", LATER),
        ("professional", "active", LATER + timedelta(days=2)),
    ]


def test_saying_what_is_so_already_changes_nothing(database: Database) -> None:
    sync(database, clinic())
    assert not bring(database, "active", LATER)
    assert not change(database, Tier.BASIC, LATER)
    assert len(all_of(database)) == len(read_audit(database)) == 1


def test_who_changed_what_and_why_stands_in_the_audit_trail(database: Database) -> None:
    sync(database, clinic())
    bring(database, "paused", LATER)
    line = read_audit(database, clinic="mercy")[-1]
    assert (line.at, line.who, line.act, line.detail) == (LATER, "eva", "state_changed", "active to paused: agreed")


def test_a_change_before_the_last_one_is_refused_and_leaves_everything(database: Database) -> None:
    sync(database, clinic())
    bring(database, "paused", LATER)
    with pytest.raises(Refuse, match="was changed after 2026-11-20 12:00 UTC already") as caught:
        bring(database, "active", NOW)
    assert caught.value.reason == "overlapping_periods"
    assert "since 2026-11-23 12:00 UTC" in caught.value.hint
    assert [str(one.state) for one in all_of(database)] == ["active", "paused"]


def test_a_second_subscription_at_the_same_time_is_refused(database: Database) -> None:
    sync(database, clinic())

    def open_another() -> None:
        with database.write() as connection:
            begin(connection, clinic="mercy", plan=PLANS[Tier.ENTERPRISE], at=LATER, why="twice")

    with pytest.raises(Refuse, match="mercy has a subscription at 2026-11-23 12:00 UTC already"):
        open_another()
    assert len(all_of(database)) == 1


def test_the_database_itself_lets_only_one_go_on(database: Database) -> None:
    sync(database, clinic())

    def open_another() -> None:
        with database.write() as connection:
            row = dict(connection.execute(sa.select(subscriptions)).one()._mapping)
            connection.execute(sa.insert(subscriptions).values({**row, "id": 99}))

    with pytest.raises(sa.exc.IntegrityError):
        open_another()


def test_a_tier_that_nobody_sells_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refuse, match="there is no tier 'gold'") as caught:
        known_tier("gold")
    assert caught.value.hint == "the tiers are basic, professional, enterprise"


def test_a_clinics_own_periods_hold_at_once_where_nothing_was_metered(database: Database) -> None:
    sync(database, clinic(billing=BillingTerms(periods=PeriodRule(anchor_day=15))))
    assert [period(database, moment) for moment in (NOW, NOW - timedelta(days=6))] == ["2026-11-15", "2026-10-15"]


def test_other_periods_wait_for_their_own_beginning_where_something_was_metered(database: Database) -> None:
    pay(database, "1.2.3")
    sync(database, clinic(billing=BillingTerms(periods=PeriodRule(anchor_day=15))))
    sync(database, clinic(billing=BillingTerms(periods=PeriodRule(anchor_day=15))), now=LATER)
    mid_december = datetime(2026, 12, 15, tzinfo=UTC)
    assert [period(database, moment) for moment in (NOW, LATER, mid_december - timedelta(days=1), mid_december)] == [
        "2026-11",
        "2026-11",
        "2026-12",
        "2026-12-15",
    ]
    assert [line.act for line in read_audit(database)] == ["periods_changed", "subscribed"]


def test_a_change_of_periods_that_is_taken_back_in_time_leaves_no_trace_in_them(database: Database) -> None:
    pay(database, "1.2.3")
    sync(database, clinic(billing=BillingTerms(periods=PeriodRule(anchor_day=15))))
    sync(database, clinic(), now=LATER)
    with database.read() as connection:
        assert {one.rule for one in calendar_of(connection, clinic="mercy").rules} == {PeriodRule()}


@pytest.mark.parametrize("state", ["unpaid", "paused", "cancelled"])
def test_a_subscription_that_takes_no_work_has_no_quota_until_it_does_again(database: Database, state: str) -> None:
    sync(database, clinic())
    bring(database, state)
    assert not take(database, "1.2.3", now=LATER)
    bring(database, "active", LATER)
    assert take(database, "1.2.3", now=LATER)


def test_past_due_is_served_for_14_days(database: Database) -> None:
    sync(database, clinic())
    bring(database, "past_due")
    assert take(database, "1.2.3", now=NOW + timedelta(days=13, hours=23))
    assert not take(database, "1.2.4", now=NOW + timedelta(days=14))


def test_a_study_that_was_charged_is_revised_in_every_state(database: Database) -> None:
    sync(database, clinic())
    pay(database, "1.2.3")
    bring(database, "cancelled")
    assert take(database, "1.2.3", now=LATER)
