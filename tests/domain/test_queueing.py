"""STAT goes first, and a clinic's backlog is its own affair."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from statistics import median

import pytest

from domain.plans import Tier
from domain.queueing import StatRules, finish_tag, priority_of, start_tag, tag_of, why_stat
from domain.study import InstanceFacts

RULES = StatRules(
    callers=frozenset({("st-mary", "EMERGENCY")}),
    procedure_priorities=frozenset({"STAT"}),
    descriptions=(re.compile(r"\bcito\b", re.IGNORECASE),),
)


@pytest.mark.parametrize(
    ("clinic", "caller", "facts", "why"),
    [
        ("st-mary", "EMERGENCY", InstanceFacts(), "the caller EMERGENCY"),
        ("mercy", "EMERGENCY", InstanceFacts(), ""),
        ("mercy", "CT1", InstanceFacts(requested_procedure_priority="Stat"), "Requested Procedure Priority Stat"),
        ("mercy", "CT1", InstanceFacts(requested_procedure_priority="ROUTINE"), ""),
        ("mercy", "CT1", InstanceFacts(study_description="CITO! Thorax"), r"a description with \bcito\b"),
        ("mercy", "CT1", InstanceFacts(protocol_name="thorax cito"), r"a description with \bcito\b"),
        ("mercy", "CT1", InstanceFacts(study_description="explicitory"), ""),
    ],
)
def test_what_is_stat(clinic: str, caller: str, facts: InstanceFacts, why: str) -> None:
    assert why_stat(RULES, clinic=clinic, calling_ae_title=caller, facts=[InstanceFacts(), facts]) == why


def test_of_studies_that_are_queued_at_once_the_dearer_plan_goes_first() -> None:
    assert sorted(Tier, key=lambda tier: priority_of(0, tier)) == [Tier.ENTERPRISE, Tier.PROFESSIONAL, Tier.BASIC]


def test_a_backlog_is_started_in_the_proportion_of_the_weights() -> None:
    line = Line()
    for clinic, tier in (("a", Tier.BASIC), ("b", Tier.PROFESSIONAL), ("c", Tier.ENTERPRISE)):
        for _ in range(200):
            line.put(clinic, tier)
    started = [line.start() for _ in range(70)]
    assert [started.count(clinic) for clinic in "abc"] == [10, 20, 40]


def test_who_was_quiet_has_saved_nothing_up() -> None:
    line = Line()
    for _ in range(100):
        line.put("busy")
    for _ in range(50):
        line.start()
    for _ in range(100):
        line.put("late")
    started = [line.start() for _ in range(20)]
    assert started.count("late") == 10


def test_one_clinics_ten_thousand_studies_leave_the_others_waits_within_twice_what_they_were() -> None:
    random = Random(7)
    arrivals = sorted((random.uniform(0, 5000), f"clinic {random.randrange(299)}") for _ in range(4500))
    alone = median(waits(arrivals))
    beside = median(waits(arrivals, backlog=10_000))
    assert 0 < alone <= beside <= 2 * alone


@dataclass
class Line:
    """The queue, and the tags as the database keeps them."""

    waiting: list[tuple[int, int, str]] = field(default_factory=list)
    finish: dict[str, int] = field(default_factory=dict)
    last_started: int = 0
    count: int = 0

    def put(self, clinic: str, tier: Tier = Tier.BASIC) -> None:
        start = start_tag(last_started=self.last_started, finish_of_clinic=self.finish.get(clinic, 0))
        self.finish[clinic] = finish_tag(start, tier)
        self.count += 1
        heappush(self.waiting, (priority_of(start, tier), self.count, clinic))

    def start(self) -> str:
        priority, _, clinic = heappop(self.waiting)
        self.last_started = max(self.last_started, tag_of(priority))
        return clinic


def waits(arrivals: Sequence[tuple[float, str]], *, backlog: int = 0) -> list[float]:
    """How long each arrival waits for one worker that takes a second a study, nine tenths of which they need."""
    line, now, waited = Line(), 0.0, []
    for _ in range(backlog):
        line.put("backlog")
    came: dict[str, list[float]] = {}
    coming = list(reversed(arrivals))
    while coming:
        if not line.waiting:
            now = max(now, coming[-1][0])
        while coming and coming[-1][0] <= now:
            moment, clinic = coming.pop()
            came.setdefault(clinic, []).append(moment)
            line.put(clinic)
        if not line.waiting:
            continue
        clinic = line.start()
        if clinic != "backlog":
            waited.append(now - came[clinic].pop(0))
        now += 1.0
    return waited
