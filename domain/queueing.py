"""Which queued study is started next: STAT before all others, then each clinic by its fair share, then the dearer plan.

    a study is queued  ->  is it STAT?  ── yes ──>  STAT_PRIORITY
                                        ── no ───>  the start tag of its clinic's next study, then its plan

Start-time fair queueing (Goyal, Vin and Cheng, 1996). The studies of a clinic get tags that lie apart by the inverse of
its plan's weight, and none before that of the study that was started last. So the ten thousandth study of one clinic
stands far behind, and the first one of another goes before the first one's second.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import lcm

from domain.plans import PLANS, Tier
from domain.study import InstanceFacts

STAT_PRIORITY = 1
ORDINARY_PRIORITY = 1000
# The distance of two studies of a clinic with weight 1; a whole number for every weight.
UNIT = lcm(*(plan.queue_weight for plan in PLANS.values()))
# Among studies with the same tag.
TIERS_IN_ORDER = sorted(PLANS, key=lambda tier: -PLANS[tier].queue_weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatRules:
    """What makes a study STAT; one of these is enough.

    callers: (clinic, Calling AE Title) of those who send nothing else.
    procedure_priorities: values of Requested Procedure Priority (0040,1003), upper case.
    descriptions: looked for in Study Description (0008,1030) and Protocol Name (0018,1030), in any case.
    """

    callers: frozenset[tuple[str, str]] = frozenset()
    procedure_priorities: frozenset[str] = frozenset()
    descriptions: tuple[re.Pattern[str], ...] = ()


def why_stat(rules: StatRules, *, clinic: str, calling_ae_title: str, facts: Iterable[InstanceFacts]) -> str:
    """Why the study goes before all others; empty when it does not."""
    if (clinic, calling_ae_title) in rules.callers:
        return f"the caller {calling_ae_title}"
    for instance in facts:
        if instance.requested_procedure_priority.upper() in rules.procedure_priorities:
            return f"Requested Procedure Priority {instance.requested_procedure_priority}"
        for pattern in rules.descriptions:
            if pattern.search(instance.study_description) or pattern.search(instance.protocol_name):
                return f"a description with {pattern.pattern}"
    return ""


def start_tag(*, last_started: int, finish_of_clinic: int) -> int:
    """The tag of a clinic's next study. `last_started`: the largest tag of all studies that were started."""
    return max(last_started, finish_of_clinic)


def finish_tag(start: int, tier: Tier) -> int:
    """Before which the clinic's study after this one does not start, as long as others wait."""
    return start + UNIT // PLANS[tier].queue_weight


def priority_of(start: int, tier: Tier) -> int:
    """Smaller goes first. It only grows: at a study a second of the smallest plan, it reaches 2^31 in five years."""
    return ORDINARY_PRIORITY + start * len(TIERS_IN_ORDER) + TIERS_IN_ORDER.index(tier)


def tag_of(priority: int) -> int:
    """The start tag; below 0 for what is STAT."""
    return (priority - ORDINARY_PRIORITY) // len(TIERS_IN_ORDER)
