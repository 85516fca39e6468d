"""An indexer that runs while a test looks at what it does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from storage.arrivals.indexer import Indexer
from storage.arrivals.news import NewsPipe
from storage.arrivals.receivers import Beat
from storage.database import Database
from storage.instances import Spool
from storage.intake import Recorded
from tests.factories.databases import TIERS


@dataclass
class Following:
    indexer: Indexer
    recorded: list[Recorded] = field(default_factory=list)

    def verdicts(self) -> list[str]:
        """One for each file: a sweep and the receiver may both tell of one."""
        return sorted({one.spool_key: one.verdict for one in self.recorded}.values())


@contextmanager
def following(
    database: Database,
    spool: Spool,
    tiers: dict[str, str] = TIERS,
    pipe: NewsPipe | None = None,
    beat: Beat | None = None,
) -> Iterator[Following]:
    recorded: list[Recorded] = []
    indexer = Indexer(database, spool, tiers=tiers, on_recorded=recorded.append, pipe=pipe, beat=beat)
    indexer.start()
    yield Following(indexer, recorded)
    indexer.stop()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def keys_in(database: Database, table: sa.Table) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(sa.select(table.c.spool_key)))
