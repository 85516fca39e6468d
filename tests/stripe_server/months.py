"""Monthly billing from an anchor: the 31st becomes a month's last day, and the 31st again after it."""

import calendar
from datetime import UTC, datetime


def next_month(moment: float, anchor: float) -> int:
    """The end of the billing month that begins at `moment`, on the day and time of day of `anchor` (UTC)."""
    start, anchored = datetime.fromtimestamp(moment, UTC), datetime.fromtimestamp(anchor, UTC)
    year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
    day = min(anchored.day, calendar.monthrange(year, month)[1])
    return int(anchored.replace(year=year, month=month, day=day).timestamp())
