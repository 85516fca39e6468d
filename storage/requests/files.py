"""Requests that were answered with success and have no row yet: one durable file each.

    requests/<kind>/<key>.json      durable: written, synced, renamed, directory synced. Only then is 0x0000 answered
    requests/<kind>/<key>.damaged   cannot be read; kept for a person to look at, for ninety days

Beside the spool for the same reason: answering must not depend on the database. A follower brings each file into the
database and removes it; when it dies in between, the next one finds the row and removes the file.
"""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

COMMITMENTS = "commitments"  # a kind; the other is storage/requests/step_folder.py's
TEMPORARY_PREFIX = "."
ABANDONED_AFTER_S = 3600.0
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

    def bring_in(self, parse: Callable[[bytes], T], record: Callable[[str, T], bool]) -> int:
        """Hand each waiting request to `record`, with its key, and remove it when that has committed its row.

        parse: raises ValueError for a damaged file, which is set aside. record: False leaves the request waiting, for
        the next time; another follower may be handed the same one at the same moment.
        """
        brought = 0
        for key in self.waiting():
            content = self.read(key)
            if content is None:
                continue
            try:
                request = parse(content)
            except ValueError:
                log.error("request_damaged", where=str(self._path(key)))
                self.set_aside(key)
                continue
            if record(key, request):
                self.remove(key)
                brought += 1
        return brought

    def waiting(self) -> list[str]:
        """The key of every request that waits, the oldest first."""
        found = []
        for entry in os.scandir(self.root):
            if entry.name.endswith(".json") and not entry.name.startswith(TEMPORARY_PREFIX):
                try:
                    found.append((entry.stat().st_mtime_ns, entry.name.removesuffix(".json")))
                except FileNotFoundError:  # another follower has brought it in
                    continue
        return [key for _, key in sorted(found)]

    def read(self, key: str) -> bytes | None:
        """The request, or None when another follower has brought it in."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
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


def write_durably(final: Path, content: bytes) -> None:
    """Put a whole file in the place of `final`, in this order: write, sync, rename, sync the directory.

    Raises:
        OSError: the disk is full, or broken; `final` is as it was.
    """
    temporary = final.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(temporary, final)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(final.parent)


def sync_directory(directory: Path) -> None:
    """A rename is durable only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One at a time, in all threads and processes: a file in `directory` is read and written under the same lock."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_abandoned(directory: Path) -> int:
    """Remove the temporary files in `directory` that nobody writes any more; how many there were."""
    return remove_old(directory, f"{TEMPORARY_PREFIX}*", older_than_s=ABANDONED_AFTER_S)


def remove_old(directory: Path, pattern: str, *, older_than_s: float) -> int:
    """Remove the files of this pattern that were last written so long ago; how many there were."""
    removed = 0
    for path in directory.glob(pattern):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    return removed
