"""Requests that were answered with success and have no row yet: one durable file each.

    requests/<kind>/<key>.json      durable: written, synced, renamed, directory synced. Only then is 0x0000 answered
    requests/<kind>/<key>.damaged   cannot be read; kept for a person to look at, for ninety days

Beside the spool for the same reason: answering must not depend on the database. A follower brings each file into the
database and removes it; when it dies in between, the next one finds the row and removes the file.
"""

import errno
import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import structlog

from storage.database import Database
from storage.durable_files import TEMPORARY_PREFIX, remove_abandoned, remove_old, sync_directory, write_durably
from storage.plain import from_plain

log = structlog.get_logger()

T = TypeVar("T")

COMMITMENTS = "commitments"  # a kind; the other is storage/requests/step_folder.py's
DAMAGED_KEPT_FOR_S = 90 * 86400.0
# A database that is away over a long weekend leaves fewer.
MOST_WAITING = 20_000


class RequestBox:
    """The folder of one kind of request."""

    def __init__(self, data_dir: Path, kind: str) -> None:
        self.data_dir = data_dir
        self.root = data_dir / "requests" / kind
        self.root.mkdir(parents=True, exist_ok=True)
        for directory in (self.root, self.root.parent, data_dir):
            sync_directory(directory)

    def put(self, content: bytes) -> str:
        """Keep one request durably, and return its key.

        Raises:
            OSError: the disk is full, or broken, or too many wait already; nothing is left behind.
        """
        if len(os.listdir(self.root)) >= MOST_WAITING:
            raise OSError(errno.EDQUOT, "too many requests wait for the database")
        key = secrets.token_hex(16)
        write_durably(self._path(key), content)
        return key

    def bring_in(
        self,
        database: Database,
        kind: type[T],
        record: Callable[[sa.Connection, T], bool],
        keys: Sequence[str] | None = None,
    ) -> int:
        """Bring every waiting request, or these, into the database, each in a transaction of its own; how many that
        were. `record` may be given one twice. False: it gets no row yet, and waits.

        Raises:
            DBAPIError: the database is away; the requests wait.
        """
        brought = 0
        for key in self.waiting() if keys is None else keys:
            content = self.read(key)
            if content is None:
                continue
            try:
                request = from_plain(kind, json.loads(content))
            except ValueError:
                log.error("request_damaged", where=str(self._path(key)))
                self.set_aside(key)
                continue
            with database.write() as connection:
                has_row = record(connection, request)
            if has_row:
                self.remove(key)
                brought += 1
        return brought

    def waiting(self) -> list[str]:
        """The key of every request that waits, the oldest first."""
        found = []
        for entry in os.scandir(self.root):
            if entry.name.endswith(".json") and not entry.name.startswith(TEMPORARY_PREFIX):
                try:
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name.removesuffix(".json")))
                except FileNotFoundError:  # another follower has brought it in
                    continue
        return [key for _, key in sorted(found)]

    def read(self, key: str) -> bytes | None:
        """The request; None: another follower has brought it in, or it cannot be read now and holds up no other."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("request_unreadable", where=str(self._path(key)), error=str(error.strerror))
            return None

    def remove(self, key: str) -> None:
        """To be called once its row is committed."""
        self._path(key).unlink(missing_ok=True)

    def set_aside(self, key: str) -> None:
        """Keep a file that cannot be read, where nobody looks for requests."""
        with suppress(FileNotFoundError):
            os.rename(self._path(key), self.root / f"{key}.damaged")

    def remove_leftovers(self) -> int:
        """Remove what was begun long ago and never finished, or damaged long ago; how many files that were."""
        return remove_old(self.root, "*.damaged", older_than_s=DAMAGED_KEPT_FOR_S) + remove_abandoned(self.root)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.json"
