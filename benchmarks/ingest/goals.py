"""What receiving should reach, as the project has set it for itself, beside what a run has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.ingest.associations import AssociationCosts
from benchmarks.ingest.summary import Median, ratio

PRODUCT = "collimator"


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """`figure` of `receiver`, or its ratio to that of `peer`, on a load: at least or at most `value`."""

    load: str
    associations: int
    figure: str
    value: float
    is_least: bool = True
    receiver: str = PRODUCT
    peer: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssociationGoal:
    """At most `value`."""

    figure: str
    value: float
    receiver: str = PRODUCT


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`seen` is None where the run did not measure it, or the measurement failed."""

    about: str
    goal: str
    seen: float | None
    unit: str
    is_reached: bool | None


def _speed(peer: str, load: str, associations: Sequence[int], value: float) -> list[Goal]:
    figure = "instances_per_s"
    return [Goal(load=load, associations=count, figure=figure, value=value, peer=peer) for count in associations]


GOALS = (
    *_speed("storescp", "W1", (1, 4), 1.0),
    *_speed("storescp", "W2", (1,), 0.6),
    *_speed("storescp", "W2", (4,), 1.0),
    *_speed("storescp", "W3", (1,), 0.6),
    *_speed("storescp", "W3", (4,), 1.0),
    *_speed("orthanc-tuned", "W1", (1, 4), 4.0),
    *_speed("orthanc-tuned", "W2", (1, 4), 2.5),
    *_speed("orthanc-tuned", "W3", (1, 4), 1.5),
    *_speed("pynetdicom", "W1", (1, 4), 4.0),
    Goal(load="W1", associations=1, figure="cpu_s_per_gb", value=0.33, is_least=False, peer="orthanc-tuned"),
    Goal(
        load="W1",
        associations=1,
        figure="cpu_s_per_gb",
        value=1.15,
        is_least=False,
        receiver="collimator-encrypted",
        peer=PRODUCT,
    ),
    Goal(load="W4", associations=1, figure="peak_pss_mb", value=100.0, is_least=False),
)
ASSOCIATION_GOALS = (
    AssociationGoal(figure="set_up_cpu_ms", value=5.0),
    AssociationGoal(figure="idle_cpu_percent", value=1.0),
    AssociationGoal(figure="further_pss_mb", value=5.0),
)
FIGURES = {
    "instances_per_s": "instances/s",
    "cpu_s_per_gb": "CPU per GB",
    "peak_pss_mb": "peak memory (PSS), MB",
    "set_up_cpu_ms": "association set-up and release, ms of CPU",
    "idle_cpu_percent": "ten idle associations, % of a core",
    "further_pss_mb": "memory of each further association (PSS), MB",
}


def outcomes(medians: Sequence[Median], costs: Mapping[str, AssociationCosts], *, sender: str) -> list[Outcome]:
    """Every goal, those that the run has nothing to say about included."""
    return [_outcome(goal, medians, sender) for goal in GOALS] + [
        _association_outcome(goal, costs) for goal in ASSOCIATION_GOALS
    ]


def _outcome(goal: Goal, medians: Sequence[Median], sender: str) -> Outcome:
    found = {
        median.receiver: median
        for median in medians
        if (median.load, median.associations, median.sender) == (goal.load, goal.associations, sender)
    }
    seen = None
    if goal.receiver in found:
        own = found[goal.receiver]
        seen = ratio(own, goal.peer, goal.figure) if goal.peer else own.figures.get(goal.figure)
    against = f" against {goal.peer}" if goal.peer else ""
    plural = "s" if goal.associations > 1 else ""
    return Outcome(
        about=f"{goal.load}, {goal.associations} association{plural}: {goal.receiver}{against}, {FIGURES[goal.figure]}",
        goal=f"at {'least' if goal.is_least else 'most'} {goal.value:g}{'x' if goal.peer else ''}",
        seen=seen,
        unit="x" if goal.peer else "",
        is_reached=None if seen is None else (seen >= goal.value if goal.is_least else seen <= goal.value),
    )


def _association_outcome(goal: AssociationGoal, costs: Mapping[str, AssociationCosts]) -> Outcome:
    seen = getattr(costs[goal.receiver], goal.figure) if goal.receiver in costs else None
    return Outcome(
        about=f"{goal.receiver}: {FIGURES[goal.figure]}",
        goal=f"at most {goal.value:g}",
        seen=seen,
        unit="",
        is_reached=None if seen is None else seen <= goal.value,
    )
