"""What a period costs, to the cent: plans by the time, studies by their place, credits, and nothing twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.invoice import MICROSECOND, Bill, Charge, Credit, Line, bill_of, dollars, segments, share_of
from domain.periods import Period, PeriodRule
from domain.plans import PLANS, Basis, Plan, Tier, UsageTier
from domain.subscription import Subscription, SubscriptionState

NOVEMBER = PeriodRule().period_at(datetime(2026, 11, 20, tzinfo=UTC))
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
BASIC, PROFESSIONAL = PLANS[Tier.BASIC], PLANS[Tier.PROFESSIONAL]
METERED = replace(
    BASIC,
    studies_per_month=3,
    usage_tiers=(
        UsageTier(name="light use", up_to=5, price_usd_cents=45),
        UsageTier(name="heavy use", up_to=None, price_usd_cents=30),
    ),
)


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 11, number, hour, tzinfo=UTC)


def held(
    plan: Plan,
    begins_at: datetime = BEGAN,
    ends_at: datetime | None = None,
    state: str = "active",
    trial_ends_at: datetime | None = None,
) -> Subscription:
    return Subscription(
        clinic="mercy",
        plan=plan,
        state=SubscriptionState(state),
        state_since=begins_at,
        begins_at=begins_at,
        ends_at=ends_at,
        trial_ends_at=trial_ends_at,
    )


def charges(count: int, plan: Plan, basis: Basis = Basis.INCLUDED, first: int = 1) -> list[Charge]:
    return [
        Charge(
            ledger_id=number,
            study_instance_uid=f"1.2.{number}",
            charged_at=day(2) + timedelta(minutes=number),
            packages=("chest",),
            plan=plan,
            basis=basis,
        )
        for number in range(first, first + count)
    ]


def amounts(bill: Bill) -> list[tuple[str, int]]:
    return [(line.text, line.amount_usd_cents) for line in bill.lines]


def test_a_whole_period_on_one_plan_costs_its_price_and_its_studies_nothing() -> None:
    bill = bill_of(NOVEMBER, [held(BASIC)], charges(7, BASIC), [])
    assert bill.lines == (
        Line(text="Plan basic", amount_usd_cents=2900),
        Line(text="Studies included in the plan basic", amount_usd_cents=0, quantity=7, unit_usd_cents=0),
    )
    assert bill.total_usd_cents == 2900


def test_an_upgrade_in_mid_period_is_paid_by_the_time_of_each_plan() -> None:
    """Ten of thirty days at 29.00, twenty at 79.00."""
    bill = bill_of(NOVEMBER, [held(BASIC, ends_at=day(11)), held(PROFESSIONAL, day(11))], [], [])
    assert amounts(bill) == [
        ("Plan basic, 2026-11-01 00:00 to 2026-11-11 00:00 UTC", 967),
        ("Plan professional, 2026-11-11 00:00 to 2026-12-01 00:00 UTC", 5267),
    ]


def test_a_downgrade_gives_back_the_time_that_is_not_used() -> None:
    bill = bill_of(NOVEMBER, [held(PROFESSIONAL, ends_at=day(16)), held(BASIC, day(16))], [], [])
    assert bill.total_usd_cents == 3950 + 1450


def test_a_clinic_that_began_in_mid_period_pays_from_then_on() -> None:
    assert bill_of(NOVEMBER, [held(BASIC, day(16))], [], []).total_usd_cents == 1450


def test_a_trial_costs_nothing_and_the_plan_is_paid_from_its_end_on() -> None:
    trial = held(BASIC, day(1), state="trialing", trial_ends_at=day(16))
    assert amounts(bill_of(NOVEMBER, [trial], charges(2, BASIC, Basis.TRIAL), [])) == [
        ("Plan basic, trialing, 2026-11-01 00:00 to 2026-11-16 00:00 UTC", 0),
        ("Plan basic, 2026-11-16 00:00 to 2026-12-01 00:00 UTC", 1450),
        ("Studies on trial", 0),
    ]


def test_time_that_is_not_served_is_not_paid_for() -> None:
    """Past due for 14 days is served; unpaid from then on is not, and a pause is not."""
    late = held(BASIC, day(2), day(21), state="past_due")
    paused = held(BASIC, day(21), state="paused")
    assert amounts(bill_of(NOVEMBER, [held(BASIC, ends_at=day(2)), late, paused], [], [])) == [
        ("Plan basic, 2026-11-01 00:00 to 2026-11-16 00:00 UTC", 1450),
        ("Plan basic, unpaid, 2026-11-16 00:00 to 2026-11-21 00:00 UTC", 0),
        ("Plan basic, paused, 2026-11-21 00:00 to 2026-12-01 00:00 UTC", 0),
    ]


def test_studies_beyond_the_included_ones_cost_what_their_place_costs() -> None:
    bill = bill_of(NOVEMBER, [held(METERED)], charges(8, METERED), [])
    assert amounts(bill)[1:] == [
        ("Studies included in the plan basic", 0),
        ("Studies beyond those included: light use", 90),
        ("Studies beyond those included: heavy use", 90),
    ]
    assert [study.price_usd_cents for study in bill.studies] == [0, 0, 0, 45, 45, 30, 30, 30]
    assert [study.number for study in bill.studies] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_downgrade_never_harms_what_was_charged_before_it() -> None:
    """Five studies under professional stay included; the sixth is the sixth of the period under the small plan."""
    both = [*charges(5, PROFESSIONAL), *charges(1, METERED, first=6)]
    assert [study.price_usd_cents for study in bill_of(NOVEMBER, [], both, []).studies] == [0, 0, 0, 0, 0, 30]


def test_stat_on_grace_and_studies_on_trial_cost_nothing() -> None:
    capped = replace(BASIC, studies_per_month=1, grace_studies=5)
    bill = bill_of(NOVEMBER, [], charges(2, capped), [])
    assert [(study.basis, study.price_usd_cents) for study in bill.studies] == [("included", 0), ("grace", 0)]
    trial = bill_of(NOVEMBER, [], charges(9, METERED, Basis.TRIAL), [])
    assert {(study.basis, study.price_usd_cents) for study in trial.studies} == {("trial", 0)}


def test_a_credit_for_an_earlier_period_is_a_line_of_its_own_and_may_make_a_credit_note() -> None:
    credit = Credit(
        ledger_id=9,
        study_instance_uid="1.2.9",
        credited_at=day(3),
        of_period="2026-10",
        amount_usd_cents=45,
        why="wrong patient",
    )
    bill = bill_of(NOVEMBER, [held(BASIC, state="paused")], [], [credit])
    assert amounts(bill)[-1] == ("Credit for a study of period 2026-10: wrong patient", -45)
    assert bill.total_usd_cents == -45


@pytest.mark.parametrize(
    ("cents", "written"), [(0, "0.00"), (5, "0.05"), (-45, "-0.45"), (123456789, "1,234,567.89"), (-100, "-1.00")]
)
def test_cents_are_written_as_dollars(cents: int, written: str) -> None:
    assert dollars(cents) == written


cuts = st.lists(st.datetimes(datetime(2026, 10, 15), datetime(2026, 12, 15), timezones=st.just(UTC)), max_size=6)
plans = st.sampled_from((BASIC, PROFESSIONAL, PLANS[Tier.ENTERPRISE]))
states = st.sampled_from(tuple(SubscriptionState))


@st.composite
def histories(draw: st.DrawFn) -> list[Subscription]:
    """A subscription through changes at any moments, with no gap."""
    borders = [BEGAN, *sorted(draw(cuts))]
    return [
        held(draw(plans), begins_at, ends_at, state=draw(states))
        for begins_at, ends_at in zip(borders, [*borders[1:], None], strict=True)
    ]


@settings(deadline=None)
@given(histories())
def test_the_stretches_of_a_period_follow_each_other_and_fill_it(history: list[Subscription]) -> None:
    stretches = segments(NOVEMBER, history)
    assert stretches[0].begins_at == NOVEMBER.begins_at
    assert stretches[-1].ends_at == NOVEMBER.ends_at
    assert all(one.ends_at == after.begins_at for one, after in pairwise(stretches))
    assert all(one.begins_at < one.ends_at for one in stretches)


@settings(deadline=None)
@given(histories())
def test_a_price_by_time_is_never_off_by_more_than_a_cent_a_border(history: list[Subscription]) -> None:
    stretches = segments(NOVEMBER, history)
    whole = NOVEMBER.whole // MICROSECOND
    exact = sum(
        (
            Fraction(one.plan.price_usd_cents * ((one.ends_at - one.begins_at) // MICROSECOND), whole)
            for one in stretches
            if one.is_paid
        ),
        start=Fraction(0),
    )
    assert abs(Fraction(bill_of(NOVEMBER, history, [], []).total_usd_cents) - exact) <= len(stretches)


@settings(deadline=None)
@given(cuts, plans)
def test_however_often_a_plan_is_written_anew_its_period_costs_its_price(borders: list[datetime], plan: Plan) -> None:
    """The terms differ in what costs nothing, so that each is a line of its own."""
    edges = [BEGAN, *sorted(borders)]
    history = [
        held(replace(plan, grace_studies=number), begins_at, ends_at)
        for number, (begins_at, ends_at) in enumerate(zip(edges, [*edges[1:], None], strict=True))
    ]
    assert bill_of(NOVEMBER, history, [], []).total_usd_cents == plan.price_usd_cents


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 20), st.lists(st.tuples(st.integers(1, 20), st.integers(0, 99)), max_size=4))
def test_the_studies_on_the_bill_add_up_to_the_graduated_price_of_their_number(
    count: int, included: int, tiers: list[tuple[int, int]]
) -> None:
    bounds, steps = included, []
    for width, cents in tiers:
        bounds += width
        steps.append(UsageTier(name="", up_to=bounds, price_usd_cents=cents))
    plan = replace(BASIC, studies_per_month=included, usage_tiers=tuple(steps))
    bill = bill_of(NOVEMBER, [], charges(count, plan), [])
    by_hand, left = 0, max(0, count - included)
    for width, cents in tiers:
        by_hand += min(left, width) * cents
        left -= min(left, width)
    assert bill.total_usd_cents == by_hand == sum(study.price_usd_cents for study in bill.studies)
    assert sum(line.quantity or 0 for line in bill.lines) == count


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), max_size=10), st.integers(0, 10))
def test_a_total_is_the_sum_of_its_lines_and_every_credit_is_in_it(credits: list[int], count: int) -> None:
    given_back = [
        Credit(
            ledger_id=number,
            study_instance_uid="1.2.3",
            credited_at=day(3),
            of_period="2026-10",
            amount_usd_cents=amount,
            why="disputed",
        )
        for number, amount in enumerate(credits)
    ]
    without = bill_of(NOVEMBER, [held(METERED)], charges(count, METERED), []).total_usd_cents
    bill = bill_of(NOVEMBER, [held(METERED)], charges(count, METERED), given_back)
    assert bill.total_usd_cents == without - sum(credits)


@settings(deadline=None)
@given(st.integers(0, 10**7), st.integers(0, 31 * 86400))
def test_a_share_is_rounded_to_the_nearest_cent(price: int, seconds: int) -> None:
    part, whole = timedelta(seconds=seconds), timedelta(days=31)
    assert abs(share_of(price, part, whole) - Fraction(price * seconds, 31 * 86400)) <= Fraction(1, 2)


def test_a_period_that_a_change_of_rule_cut_short_costs_its_part_of_a_month() -> None:
    half = Period(key="2026-11", begins_at=day(1), ends_at=day(16), whole=timedelta(days=30))
    assert bill_of(half, [held(BASIC)], [], []).total_usd_cents == 1450
