"""Receiving: the node beside DCMTK, Orthanc, stock pynetdicom and a plain copy.

Rounds are interleaved (A B C … A B C …), so that a noisy minute meets everyone; each round begins with another one.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.ingest.associations import AssociationCosts, Effort, measure_all
from benchmarks.ingest.cell import Cell, Plan, measure
from benchmarks.ingest.conditions import conditions
from benchmarks.ingest.goals import outcomes
from benchmarks.ingest.loads import LOADS, make_items
from benchmarks.ingest.receivers import RECEIVERS, Receiver, missing
from benchmarks.ingest.report import Run, as_json, as_markdown, one_line
from benchmarks.ingest.senders import SENDERS
from benchmarks.ingest.summary import summarize
from benchmarks.page import write_into

TITLE = "receiving: the node beside DCMTK, Orthanc, stock pynetdicom and a plain copy"
PAGE = Path("docs/benchmarks.md")
ROUNDS = 5
ASSOCIATIONS = (1, 4)
QUICK_LOADS = ("W3",)
QUICK_ASSOCIATIONS = (4,)
FULL_EFFORT = Effort(set_ups=200, idle_s=10.0)
QUICK_EFFORT = Effort(set_ups=20, idle_s=2.0)
SMALL = "W3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`effort` is None where association costs are left out."""

    rounds: int
    loads: tuple[str, ...]
    associations: tuple[int, ...]
    senders: tuple[str, ...]
    effort: Effort | None
    is_quick: bool

    @property
    def needed_loads(self) -> list[str]:
        return sorted({*self.loads} if self.effort is None else {*self.loads, SMALL})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has a default."""
    several = "several with commas; of: "
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--loads", type=_names(LOADS), metavar="NAMES", help=f"{several}{', '.join(LOADS)}")
    parser.add_argument("--associations", type=_numbers, metavar="NUMBERS", help="several with commas; default 1,4")
    parser.add_argument("--receivers", type=_names(RECEIVERS), metavar="NAMES", help=f"{several}{', '.join(RECEIVERS)}")
    parser.add_argument("--sender", choices=[*SENDERS, "both"], help="default both")
    parser.add_argument("--quick", action="store_true", help="about a minute: does it work?")
    parser.add_argument("--no-association-costs", action="store_true", help="loads only")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bench-out"),
        metavar="DIR",
        help="results, and the disk that is used meanwhile",
    )
    parser.add_argument("--page", action="store_true", help=f"write the tables into {PAGE} as well")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write ingest.json and ingest.md in DIR. 1 where one failed or is missing."""
    order = order_of(arguments)
    asked = arguments.receivers or tuple(RECEIVERS)
    skipped = {name: reason for name in asked if (reason := missing(RECEIVERS[name]))}
    receivers = [RECEIVERS[name] for name in asked if name not in skipped]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as folder:
        work = Path(folder)
        (work / "programs").mkdir()
        items = {name: make_items(LOADS[name], work / name, is_quick=order.is_quick) for name in order.needed_loads}
        seen = conditions(work)
        cells: list[Cell] = []
        costs: list[AssociationCosts] = []
        is_complete = False
        with suppress(KeyboardInterrupt, SystemExit):  # who ends it early gets what there is
            for plan in plans(order, receivers):
                cells.append(measure(plan, RECEIVERS[plan.receiver], items[plan.load], work))
                print(one_line(cells[-1]), file=sys.stderr, flush=True)
            if order.effort is not None:
                costs = measure_all([one for one in receivers if not one.is_plain], items[SMALL], order.effort, work)
            is_complete = True
    medians = summarize(cells)
    report = Run(
        conditions=seen,
        rounds=order.rounds,
        is_quick=order.is_quick,
        is_complete=is_complete,
        skipped=skipped,
        cells=cells,
        medians=medians,
        association_costs=costs,
        goals={
            sender: outcomes(medians, {one.receiver: one for one in costs}, sender=sender) for sender in order.senders
        },
    )
    _publish(report, arguments.out, PAGE if arguments.page else None)
    return 0 if is_complete and not report.failures else 1


def order_of(arguments: argparse.Namespace) -> Order:
    """What was asked for, with the defaults of a full or of a quick run for what was not."""
    is_quick = arguments.quick
    sender = arguments.sender or ("raw" if is_quick else "both")
    effort = QUICK_EFFORT if is_quick else FULL_EFFORT
    return Order(
        rounds=arguments.rounds or (1 if is_quick else ROUNDS),
        loads=arguments.loads or (QUICK_LOADS if is_quick else tuple(LOADS)),
        associations=arguments.associations or (QUICK_ASSOCIATIONS if is_quick else ASSOCIATIONS),
        senders=tuple(SENDERS) if sender == "both" else (sender,),
        effort=None if arguments.no_association_costs else effort,
        is_quick=is_quick,
    )


def plans(order: Order, receivers: Sequence[Receiver]) -> Iterator[Plan]:
    """The cells in the order in which they are measured."""
    for number in range(order.rounds):
        first = number % max(1, len(receivers))
        turn = (*receivers[first:], *receivers[:first])
        for load, count, sender, receiver in product(order.loads, order.associations, order.senders, turn):
            makes_sense = receiver.least_associations <= count <= LOADS[load].most_associations
            if makes_sense and not (receiver.is_plain and sender == "storescu"):
                yield Plan(round=number + 1, load=load, associations=count, sender=sender, receiver=receiver.name)


def _publish(report: Run, out: Path, page: Path | None) -> None:
    table = as_markdown(report)
    (out / "ingest.json").write_text(as_json(report), encoding="utf-8")
    (out / "ingest.md").write_text(table, encoding="utf-8")
    if page is not None:
        write_into(page, "ingest", table)
    print(table)


def _names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return tuple(text.split(","))

    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("numbers of associations, with commas between them")
    return numbers
