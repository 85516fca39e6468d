"""Billing periods tile time, whatever the anchor, the zone, daylight saving and changes of the rule do."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.periods import BillingCalendar, Period, PeriodRule, RuleFrom, changes_at

# The first five change or changed their clocks at midnight; Apia left out a day; in Lord Howe it is half an hour.
ZONES = (
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Havana",
    "America/Asuncion",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/New_York",
    "UTC",
)
moments = st.datetimes(min_value=datetime(2005, 1, 1), max_value=datetime(2045, 1, 1), timezones=st.just(UTC))
rules = st.builds(PeriodRule, anchor_day=st.integers(1, 31), time_zone=st.sampled_from(ZONES))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def bounds(period: Period) -> tuple[str, datetime, datetime]:
    return period.key, period.begins_at, period.ends_at


@pytest.mark.parametrize(
    ("anchor_day", "time_zone", "moment", "key", "begins_at", "ends_at"),
    [
        (1, "UTC", utc(2026, 11, 20), "2026-11", utc(2026, 11, 1), utc(2026, 12, 1)),
        (1, "UTC", utc(2026, 12, 1), "2026-12", utc(2026, 12, 1), utc(2027, 1, 1)),
        (15, "UTC", utc(2026, 11, 14, 23, 59), "2026-10-15", utc(2026, 10, 15), utc(2026, 11, 15)),
        # Berlin leaves summer time on 25 October: both midnights are those of the clock on the wall.
        (1, "Europe/Berlin", utc(2026, 10, 25), "2026-10", utc(2026, 9, 30, 22), utc(2026, 10, 31, 23)),
        (1, "Pacific/Kiritimati", utc(2026, 10, 31, 12), "2026-11", utc(2026, 10, 31, 10), utc(2026, 11, 30, 10)),
        # The 31st of shorter months is their last day.
        (31, "UTC", utc(2027, 2, 28), "2027-02-28", utc(2027, 2, 28), utc(2027, 3, 31)),
        (31, "UTC", utc(2027, 2, 27), "2027-01-31", utc(2027, 1, 31), utc(2027, 2, 28)),
        (30, "UTC", utc(2028, 2, 29), "2028-02-29", utc(2028, 2, 29), utc(2028, 3, 30)),
        (29, "UTC", utc(2027, 2, 28), "2027-02-28", utc(2027, 2, 28), utc(2027, 3, 29)),
        # Where midnight is skipped, the period begins with the first moment that there is.
        (4, "America/Sao_Paulo", utc(2018, 11, 10), "2018-11-04", utc(2018, 11, 4, 3), utc(2018, 12, 4, 2)),
        # Where an hour comes twice, midnight does not: it begins after both.
        (26, "Asia/Beirut", utc(2025, 10, 30), "2025-10-26", utc(2025, 10, 25, 22), utc(2025, 11, 25, 22)),
    ],
)
def test_a_period_begins_at_midnight_on_its_day_in_the_clinics_own_zone(
    anchor_day: int, time_zone: str, moment: datetime, key: str, begins_at: datetime, ends_at: datetime
) -> None:
    period = PeriodRule(anchor_day=anchor_day, time_zone=time_zone).period_at(moment)
    assert bounds(period) == (key, begins_at, ends_at)


@settings(deadline=None)
@given(rules, moments)
def test_every_moment_is_in_its_period_and_not_in_those_beside_it(rule: PeriodRule, moment: datetime) -> None:
    calendar = BillingCalendar(rules=(RuleFrom(begins_at=utc(2000, 1, 1), rule=rule),))
    period = calendar.period_at(moment)
    after = calendar.period_after(period)
    before = calendar.period_at(period.begins_at - timedelta(microseconds=1))
    assert moment in period
    assert moment not in before
    assert moment not in after
    assert (before.ends_at, period.ends_at) == (period.begins_at, after.begins_at)
    assert period.whole == period.ends_at - period.begins_at
    assert timedelta(days=27) < period.whole < timedelta(days=33)


@settings(deadline=None)
@given(rules, moments)
def test_keys_are_unique_and_sort_as_time_does(rule: PeriodRule, moment: datetime) -> None:
    calendar = BillingCalendar(rules=(RuleFrom(begins_at=utc(2000, 1, 1), rule=rule),))
    keys = [period.key for period in calendar.periods_between(moment, moment + timedelta(days=800))]
    assert keys == sorted(set(keys))
    assert len(keys) >= 26


@settings(deadline=None)
@given(rules, moments)
def test_the_same_key_comes_back_from_every_moment_of_a_period(rule: PeriodRule, moment: datetime) -> None:
    period = rule.period_at(moment)
    last = period.ends_at - timedelta(microseconds=1)
    assert rule.period_at(period.begins_at) == rule.period_at(last) == period


@settings(deadline=None)
@given(rules, moments)
def test_a_period_begins_on_its_anchor_day_or_on_the_last_one_of_the_month(rule: PeriodRule, moment: datetime) -> None:
    begins_at = rule.period_at(moment).begins_at
    local = begins_at.astimezone(ZoneInfo(rule.time_zone))
    is_last_of_month = (local + timedelta(days=1)).month != local.month
    skipped = rule.time_zone == "Pacific/Apia" and local.date() == date(2011, 12, 31)
    assert local.day == rule.anchor_day or (local.day < rule.anchor_day and is_last_of_month) or skipped


@settings(deadline=None)
@given(st.lists(st.tuples(moments, rules), min_size=1, max_size=5), rules)
def test_periods_tile_time_through_every_change_of_the_rule(
    changes: list[tuple[datetime, PeriodRule]], first: PeriodRule
) -> None:
    changes = sorted(changes, key=lambda change: change[0])
    calendar = BillingCalendar(rules=(RuleFrom(begins_at=utc(2000, 1, 1), rule=first),))
    for at, rule in changes:
        if at < calendar.rules[-1].begins_at:
            continue
        running = calendar.period_at(at)
        begins_at = changes_at(calendar, rule, at)
        if begins_at is not None:
            calendar = BillingCalendar(rules=(*calendar.rules, RuleFrom(begins_at=begins_at, rule=rule)))
            assert begins_at > at
            assert calendar.period_at(at).key <= running.key  # what runs keeps its name, or its rest goes to the last
            assert calendar.rule_at(begins_at) == rule
    around = changes[0][0] - timedelta(days=100), changes[-1][0] + timedelta(days=200)
    periods = list(calendar.periods_between(*around))
    assert all(one.ends_at == after.begins_at for one, after in pairwise(periods))
    assert all(calendar.period_at(one.begins_at) == one for one in periods)
    assert all(calendar.period_at(one.ends_at - timedelta(microseconds=1)) == one for one in periods)
    keys = [one.key for one in periods]
    assert keys == sorted(set(keys))


def test_another_rule_takes_over_at_its_own_next_beginning() -> None:
    """A month by the calendar runs to 15 December, where the months from the 15th begin."""
    calendar, now = BillingCalendar(), utc(2026, 11, 20)
    fifteenth = PeriodRule(anchor_day=15)
    begins_at = changes_at(calendar, fifteenth, now)
    assert begins_at == utc(2026, 12, 15)
    calendar = BillingCalendar(rules=(*calendar.rules, RuleFrom(begins_at=begins_at, rule=fifteenth)))
    periods = [bounds(period) for period in calendar.periods_between(now, utc(2027, 1, 1))]
    assert periods == [
        ("2026-11", utc(2026, 11, 1), utc(2026, 12, 1)),
        ("2026-12", utc(2026, 12, 1), utc(2026, 12, 15)),
        ("2026-12-15", utc(2026, 12, 15), utc(2027, 1, 15)),
    ]
    assert calendar.period_at(utc(2026, 12, 2)).whole == timedelta(days=31)


def test_another_time_zone_moves_the_border_and_makes_no_period_of_hours() -> None:
    calendar, now = BillingCalendar(), utc(2026, 11, 20)
    new_york = PeriodRule(time_zone="America/New_York")
    begins_at = changes_at(calendar, new_york, now)
    assert begins_at == utc(2026, 12, 1, 5)
    calendar = BillingCalendar(rules=(*calendar.rules, RuleFrom(begins_at=begins_at, rule=new_york)))
    assert bounds(calendar.period_at(utc(2026, 12, 1, 3))) == ("2026-11", utc(2026, 11, 1), utc(2026, 12, 1, 5))
    assert bounds(calendar.period_at(begins_at))[:2] == ("2026-12", begins_at)


def test_the_rule_that_holds_already_changes_nothing() -> None:
    assert changes_at(BillingCalendar(), PeriodRule(), utc(2026, 11, 20)) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [("2026-11", "2026-11-15"), ("2026-11-15", "2026-11-15"), ("2026-11-16", None), ("2026-02", "2026-02-15")],
)
def test_a_period_is_found_by_its_key_or_by_the_month_that_it_begins_in(name: str, key: str | None) -> None:
    rules = (RuleFrom(begins_at=utc(2000, 1, 1), rule=PeriodRule(anchor_day=15, time_zone="Asia/Tokyo")),)
    found = BillingCalendar(rules=rules).period_named(name)
    assert (found and found.key) == key
