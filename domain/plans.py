"""The three subscriptions: what each costs, how many studies a calendar month holds, which models it opens."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Tier(StrEnum):
    BASIC = "basic"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`studies_per_month` None: unlimited. `queue_weight` is the clinic's fair share of a busy worker."""

    tier: Tier
    price_usd_cents: int
    studies_per_month: int | None
    packages: frozenset[str]
    queue_weight: int


PLANS = {
    Tier.BASIC: Plan(
        tier=Tier.BASIC,
        price_usd_cents=2900,
        studies_per_month=100,
        packages=frozenset({"chest"}),
        queue_weight=1,
    ),
    Tier.PROFESSIONAL: Plan(
        tier=Tier.PROFESSIONAL,
        price_usd_cents=7900,
        studies_per_month=300,
        packages=frozenset({"chest", "bone_fracture", "dental", "pediatric_chest"}),
        queue_weight=2,
    ),
    Tier.ENTERPRISE: Plan(
        tier=Tier.ENTERPRISE,
        price_usd_cents=19900,
        studies_per_month=None,
        packages=frozenset({"chest", "pediatric_chest", "bone_fracture", "dental", "spine"}),
        queue_weight=4,
    ),
}


def billing_period(moment: datetime) -> str:
    """The calendar month, in UTC, that a study counts towards: "2026-11"."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def has_room(plan: Plan, used: int) -> bool:
    """Whether one more study fits when `used` are charged or reserved in the period already."""
    return plan.studies_per_month is None or used < plan.studies_per_month
