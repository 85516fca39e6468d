"""What a run leaves: each figure's median over the rounds, ratios taken inside a round, and the goals."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.fairness.measure import Throughput, Waits
from benchmarks.ingest.conditions import Conditions
from benchmarks.page import goal, spoken, table

T = TypeVar("T", Waits, Throughput)

WAIT_RATIO = 2.0
STAT_S = 0.5
THROUGHPUT_RATIO = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """title: without or with the big clinic; a short or a long queue. `failure` is empty where there are figures."""

    server: str
    title: str
    round: int
    figures: Waits | Throughput | None = None
    failure: str = ""

    @property
    def line(self) -> str:
        """For those who wait."""
        return f"{self.server}, {self.title}, round {self.round}: {self.figures or 'FAILED: ' + self.failure}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """
    is_complete: False where somebody ended it early.
    skipped: servers that this machine cannot run, and why.
    """

    conditions: Conditions
    rounds: int
    is_quick: bool
    is_complete: bool
    skipped: dict[str, str]
    measured: list[Measured]


def as_markdown(run: Run) -> str:
    """Conditions, figures, goals, and what was skipped or failed."""
    kind = "quick run: it shows that everything works, not how well" if run.is_quick else f"{run.rounds} rounds"
    loads = [one.figures.load_average for one in run.measured if one.figures]
    parts = [spoken(run.conditions, kind=kind + ("" if run.is_complete else ", ended early"), loads=loads)]
    servers = list(dict.fromkeys(one.server for one in run.measured))
    parts.append(
        table(
            (
                "database", "big clinic", "other studies", "never started", "start: median s", "p95 s",
                "done: median s", "STAT", "start: median s", "longest s", "left of the big one", "done/s", "cores",
            ),
            [row for server in servers for row in _waits_rows(run, server)],
        )
    )  # fmt: skip
    parts.append(
        table(
            ("database", "queue", "done/s", "CPU ms a study"),
            [row for server in servers for row in _throughput_rows(run, server)],
        )
    )
    parts.append(table(("about", "goal", "seen"), [row for server in servers for row in _goals(run, server)]))
    notes = [f"- skipped {name}: {reason}" for name, reason in run.skipped.items()]
    notes += [f"- failed: {one.server}, {one.title}, round {one.round}: {one.failure}" for one in run.measured
              if one.failure]  # fmt: skip
    return "\n".join([*parts, *(["\n".join(notes) + "\n"] if notes else [])])


def _waits_rows(run: Run, server: str) -> Iterator[list[str]]:
    for title in ("without", "with"):
        found = _figures(run, server, title, Waits)
        if not found:
            continue

        def median(of: Callable[[Waits], float], found: Sequence[Waits] = found) -> float:
            return statistics.median(of(one) for one in found)

        yield [
            server,
            title,
            str(sum(one.others for one in found)),
            str(sum(one.unstarted for one in found)),
            f"{median(lambda one: one.start_median_s):.3f}",
            f"{median(lambda one: one.start_p95_s):.3f}",
            f"{median(lambda one: one.done_median_s):.3f}",
            str(sum(one.stat for one in found)),
            f"{median(lambda one: one.stat_median_s):.3f}",
            f"{max(one.stat_longest_s for one in found):.3f}",
            f"{median(lambda one: one.queued):.0f}",
            f"{median(lambda one: one.done_per_s):.1f}",
            f"{median(lambda one: one.cpu_s_per_s):.2f}",
        ]


def _throughput_rows(run: Run, server: str) -> Iterator[list[str]]:
    for title in ("short", "long"):
        if found := _figures(run, server, title, Throughput):
            speed = statistics.median(one.done_per_s for one in found)
            cpu_ms = statistics.median(one.cpu_ms for one in found)
            yield [server, title, f"{speed:.1f}", f"{cpu_ms:.1f}"]


def _goals(run: Run, server: str) -> Iterator[tuple[str, str, str]]:
    for about, figure in (("start", "start_median_s"), ("have their result", "done_median_s")):
        seen = _ratio(run, server, ("with", "without"), figure)
        yield goal(
            f"{server}: the others' median wait until they {about}, with the big clinic against without",
            f"at most {WAIT_RATIO:g}x",
            "" if seen is None else f"{seen:.2f}x",
            None if seen is None else seen <= WAIT_RATIO,
        )
    stat = _figures(run, server, "with", Waits)
    longest = max((one.stat_longest_s for one in stat), default=None)
    yield goal(
        f"{server}: a STAT study starts, the latest of {sum(one.stat for one in stat)}",
        f"within {STAT_S:g} s",
        "" if longest is None else f"{longest:.2f} s",
        None if longest is None else longest <= STAT_S,
    )
    seen = _ratio(run, server, ("long", "short"), "done_per_s")
    yield goal(
        f"{server}: throughput with the long queue against the short one",
        f"at least {THROUGHPUT_RATIO:g}x",
        "" if seen is None else f"{seen:.2f}x",
        None if seen is None else seen >= THROUGHPUT_RATIO,
    )


def _ratio(run: Run, server: str, titles: tuple[str, str], figure: str) -> float | None:
    """The median over the rounds in which both were measured."""
    both = [
        {one.round: getattr(one.figures, figure) for one in run.measured
         if one.figures and (one.server, one.title) == (server, title)}
        for title in titles
    ]  # fmt: skip
    quotients = [both[0][number] / both[1][number] for number in both[0] if both[1].get(number)]
    return statistics.median(quotients) if quotients else None


def _figures(run: Run, server: str, title: str, kind: type[T]) -> list[T]:
    found = (one.figures for one in run.measured if (one.server, one.title) == (server, title))
    return [figures for figures in found if isinstance(figures, kind)]
