"""Billing periods: months of a clinic's own calendar, half-open in UTC, each with a key that never changes.

    anchor day 1      [1 November, 1 December) in the clinic's time zone      "2026-11"
    anchor day 15     [15 November, 15 December)                              "2026-11-15"
    anchor day 31     begins on the last day of a shorter month               "2027-02-28"

A period begins at local midnight, or where daylight saving time skips that, at the first moment after it. The periods
of a clinic tile time: each moment is in exactly one. That stays so when its rule changes: the new rule holds from one
of its own beginnings on, and the last period of the old rule ends there.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

# What is shorter, between two rules, is no period of its own: two time zones lie 26 hours apart at most.
SHORTEST = timedelta(days=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """`begins_at` belongs to it, `ends_at` to the next one. `whole`: how long it is where no change of rule cut it."""

    key: str
    begins_at: datetime
    ends_at: datetime
    whole: timedelta

    def __contains__(self, moment: datetime) -> bool:
        return self.begins_at <= moment < self.ends_at


@dataclass(frozen=True, kw_only=True, slots=True)
class PeriodRule:
    """Periods begin on this day of each month, or on its last one where it is shorter, in this IANA time zone."""

    anchor_day: int = 1
    time_zone: str = "UTC"

    def period_at(self, moment: datetime) -> Period:
        """The period that this moment is in."""
        local = moment.astimezone(ZoneInfo(self.time_zone))
        month = local.year * 12 + local.month - 1
        if moment < self._begins_at(month):
            month -= 1
        elif moment >= self._begins_at(month + 1):
            month += 1
        begins_at, ends_at = self._begins_at(month), self._begins_at(month + 1)
        return Period(key=self._key(month), begins_at=begins_at, ends_at=ends_at, whole=ends_at - begins_at)

    def _day(self, month: int) -> date:
        year, number = divmod(month, 12)
        return date(year, number + 1, min(self.anchor_day, monthrange(year, number + 1)[1]))

    def _begins_at(self, month: int) -> datetime:
        """Of a midnight that does not exist, `fold=0` is the moment at which the clock skips it (PEP 495)."""
        day = self._day(month)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.time_zone)).astimezone(UTC)

    def _key(self, month: int) -> str:
        day = self._day(month)
        return f"{day:%Y-%m}" if self.anchor_day == 1 else day.isoformat()


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleFrom:
    """A rule, and the moment from which on it holds: for all but the first, one of its own beginnings."""

    begins_at: datetime
    rule: PeriodRule


@dataclass(frozen=True, kw_only=True, slots=True)
class BillingCalendar:
    """A clinic's rules in their order; the first one also holds for the time before it."""

    rules: tuple[RuleFrom, ...] = (RuleFrom(begins_at=datetime(2000, 1, 1, tzinfo=UTC), rule=PeriodRule()),)

    def rule_at(self, moment: datetime) -> PeriodRule:
        return self.rules[self._index(moment)].rule

    def period_at(self, moment: datetime) -> Period:
        index = self._index(moment)
        rule = self.rules[index].rule
        period = rule.period_at(moment)
        begins_at, ends_at = period.begins_at, period.ends_at
        if index + 1 < len(self.rules):
            until = self.rules[index + 1].begins_at
            if until - begins_at < SHORTEST:  # the rest before the new rule goes to the period before it
                period = rule.period_at(begins_at - timedelta(microseconds=1))
                begins_at, ends_at = period.begins_at, period.ends_at
            ends_at = until if until - ends_at < SHORTEST else ends_at
        if index:
            begins_at = max(begins_at, self.rules[index].begins_at)
        return Period(key=period.key, begins_at=begins_at, ends_at=ends_at, whole=period.whole)

    def period_after(self, period: Period) -> Period:
        return self.period_at(period.ends_at)

    def periods_between(self, begin: datetime, end: datetime) -> Iterator[Period]:
        """All that have a moment in [begin, end), in their order."""
        period = self.period_at(begin)
        while period.begins_at < end:
            yield period
            period = self.period_after(period)

    def period_named(self, name: str) -> Period | None:
        """The period with this key; of a month, the first one that begins in it in the clinic's time zone."""
        month = datetime.strptime(name[:7], "%Y-%m").replace(tzinfo=UTC)
        around = self.periods_between(month - timedelta(days=2), month + timedelta(days=34))
        return next((period for period in around if period.key.startswith(name)), None)

    def _index(self, moment: datetime) -> int:
        return max((i for i, one in enumerate(self.rules) if one.begins_at <= moment), default=0)


def changes_at(calendar: BillingCalendar, rule: PeriodRule, now: datetime) -> datetime | None:
    """When a rule can take over from the one that holds now: at its next beginning. None: it holds already."""
    if calendar.rule_at(now) == rule:
        return None
    begins_at = rule.period_at(now).ends_at
    own = calendar.rules[calendar._index(now)].begins_at
    # A rule holds for more than a moment: otherwise its only period would be none.
    return begins_at if begins_at - own >= SHORTEST else rule.period_at(begins_at).ends_at
