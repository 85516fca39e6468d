"""How much each clinic has used of its plan in a billing period, and how much that will be if it goes on like this."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.periods import Period
from domain.plans import ALERTS, UsageTier, has_room, price_of
from domain.states import WAITS_FOR_QUOTA, StudyState
from domain.subscription import SubscriptionState
from metering.invoices import reckon
from metering.quota import charged, used
from metering.subscriptions import calendar_of, subscription_at
from storage.database import Database, utc_now
from storage.tables import clinics, ledger, studies


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """A clinic's period. `included` None: unlimited. `used` counts charged and reserved studies, `charged` those alone;
    `credited` were taken back, and are in neither. `waiting`: kept until there is quota, or a subscription that takes
    work. `alert`: the percentage of the included studies that was reached, 80 or 100. `forecast`: see `forecast_of`.
    `owed_usd_cents`: what the period costs if its plan stays to its end and no study is charged any more.
    `next_price_usd_cents`: what the next study costs; None: it waits. `usage_tiers`: what studies beyond the included
    ones cost, in their order; none: they wait. `grace_studies`: STAT studies that go through all the same.
    `trial_ends_at`: of a clinic that tries its plan.
    """

    clinic: str
    tier: str
    period: str
    used: int
    charged: int
    included: int | None
    price_usd_cents: int
    state: str
    begins_at: datetime
    ends_at: datetime
    credited: int
    waiting: int
    alert: int | None
    forecast: int | None
    owed_usd_cents: int
    next_price_usd_cents: int | None
    usage_tiers: tuple[UsageTier, ...]
    grace_studies: int
    trial_ends_at: datetime | None


def read_usage(
    database: Database, *, period: str | None = None, clinic: str | None = None, now: datetime | None = None
) -> list[Usage]:
    """What each clinic used in a period: the one that it is in, or the one of this key (or month). A clinic that has no
    period of that key is left out.
    """
    now = now or utc_now()
    query = sa.select(clinics.c.name).order_by(clinics.c.name)
    if clinic is not None:
        query = query.where(clinics.c.name == clinic)
    with database.read() as connection:
        usages = []
        for name in connection.scalars(query).all():
            calendar = calendar_of(connection, clinic=name)
            its_period = calendar.period_at(now) if period is None else calendar.period_named(period)
            if its_period is not None:
                usages.append(_usage(connection, name, its_period, now))
    return usages


def forecast_of(used: int, period: Period, now: datetime) -> int | None:
    """How many studies the period will have had, if the rest of it is like the part that went by; None: too early to
    say, for a tenth of it must have gone by, or over.
    """
    gone, whole = now - period.begins_at, period.ends_at - period.begins_at
    if now not in period or gone * 10 < whole:
        return None
    return round(used * (whole / gone))


def alert_of(used: int, included: int | None) -> int | None:
    """The percentage of ALERTS that was reached."""
    reached = [percent for percent in ALERTS if included and used * 100 >= percent * included]
    return max(reached, default=None)


def _usage(connection: sa.Connection, clinic: str, period: Period, now: datetime) -> Usage:
    moment = min(max(now, period.begins_at), period.ends_at)
    subscription = subscription_at(connection, clinic=clinic, moment=moment)
    taken = used(connection, clinic=clinic, period=period.key)
    credited = sa.select(sa.func.count()).where(
        ledger.c.clinic == clinic, ledger.c.period == period.key, ledger.c.kind == "credit"
    )
    waiting = sa.select(sa.func.count()).where(
        studies.c.clinic == clinic, studies.c.state == StudyState.HELD, studies.c.reason.in_(WAITS_FOR_QUOTA)
    )
    included = subscription.plan.studies_per_month
    state = subscription.state_at(moment)
    goes_on = subscription.takes_work(moment) and has_room(subscription.plan, taken)
    return Usage(
        clinic=clinic,
        tier=subscription.plan.tier,
        period=period.key,
        used=taken,
        charged=charged(connection, clinic=clinic, period=period.key),
        included=included,
        price_usd_cents=subscription.plan.price_usd_cents,
        state=state,
        begins_at=period.begins_at,
        ends_at=period.ends_at,
        credited=connection.scalar(credited) or 0,
        waiting=connection.scalar(waiting) or 0,
        alert=alert_of(taken, included),
        forecast=forecast_of(taken, period, now),
        owed_usd_cents=reckon(connection, clinic=clinic, period=period).total_usd_cents,
        next_price_usd_cents=price_of(subscription.plan, taken + 1) if goes_on else None,
        usage_tiers=subscription.plan.usage_tiers,
        grace_studies=subscription.plan.grace_studies,
        trial_ends_at=subscription.trial_ends_at if state is SubscriptionState.TRIALING else None,
    )


def period_of(database: Database, *, clinic: str, name: str | None, now: datetime | None = None) -> Period | None:
    """The clinic's present period, or the one of this key (or month); None: it has none of that name."""
    with database.read() as connection:
        calendar = calendar_of(connection, clinic=clinic)
    return calendar.period_at(now or utc_now()) if name is None else calendar.period_named(name)
