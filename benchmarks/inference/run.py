"""The README way and the node's, by turns, on the same images; then a whole node and its own stages, by turns."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inference import radiographs, throughput
from benchmarks.inference.report import Measured, Run, as_markdown
from benchmarks.inference.side import Failed, Question, Side
from benchmarks.inference.throughput import missing
from benchmarks.ingest.conditions import conditions
from benchmarks.page import publish

TITLE = "inference: a radiograph by the README way of torchxrayvision and by the node's; a node beside its own stages"
PARTS = ("ways", "throughput")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """images, rounds: of each image in each syntax, after one to warm up. rows, columns: of the images.
    bursts: of so many studies at once, each beside as many times the stages alone.
    """

    rounds: int = 5
    images: int = 2
    rows: int = radiographs.ROWS
    columns: int = radiographs.COLUMNS
    bursts: int = 3
    studies: int = 24


FULL = Effort()
QUICK = Effort(rounds=1, images=1, rows=620, columns=500, bursts=1, studies=4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has a default."""
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAMES", help="default both")
    parser.add_argument("--quick", action="store_true", help="about a minute, with small images: does it work?")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="what `python -m benchmarks.inference.weights DIR` made before"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md as well")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write inference.json and inference.md in DIR. 1 where one failed or is missing."""
    effort = QUICK if arguments.quick else FULL
    asked = arguments.parts.split(",")
    if unknown := set(asked) - set(PARTS):
        print(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Run(rounds=arguments.rounds or effort.rounds, is_quick=arguments.quick)
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as name:
        folder = Path(name)
        report.conditions = conditions(folder)
        with suppress(KeyboardInterrupt, SystemExit):  # who ends it early gets what there is
            try:
                _measure(report, effort, asked, folder, arguments.weights)
            except Failed as error:
                report.failures.append(str(error))
            report.is_complete = True
    publish("inference", report, as_markdown(report), out=arguments.out, is_for_page=arguments.page)
    return 0 if report.is_complete and not report.failures else 1


def _measure(report: Run, effort: Effort, asked: list[str], folder: Path, weights: Path | None) -> None:
    if reason := missing():
        report.skipped["everything"] = reason
        return
    if weights is None:
        throughput.make_weights(folder)
    else:
        for name in ("model.pt", "models"):
            (folder / name).symlink_to((weights / name).absolute())
    if "ways" in asked:
        images = [
            radiographs.make(folder, number=number, rows=effort.rows, columns=effort.columns)
            for number in range(effort.images)
        ]
        with _side("readme_way", folder) as readme, _side("node_way", folder) as node:
            _by_turns(report, images, readme, node)
    if "throughput" in asked:
        for burst in throughput.bursts(folder, effort.bursts, effort.studies, rows=effort.rows, columns=effort.columns):
            report.bursts.append(burst)
            report.note_load()
            _say(f"a burst: {burst.per_s:.2f} studies/s, the stages alone {burst.alone_per_s:.2f}")


def _by_turns(report: Run, images: list[dict[str, Path]], readme: Side, node: Side) -> None:
    for round_number in range(report.rounds + 1):
        for syntax in radiographs.SYNTAXES:
            if syntax in report.skipped:
                continue
            for image in images:
                try:
                    measured = _one(syntax, round_number, str(image[syntax]), readme, node)
                except Failed as error:
                    report.skipped[syntax] = str(error)
                    break
                if round_number:  # the first one loads and compiles
                    report.measured.append(measured)
        report.note_load()
        _say(f"round {round_number} of {report.rounds}")


def _one(syntax: str, round_number: int, path: str, readme: Side, node: Side) -> Measured:
    theirs = readme.ask(Question(image=path, overlay="film"))
    page = node.ask(Question(image=path, overlay="page"))
    film = node.ask(Question(image=path, overlay="film"))
    eager = readme.ask(Question(image=path, overlay="none"))
    return Measured(
        syntax=syntax,
        round=round_number,
        readme=theirs,
        node_page=page,
        node_film=film,
        eager_forward_ms=eager.cpu_ms["forward"],
        difference=max(abs(one - other) for one, other in zip(theirs.scores, page.scores, strict=True)),
    )


@contextmanager
def _side(module: str, folder: Path) -> Iterator[Side]:
    side = Side(f"benchmarks.inference.{module}", folder)
    try:
        yield side
    finally:
        side.close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
