"""What the result objects cost to write: filled into moulds, as the node does it, and built by highdicom alone.

Both make the same bytes of the same answers, by turns. Every round has other scores, as another study has.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.ingest.conditions import Conditions, conditions
from benchmarks.page import goal, publish, spoken, table
from domain.findings import Finding
from domain.study import Study
from inference.package import load
from inference.registry import BUILTIN_DIR
from reports.material import Material
from reports.request import ReportRequest
from reports.source import read_source
from reports.uids import fingerprint_of
from reports.validate import require_valid
from reports.write import PROFILES, all_writers
from reports.writer import Drafted
from tests.factories.analyses import analysis, display, report_request
from tests.factories.direct import written_directly
from tests.factories.sources import radiograph, stored_study

T = TypeVar("T")

TITLE = "results: what it costs to write them"
GOAL_MS = 25.0
DISPLAY_PX = (979, 800)  # what the node makes of an image of 1,536 by 1,255 pixels, as it decodes it


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Milliseconds of CPU in each round. drafted: what both ways begin with; of an overlay, drawing the picture."""

    drafted: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    filled: list[float] = field(default_factory=list)
    checked: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """
    first_ms: of CPU, for all objects of the first study in a new process, which casts the moulds.
    source_ms: of CPU in each round, to read the source's headers and to digest all that decides the UIDs.
    """

    conditions: Conditions
    rounds: int
    findings: int
    first_ms: float
    source_ms: list[float]
    costs: dict[str, Cost]

    @property
    def all_ms(self) -> float:
        """What a study takes, from the answers to all objects checked."""
        written = (median(cost.drafted) + median(cost.filled) + median(cost.checked) for cost in self.costs.values())
        return median(self.source_ms) + sum(written)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="a few seconds: does it work?")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md as well")


def run(arguments: argparse.Namespace) -> int:
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as folder:
        measured = measure(Path(folder), rounds=3 if arguments.quick else arguments.rounds)
    publish("results", measured, as_markdown(measured), out=arguments.out, is_for_page=arguments.page)
    return 0


def measure(folder: Path, *, rounds: int) -> Run:
    under = conditions(folder)
    study = stored_study([radiograph(1)], folder)
    costs = {kind: Cost() for kind in PROFILES["standard"]}
    first = request(study, 0)
    first_ms, _ = timed(lambda: [draft(kind, material(first)).encode() for kind in costs])
    source_ms = []
    for number in range(1, rounds + 1):
        spent_ms, answered = timed(partial(material, request(study, number)))
        source_ms.append(spent_ms)
        for kind, cost in costs.items():
            measure_one(partial(draft, kind, answered), cost, direct_first=number % 2 == 0)
    findings = len(answered.request.analysed_images[0].findings)
    return Run(conditions=under, rounds=rounds, findings=findings, first_ms=first_ms, source_ms=source_ms, costs=costs)


def measure_one(make: Callable[[], Drafted], cost: Cost, *, direct_first: bool) -> None:
    spent_ms, drafted = timed(make)
    cost.drafted.append(spent_ms)
    ways: list[tuple[list[float], Callable[[], bytes]]] = [
        (cost.filled, drafted.encode),
        (cost.direct, partial(written_directly, drafted)),
    ]
    contents: set[bytes] = set()
    for spent, way in reversed(ways) if direct_first else ways:
        spent_ms, content = timed(way)
        spent.append(spent_ms)
        contents.add(content)
    if len(contents) != 1:
        raise AssertionError(f"{drafted.form.kind}: the two ways differ")
    cost.checked.append(timed(partial(require_valid, contents.pop()))[0])


def request(study: Study, number: int) -> ReportRequest:
    """Answers with all labels of the adult chest package; the scores are drawn by lot."""
    chance = random.Random(number)
    findings = tuple(
        Finding(label=of.label, code=of.code, site=of.site, certainty=chance.random(), threshold=of.threshold)
        for of in load(BUILTIN_DIR / "chest").manifest.labels
    )
    answered = report_request(study, analysis(study, findings=findings))
    return replace(answered, displays={uid: display(*DISPLAY_PX) for uid in answered.displays})


def material(answered: ReportRequest) -> Material:
    source = read_source(answered.study)
    return Material(request=answered, source=source, fingerprint=fingerprint_of(answered, source))


def draft(kind: str, answered: Material) -> Drafted:
    (only,) = all_writers()[kind].write(answered)
    return only


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """(Milliseconds of CPU, what the work gives)."""
    began = time.process_time()
    result = work()
    return (time.process_time() - began) * 1000, result


def as_markdown(run: Run) -> str:
    heads = ["median CPU ms", "drafted", "highdicom alone", "filled", "checked", "highdicom / filled"]
    rows = []
    for kind, cost in run.costs.items():
        figures = [median(cost.drafted), median(cost.direct), median(cost.filled), median(cost.checked)]
        rows.append([kind, *(f"{figure:.1f}" for figure in figures), f"{figures[1] / figures[2]:.1f}x"])
    about = f"all objects of a study of {run.findings} findings: drawn, written and checked"
    goals = [
        goal(about, f"at most {GOAL_MS:g} ms of CPU", f"{run.all_ms:.1f} ms", run.all_ms <= GOAL_MS),
        ("of that, reading the source's headers and the digest for the UIDs", "", f"{median(run.source_ms):.1f} ms"),
        ("the first study in a new process, without the checks", "", f"{run.first_ms:.0f} ms"),
    ]
    kind_of_run = f"{run.rounds} rounds, {run.findings} findings"
    return "\n".join(
        [
            spoken(run.conditions, kind=kind_of_run, loads=[]),
            table(heads, rows),
            table(["about", "goal", "seen"], goals),
        ]
    )
