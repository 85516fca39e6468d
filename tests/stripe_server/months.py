"""Monthly billing from an anchor: the 31st becomes a month's last day, and the 31st again after it."""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.stripe_server.problems import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """A day of the month, and a time of that day in seconds, in UTC."""

    day: int
    second: int

    def after(self, moment: float) -> int:
        """The next time that it comes round."""
        start = datetime.fromtimestamp(moment, UTC)
        for months in (0, 1, 2):
            month = start.year * 12 + start.month - 1 + months
            found = self._in(*divmod(month, 12))
            if found > start:
                return int(found.timestamp())
        raise AssertionError("an anchor comes round every month")

    def _in(self, year: int, month: int) -> datetime:
        day = min(self.day, calendar.monthrange(year, month + 1)[1])
        return datetime(year, month + 1, day, tzinfo=UTC) + timedelta(seconds=self.second)


def anchor_at(moment: float) -> Anchor:
    at = datetime.fromtimestamp(moment, UTC)
    return Anchor(day=at.day, second=at.hour * 3600 + at.minute * 60 + at.second)


def anchor_of(config: Json) -> Anchor:
    hour, minute, second = (int(config.get(name, 0)) for name in ("hour", "minute", "second"))
    return Anchor(day=int(config["day_of_month"]), second=hour * 3600 + minute * 60 + second)
