"""Does to a node whatever can go wrong, for as long as one likes, and looks whether every study came out all the same.

python -m tests.chaos --database postgresql --studies 200 --seconds 600 --seed 1
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.databases import DATABASES
from tests.chaos.run import Plan, chaos

STUDIES, SECONDS = 200, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: one after the other")
    parser.add_argument("--studies", type=int, default=STUDIES, help="at least")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="about so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there as well")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder, which keeps everything")


def run(arguments: argparse.Namespace) -> int:
    """Print a table for each database; 1 where a promise was broken."""
    outcomes = []
    for kind in arguments.database or DATABASES:
        plan = Plan(database=kind, studies=arguments.studies, seconds=arguments.seconds, seed=arguments.seed)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) if arguments.keep is None else arguments.keep / kind
            place.mkdir(parents=True, exist_ok=True)
            outcomes.append(chaos(place, plan))
        print("\n".join(outcomes[-1].lines()), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=2), encoding="utf-8")
    return 0 if all(outcome.is_clean() for outcome in outcomes) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    # Whoever ends it ends the node with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
