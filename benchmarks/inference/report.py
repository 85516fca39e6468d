"""What a run leaves: medians by stage, how many times faster, the goals, and where a node's processor time goes."""

import importlib.metadata
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.inference.radiographs import SYNTAXES
from benchmarks.inference.side import Answer
from benchmarks.inference.throughput import Burst
from benchmarks.ingest.conditions import Conditions
from benchmarks.page import goal, spoken, table

STAGES = ("decode", "preprocess", "forward", "heatmap", "overlay")
BESIDE = ("preprocess", "heatmap", "overlay")  # what is neither decoding nor the network
# How many times faster than the README way: with the page that the node writes, and with the film at its full size.
PAGE_GOALS = {"raw": 12.0, "rle": 11.0, "jpeg_lossless": 9.0, "jpeg_ls": 5.0, "jpeg_2000": 2.2}
FILM_GOALS = {"raw": 9.0, "rle": 8.0, "jpeg_lossless": 7.0, "jpeg_ls": 4.0, "jpeg_2000": 2.0}
MOST_OF_EAGER = 0.42
MOST_OF_FORWARD = 0.7
LEAST_OF_ALONE = 0.7
TOLERANCE = 1e-4
LIBRARIES = ("torch", "torchxrayvision", "scikit-image", "python-gdcm", "pylibjpeg-rle", "onnxruntime", "imagecodecs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One image in one syntax, by each way. eager_forward_ms: torch in inference mode. difference: of a score."""

    syntax: str
    round: int
    readme: Answer
    node_page: Answer
    node_film: Answer
    eager_forward_ms: float
    difference: float


@dataclass(slots=True)
class Run:
    """
    is_complete: False where somebody ended it early.
    skipped: what this machine cannot run, and why.
    """

    rounds: int
    is_quick: bool
    skipped: dict[str, str] = field(default_factory=dict)
    conditions: Conditions | None = None
    is_complete: bool = False
    failures: list[str] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    libraries: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.libraries = {name: _version(name) for name in LIBRARIES}

    def note_load(self) -> None:
        self.loads.append(os.getloadavg()[0])


def as_markdown(run: Run) -> str:
    """Conditions, figures, goals, and what was skipped or failed."""
    kind = "quick run: it shows that everything works, not how fast" if run.is_quick else f"{run.rounds} rounds"
    parts = []
    if run.conditions:
        kind += "" if run.is_complete else ", ended early"
        parts.append(spoken(run.conditions, kind=kind, loads=run.loads))
    parts.append(", ".join(f"{name} {version}" for name, version in run.libraries.items()) + ".\n")
    heads = ("CPU ms, median", "way", *STAGES, "total", "wall", "x README way")
    parts.append(table(heads, [row for syntax in SYNTAXES for row in _ways(run, syntax)]))
    if run.bursts:
        parts.append(_node_tables(run.bursts))
    parts.append(table(("about", "goal", "seen"), _goals(run)))
    notes = [f"- skipped {name}: {reason}\n" for name, reason in run.skipped.items()]
    notes += [f"- failed: {failure}\n" for failure in run.failures]
    return "\n".join([*parts, *(["".join(notes)] if notes else [])])


def _ways(run: Run, syntax: str) -> Iterator[list[str]]:
    measured = [one for one in run.measured if one.syntax == syntax]
    if not measured:
        return
    ways: dict[str, Callable[[Measured], Answer]] = {
        "README": lambda one: one.readme,
        "node, its page": lambda one: one.node_page,
        "node, full size": lambda one: one.node_film,
    }
    for name, way in ways.items():
        stages = [statistics.median(way(one).cpu_ms[stage] for one in measured) for stage in STAGES]
        yield [
            SYNTAXES[syntax].title,
            name,
            *(f"{ms:.1f}" for ms in stages),
            f"{statistics.median(_total(way(one)) for one in measured):.0f}",
            f"{statistics.median(sum(way(one).wall_ms.values()) for one in measured):.0f}",
            f"{statistics.median(_total(one.readme) / _total(way(one)) for one in measured):.2f}",
        ]


def _node_tables(bursts: list[Burst]) -> str:
    """The stages alone, and where a whole node's processor time goes."""
    alone = [
        (what, [{stage: pair[place] for stage, pair in burst.alone_ms.items()} for burst in bursts])
        for place, what in enumerate(("wall", "CPU"))
    ]
    node = [("CPU", [burst.node_cpu_ms for burst in bursts])]
    return "\n".join([_table_of("alone", alone), _table_of("whole node", node)])


def _table_of(title: str, lines: list[tuple[str, list[dict[str, float]]]]) -> str:
    """Of each line the medians of its bursts."""
    names = list(lines[0][1][0])
    rows = [
        [
            what,
            *(f"{statistics.median(one[name] for one in bursts):.0f}" for name in names),
            f"{statistics.median(sum(one.values()) for one in bursts):.0f}",
        ]
        for what, bursts in lines
    ]
    return table((f"{title}, ms a study", *names, "sum"), rows)


def _goals(run: Run) -> Iterator[tuple[str, str, str]]:
    ways: tuple[tuple[dict[str, float], str, Callable[[Measured], Answer]], ...] = (
        (PAGE_GOALS, "the node's page", lambda one: one.node_page),
        (FILM_GOALS, "at full size", lambda one: one.node_film),
    )
    for goals, what, way in ways:
        for syntax, wanted in goals.items():
            measured = [one for one in run.measured if one.syntax == syntax]
            seen = [_total(one.readme) / _total(way(one)) for one in measured]
            about = f"{SYNTAXES[syntax].title}, {what}: times faster than the README way"
            yield _at_least(about, wanted, seen)
    eager = [one.node_page.cpu_ms["forward"] / one.eager_forward_ms for one in run.measured]
    yield _at_most("forward pass against eager torch in inference mode", MOST_OF_EAGER, eager)
    beside = [
        sum(one.node_page.cpu_ms[stage] for stage in BESIDE) / one.node_page.cpu_ms["forward"] for one in run.measured
    ]
    yield _at_most("all but decoding and forward pass, against the forward pass", MOST_OF_FORWARD, beside)
    yield _at_least(
        "studies/s of a whole node against its stages in a bare loop on each core",
        LEAST_OF_ALONE,
        [burst.per_s / burst.alone_per_s for burst in run.bursts],
    )
    differences = [one.difference for one in run.measured]
    yield goal(
        "largest difference of a score",
        f"at most {TOLERANCE:g}",
        f"{max(differences):.2g}" if differences else "",
        max(differences) <= TOLERANCE if differences else None,
    )


def _at_least(about: str, wanted: float, seen: list[float]) -> tuple[str, str, str]:
    median = statistics.median(seen) if seen else None
    is_met = None if median is None else median >= wanted
    return goal(about, f"at least {wanted:g}x", "" if median is None else f"{median:.2f}x", is_met)


def _at_most(about: str, wanted: float, seen: list[float]) -> tuple[str, str, str]:
    median = statistics.median(seen) if seen else None
    is_met = None if median is None else median <= wanted
    return goal(about, f"at most {wanted:g}x", "" if median is None else f"{median:.2f}x", is_met)


def _total(answer: Answer) -> float:
    return sum(answer.cpu_ms.values())


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
