"""Finds the files in the spool that no row mentions, in the order in which they were received.

    names in the spool, 500 at a time  ->  those without a row  ->  sorted by time of modification  ->  batches
                                       └─>  the others, handed out at once: with a shared store they move there

The order matters: of two instances with the same SOP Instance UID the first received is the one that is kept. A file's
time of modification is that of its last byte; where two have the same, the batch is not cut between them.

A spool of a million files is swept in the memory of one batch: what is found is sorted by SQLite in a temporary file of
its own. A file that has a row costs a name and its share of one query, nothing more.
"""

import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import structlog

from storage.database import Database
from storage.instances import Spool
from storage.intake import unknown_keys

log = structlog.get_logger()

NAMES_AT_ONCE = 500
BATCH_LIMIT = 500
SAME_TIME_LIMIT = 10_000
LEFT_LIMIT = 10_000
TICK_S = 0.02  # file systems take the time of the last tick of the kernel's clock: 10 ms ago at most
AHEAD_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A file that no row mentions."""

    spool_key: str
    modified_ns: int


class Sweep:
    """One look through the spool: `find` in portions, so that its owner can do other things in between; then `batches`.

    Only what was stored before the sweep began is looked at: while it reads one folder of the spool, an instance and
    its re-send may arrive in folders before and behind it, and it would see the second without the first. What arrives
    meanwhile is told by the receiver.

    left: some of what it did not look at, because it seems to have arrived meanwhile. It may also have come before, by
    a clock that was put back since.
    """

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._begun_ns = time.time_ns()
        time.sleep(TICK_S)
        self._names = spool.stored_keys()
        # An empty name: a file that SQLite makes, keeps out of sight and removes.
        self._found = sqlite3.connect("")
        self._found.execute("CREATE TABLE found (modified_ns INTEGER NOT NULL, spool_key TEXT NOT NULL)")

        self.count = 0
        self.left: set[str] = set()

    def find(self) -> Iterator[list[str]]:
        """Look at all names, and count the files without a row; the keys of those that have one, in portions.

        Raises:
            DBAPIError: the database is away.
        """
        while names := list(islice(self._names, NAMES_AT_ONCE)):
            without_row = unknown_keys(self._database, names)
            missing = [found for key in without_row if (found := look_at(self._spool, key)) and self._is_its(found)]
            self._found.executemany(
                "INSERT INTO found VALUES (?, ?)", [(found.modified_ns, found.spool_key) for found in missing]
            )
            self.count += len(missing)
            yield sorted(set(names).difference(without_row))

    def batches(self) -> Iterator[list[Found]]:
        """What was found, the first received first."""
        with closing(self._found.execute("SELECT modified_ns, spool_key FROM found ORDER BY modified_ns")) as rows:
            batch: list[Found] = []
            for modified_ns, spool_key in rows:
                is_full = len(batch) >= BATCH_LIMIT and modified_ns != batch[-1].modified_ns
                if is_full or len(batch) >= SAME_TIME_LIMIT:
                    yield batch
                    batch = []
                batch.append(Found(spool_key=spool_key, modified_ns=modified_ns))
            if batch:
                yield batch

    def close(self) -> None:
        self._found.close()

    def _is_its(self, found: Found) -> bool:
        # A time still to come was written by a clock that went wrong: nothing that arrives now has it.
        is_of_the_future = found.modified_ns > time.time_ns() + AHEAD_S * 1e9
        if found.modified_ns <= self._begun_ns or is_of_the_future:
            return True
        if len(self.left) < LEFT_LIMIT:
            self.left.add(found.spool_key)
        return False


def look_at(spool: Spool, spool_key: str) -> Found | None:
    """A file of the spool; None: it is gone, or is no file that one can read to its end."""
    try:
        state = spool.path(spool_key).stat()
    except OSError:  # dropped meanwhile, or a link to nowhere
        return None
    if not stat.S_ISREG(state.st_mode):
        log.error("foreign_file_in_spool", spool_key=spool_key, error="it is not a regular file")
        return None
    return Found(spool_key=spool_key, modified_ns=state.st_mtime_ns)
