"""What a run leaves: medians, what the node adds to the work alone, and the goals."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from benchmarks.ingest.conditions import Conditions
from benchmarks.latency.trace import Trace
from benchmarks.page import goal, spoken, table

ADDED_MS = 250.0
P95_RATIO = 2.0
IDLE_CPU_PERCENT = 3.0
STAGES = ("read", "decode", "infer", "write", "send")


@dataclass(slots=True)
class Idle:
    """One study at a time. alone: milliseconds by stage. cpu_percent: of a core, by a worker with nothing to do."""

    traces: list[Trace] = field(default_factory=list)
    alone: dict[str, list[float]] = field(default_factory=dict)
    cpu_percent: float | None = None

    @property
    def compute_ms(self) -> float:
        return sum(statistics.median(self.alone[stage]) for stage in STAGES)

    @property
    def added_ms(self) -> float | None:
        if not self.traces or self.alone.keys() < set(STAGES):
            return None
        return statistics.median(one.total for one in self.traces) - self.compute_ms


@dataclass(frozen=True, slots=True)
class HalfLoad:
    """latencies_s: from release to the last result, with the time after the release."""

    rate_per_s: float
    latencies_s: list[float]
    after_release_s: float

    def p(self, percent: int, *, with_wait: bool) -> float:
        seconds = [one - (0.0 if with_wait else self.after_release_s) for one in self.latencies_s]
        return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


@dataclass(slots=True)
class Run:
    """
    is_complete: False where somebody ended it early.
    skipped: databases that this machine cannot run, and why.
    idle, half_load: by database.
    """

    rounds: int
    is_quick: bool
    skipped: dict[str, str]
    conditions: Conditions | None = None
    is_complete: bool = False
    failures: list[str] = field(default_factory=list)
    idle: dict[str, Idle] = field(default_factory=dict)
    half_load: dict[str, HalfLoad] = field(default_factory=dict)


def as_markdown(run: Run) -> str:
    """Conditions, figures, goals, and what was skipped or failed."""
    kind = "quick run: it shows that everything works, not how fast" if run.is_quick else f"{run.rounds} rounds"
    parts = []
    if run.conditions:
        parts.append(spoken(run.conditions, kind=kind + ("" if run.is_complete else ", ended early"), loads=[]))
    names = [field.name for field in fields(Trace)]
    parts.append(
        table(
            ("idle node, median ms", "studies", *(name.replace("_", " ") for name in names)),
            [[name, str(len(idle.traces)), *_medians(idle, names)] for name, idle in run.idle.items() if idle.traces],
        )
    )
    parts.append(
        table(
            ("alone, median ms", *STAGES, "sum"),
            [
                [name, *(f"{statistics.median(idle.alone[stage]):.0f}" for stage in STAGES), f"{idle.compute_ms:.0f}"]
                for name, idle in run.idle.items()
                if idle.added_ms is not None
            ],
        )
    )
    parts.append(
        table(
            ("half load", "studies", "sent/s", "p50 s", "p95 s", "p50 s without the completion wait", "p95 s"),
            [
                [
                    name, str(len(load.latencies_s)), f"{load.rate_per_s:.2f}",
                    *(f"{load.p(percent, with_wait=wait):.2f}" for wait in (True, False) for percent in (50, 95)),
                ]
                for name, load in run.half_load.items()
            ],
        )
    )  # fmt: skip
    parts.append(table(("about", "goal", "seen"), [row for name in run.idle for row in _goals(run, name)]))
    notes = [f"- skipped {name}: {reason}\n" for name, reason in run.skipped.items()]
    notes += [f"- failed: {failure}\n" for failure in run.failures]
    return "\n".join([*parts, *(["".join(notes)] if notes else [])])


def _medians(idle: Idle, names: list[str]) -> Iterator[str]:
    for name in names:
        values = [value for one in idle.traces if (value := getattr(one, name)) is not None]
        yield f"{statistics.median(values):.0f}" if values else ""


def _goals(run: Run, name: str) -> Iterator[tuple[str, str, str]]:
    idle, load = run.idle[name], run.half_load.get(name)
    added = idle.added_ms
    yield goal(
        f"{name}: what an idle node adds to the sum of the stages alone, without the completion wait",
        f"at most {ADDED_MS:.0f} ms",
        "" if added is None else f"{added:.0f} ms",
        None if added is None else added <= ADDED_MS,
    )
    for words, wait in (("with", True), ("without", False)):
        seen = None if load is None else load.p(95, with_wait=wait) / load.p(50, with_wait=wait)
        yield goal(
            f"{name}: p95 against p50 at half load, {words} the completion wait",
            f"at most {P95_RATIO:g}x",
            "" if seen is None else f"{seen:.2f}x",
            None if seen is None else seen <= P95_RATIO,
        )
    yield goal(
        f"{name}: what an idle worker costs",
        f"at most {IDLE_CPU_PERCENT:g} % of a core",
        "" if idle.cpu_percent is None else f"{idle.cpu_percent:.1f} %",
        None if idle.cpu_percent is None else idle.cpu_percent <= IDLE_CPU_PERCENT,
    )
