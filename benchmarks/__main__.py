"""`make bench`: side-by-side figures, each part in one run of its own. `python -m benchmarks [PART [OPTION…]]`

Without a part, all of them with their own defaults. `python -m benchmarks PART --help` tells what a part can be asked.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import at_rest, results
from benchmarks.fairness import run as fairness
from benchmarks.gpu import run as gpu
from benchmarks.inference import run as inference
from benchmarks.ingest import run as ingest
from benchmarks.latency import run as latency
from tests.billing_chaos import __main__ as metering
from tests.chaos import __main__ as chaos


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """`run` prints its figures, and returns 1 where a measurement failed."""

    title: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


PARTS = {
    "ingest": Part(title=ingest.TITLE, add_arguments=ingest.add_arguments, run=ingest.run),
    "latency": Part(title=latency.TITLE, add_arguments=latency.add_arguments, run=latency.run),
    "inference": Part(title=inference.TITLE, add_arguments=inference.add_arguments, run=inference.run),
    "fairness": Part(title=fairness.TITLE, add_arguments=fairness.add_arguments, run=fairness.run),
    "results": Part(title=results.TITLE, add_arguments=results.add_arguments, run=results.run),
    "gpu": Part(title=gpu.TITLE, add_arguments=gpu.add_arguments, run=gpu.run),
    "at_rest": Part(title="what encryption at rest costs", add_arguments=at_rest.add_arguments, run=at_rest.run),
    "metering": Part(title=metering.TITLE, add_arguments=metering.add_arguments, run=metering.run),
    "chaos": Part(title="studies while all goes wrong", add_arguments=chaos.add_arguments, run=chaos.run),
}


def main() -> int:
    """0; 1 where a measurement failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parts = parser.add_subparsers(dest="part", metavar="PART")
    for name, part in PARTS.items():
        part.add_arguments(parts.add_parser(name, help=part.title))
    asked = parser.parse_args()
    # Whoever ends it ends its receivers with it, and finds no folders left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chosen = [asked] if asked.part else [parser.parse_args([name]) for name in PARTS]
    return max(PARTS[arguments.part].run(arguments) for arguments in chosen)


if __name__ == "__main__":
    sys.exit(main())
