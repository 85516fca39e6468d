"""One clinic sends 10,000 studies: how long the others wait, when STAT starts, and what a long queue costs.

Rounds are interleaved (without, with, without …; 1,000 queued, 100,000 queued …), so that a noisy minute meets both.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fairness import databases, measure
from benchmarks.fairness.clinics import BIG
from benchmarks.fairness.databases import Server
from benchmarks.fairness.measure import Failed, Throughput, Waits
from benchmarks.fairness.report import Measured, Run, as_markdown
from benchmarks.ingest.conditions import conditions
from benchmarks.page import publish

TITLE = "fairness: 300 clinics, of which one sends 10,000 studies"
SERVERS = ("SQLite", "PostgreSQL")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """queued: the big clinic's studies that are in the queue at the beginning; `dump` more come while it is measured.

    others_per_s, work_s: what the other clinics send keeps the worker's two slots busy to about 60 %.
    short, long: the queues whose throughput is compared.
    """

    rounds: int = 3
    for_s: float = 40.0
    queued: int = 9_400
    dump: int = 600
    others_per_s: float = 4.0
    work_s: float = 0.25
    stat_every_s: float = 2.0
    short: int = 1_000
    long: int = 100_000
    throughput_s: float = 15.0


FULL = Effort()
QUICK = Effort(rounds=1, for_s=6.0, queued=500, dump=100, stat_every_s=1.0, short=200, long=1_000, throughput_s=6.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has a default."""
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument(
        "--servers", default=",".join(SERVERS), metavar="NAMES", help="several with commas; default both"
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: does it work?")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md as well")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write fairness.json and fairness.md in DIR. 1 where one failed or is missing."""
    effort = QUICK if arguments.quick else FULL
    asked = arguments.servers.split(",")
    if unknown := set(asked) - set(SERVERS):
        print(f"there is no {', '.join(unknown)}; there are {', '.join(SERVERS)}", file=sys.stderr)
        return 2
    skipped = {name: reason for name in asked if (reason := databases.missing(name))}
    rounds = arguments.rounds or effort.rounds
    arguments.out.mkdir(parents=True, exist_ok=True)
    measured: list[Measured] = []
    is_complete = False
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as folder:
        seen = conditions(Path(folder))
        with suppress(KeyboardInterrupt, SystemExit):  # who ends it early gets what there is
            for name in asked:
                if name not in skipped:
                    for one in _measure(name, effort, rounds, Path(folder)):
                        print(one.line, file=sys.stderr, flush=True)
                        measured.append(one)
            is_complete = True
    report = Run(
        conditions=seen, rounds=rounds, is_quick=arguments.quick, is_complete=is_complete, skipped=skipped,
        measured=measured,
    )  # fmt: skip
    publish("fairness", report, as_markdown(report), out=arguments.out, is_for_page=arguments.page)
    return 0 if is_complete and not any(one.failure for one in measured) else 1


def _measure(name: str, effort: Effort, rounds: int, folder: Path) -> Iterator[Measured]:
    with databases.server(name, folder / name) as on:
        empty = databases.template(on, queued=0)
        backlog = databases.template(on, queued=effort.queued, of=[BIG])
        for number in range(1, rounds + 1):
            for title, start, dump in (("without", empty, 0), ("with", backlog, effort.dump)):
                yield _try(name, title, number, partial(_waits, on, start, folder, effort, dump, number))
        on.drop(backlog)
        filled = {count: databases.template(on, queued=count) for count in (effort.short, effort.long)}
        for number in range(1, rounds + 1):
            for title, count in (("short", effort.short), ("long", effort.long)):
                yield _try(name, title, number, partial(_throughput, on, filled[count], folder, effort))


def _waits(on: Server, start: str, folder: Path, effort: Effort, dump: int, seed: int) -> Waits:
    return measure.waits(
        on, start, folder, others_per_s=effort.others_per_s, dump=dump, work_s=effort.work_s, for_s=effort.for_s,
        stat_every_s=effort.stat_every_s, seed=seed,
    )  # fmt: skip


def _throughput(on: Server, filled: str, folder: Path, effort: Effort) -> Throughput:
    return measure.throughput(on, filled, folder, queued=effort.short, for_s=effort.throughput_s)


def _try(name: str, title: str, number: int, work: Callable[[], Waits | Throughput]) -> Measured:
    try:
        return Measured(server=name, title=title, round=number, figures=work())
    except Failed as error:
        return Measured(server=name, title=title, round=number, failure=str(error))
