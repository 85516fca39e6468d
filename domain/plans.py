"""Plans: what a subscription costs, how many studies it includes, what the others cost, which models it opens.

A plan is data: these three are what the node comes with, and `[plans.…]` of the configuration lays an operator's own
terms over them. What a clinic agreed to is kept with its subscription, so that a new price never changes an old month.

    the n-th study of a period      n <= studies_per_month                   included
                                    the first usage tier with n <= up_to     its price
                                    beyond all of them                       waits; STAT may go through on grace
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import Refuse

# Of the included studies, in percent: from these on somebody is told.
ALERTS = (80, 100)


class Tier(StrEnum):
    BASIC = "basic"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"


def tier_named(name: str) -> Tier:
    """What a person wrote.

    Raises:
        Refuse: there is none of that name.
    """
    try:
        return Tier(name)
    except ValueError:
        raise Refuse("there is no such tier", reason="unknown_tier", hint=f"one of {', '.join(Tier)}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageTier:
    """What a study costs beyond those that are included. `up_to`: the last of the period for which it holds; None: it
    holds for all further ones.
    """

    name: str
    up_to: int | None
    price_usd_cents: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`studies_per_month`: included in a billing period; None: unlimited. `queue_weight`: the clinic's fair share of a
    busy worker. `usage_tiers`: where there are none, what is not included waits. `grace_studies`: STAT studies that go
    through all the same. `trial_days`: of a new clinic, before it pays.
    """

    tier: Tier
    price_usd_cents: int
    studies_per_month: int | None
    packages: frozenset[str]
    queue_weight: int
    usage_tiers: tuple[UsageTier, ...] = ()
    grace_studies: int = 0
    trial_days: int = 0

    @property
    def last_study(self) -> int | None:
        """The last study of a period that is analysed without grace; None: there is none."""
        return self.usage_tiers[-1].up_to if self.usage_tiers else self.studies_per_month


PLANS = {
    Tier.BASIC: Plan(
        tier=Tier.BASIC,
        price_usd_cents=2900,
        studies_per_month=100,
        packages=frozenset({"chest"}),
        queue_weight=1,
        grace_studies=10,
    ),
    Tier.PROFESSIONAL: Plan(
        tier=Tier.PROFESSIONAL,
        price_usd_cents=7900,
        studies_per_month=300,
        packages=frozenset({"chest", "bone_fracture", "dental", "pediatric_chest"}),
        queue_weight=2,
        grace_studies=30,
    ),
    Tier.ENTERPRISE: Plan(
        tier=Tier.ENTERPRISE,
        price_usd_cents=19900,
        studies_per_month=None,
        packages=frozenset({"chest", "pediatric_chest", "bone_fracture", "dental", "spine"}),
        queue_weight=4,
    ),
}


class Basis(StrEnum):
    """Why a study could be charged, which is also what it costs."""

    TRIAL = "trial"
    INCLUDED = "included"
    USAGE = "usage"
    GRACE = "grace"


def has_room(plan: Plan, used: int) -> bool:
    """Whether one more study fits when `used` are charged or reserved in the period already."""
    return plan.last_study is None or used < plan.last_study


def has_grace(plan: Plan, used: int) -> bool:
    """Whether one more STAT study fits."""
    return has_room(plan, used - plan.grace_studies)


def price_of(plan: Plan, number: int) -> int:
    """What the n-th study of a period costs, in US cents. One on grace costs nothing."""
    if plan.studies_per_month is None or number <= plan.studies_per_month:
        return 0
    return next((one.price_usd_cents for one in plan.usage_tiers if one.up_to is None or number <= one.up_to), 0)


def basis_of(plan: Plan, number: int) -> Basis:
    """On what ground the n-th study of a period is analysed."""
    if plan.studies_per_month is None or number <= plan.studies_per_month:
        return Basis.INCLUDED
    return Basis.USAGE if has_room(plan, number - 1) else Basis.GRACE


def alert_at(plan: Plan, number: int) -> int | None:
    """The percentage of ALERTS that the n-th study of a period is the first to reach."""
    included = plan.studies_per_month
    if not included:
        return None
    reached = [percent for percent in ALERTS if (number - 1) * 100 < percent * included <= number * 100]
    return max(reached, default=None)


def wrong_with(plan: Plan) -> str | None:
    """What cannot be meant, in a sentence that says what to do; None: nothing."""
    if plan.price_usd_cents < 0 or any(one.price_usd_cents < 0 for one in plan.usage_tiers):
        return "a price is below 0; write US cents, 0 or more"
    if plan.usage_tiers and plan.studies_per_month is None:
        return "an unlimited plan includes every study, so usage_tiers would never count; set studies_per_month"
    bounds = [plan.studies_per_month or 0, *(one.up_to for one in plan.usage_tiers)]
    return _wrong_with_bounds(bounds, [one.name for one in plan.usage_tiers])


def _wrong_with_bounds(bounds: Sequence[int | None], names: Sequence[str]) -> str | None:
    for name, before, up_to in zip(names, bounds, bounds[1:], strict=False):
        if before is None:
            return f"usage tier {name!r} comes after one without up_to, which holds for all; put that one last"
        if up_to is not None and up_to <= before:
            return f"usage tier {name!r} ends at {up_to}, where {before} are spoken for already; sort them by up_to"
    return None
