"""What a run leaves: medians over the rounds, and the goals."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.gpu.measure import Figures
from benchmarks.ingest.conditions import Conditions
from benchmarks.page import goal, spoken, table

SERVED_RATIO = 0.9
NODE_RATIO = 0.85


@dataclass(slots=True)
class Run:
    """title: the device, as its maker calls it."""

    device: str
    title: str
    network: str
    processes: int
    is_quick: bool
    conditions: Conditions | None = None
    is_complete: bool = False
    failures: list[str] = field(default_factory=list)
    rounds: list[Figures] = field(default_factory=list)

    def median(self, of: Callable[[Figures], float]) -> float:
        return statistics.median(of(one) for one in self.rounds)


def as_markdown(run: Run) -> str:
    """Conditions, figures, goals, and what failed."""
    kind = "quick run: it shows that everything works, not how fast" if run.is_quick else f"{len(run.rounds)} rounds"
    kind += "" if run.is_complete else ", ended early"
    parts = [spoken(run.conditions, kind=kind, loads=[])] if run.conditions else []
    parts.append(f"{run.title} ({run.device}); {run.network} with random weights; {run.processes} processes decode.\n")
    if run.rounds:
        batches = sorted({size for one in run.rounds for size in one.bare})
        bare = [
            (f"bare network, batches of {size}", f"{statistics.median(one.bare[size] for one in run.rounds):.0f}")
            for size in batches
        ]
        stages = [
            ("served by the owner, from decoded tensors", f"{run.median(lambda one: one.served):.0f}"),
            ("decoded and prepared, alone", f"{run.median(lambda one: one.decode):.1f}"),
            ("the node, from file to analysis", f"{run.median(lambda one: one.node):.1f}"),
        ]
        parts.append(table(("median", "images/s"), [*bare, *stages]))
    parts.append(table(("about", "goal", "seen"), [_goal(run, *one) for one in GOALS]))
    notes = "".join(f"- failed: {failure}\n" for failure in run.failures)
    return "\n".join([*parts, *([notes] if notes else [])])


GOALS: tuple[tuple[str, float, Callable[[Figures], float]], ...] = (
    ("served images/s over the bare network at its best batch", SERVED_RATIO, lambda one: one.served_ratio),
    ("the node over its slowest stage alone", NODE_RATIO, lambda one: one.node_ratio),
)


def _goal(run: Run, about: str, wanted: float, ratio: Callable[[Figures], float]) -> tuple[str, str, str]:
    seen = run.median(ratio) if run.rounds else None
    return goal(
        about,
        f"at least {wanted:g}x",
        "" if seen is None else f"{seen:.2f}x",
        None if seen is None else seen >= wanted,
    )
