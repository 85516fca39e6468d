"""The shared store as one machine uses it: what it reads comes through a folder of its own, which stays small.

    put, remove  ->  the store          open  ->  <data_dir>/cache/<name>, fetched from the store if it is not there

The cache is nobody's truth: any process may empty it at any time. Who has opened a file keeps it.
"""

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from domain.errors import Away
from storage.shared.store import Listed, NotThere, SharedStore

CACHE_BYTES = 10 * 10**9
# A study is read soon after it has come. What was erased elsewhere must not stay here for long.
KEPT_FOR_S = 3600.0
TRIMMED_EVERY = 16  # times that a sixteenth of the limit is fetched


class SharedFiles:
    """Safe to use from several threads, and from several processes with the same cache at once."""

    def __init__(self, store: SharedStore, cache: Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.store = store
        self.cache = cache
        self._limit = cache_bytes
        self._fetched = 0
        cache.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, content: Path | bytes) -> None:
        """Raises:
        Away: the store is.
        """
        self.store.put(name, content)

    def exists(self, name: str) -> bool:
        return self.store.exists(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        return self.store.list(prefix)

    def remove(self, name: str) -> None:
        """From the store, and from this machine's cache; other machines' caches forget it within `KEPT_FOR_S`."""
        self.store.remove(name)
        self._cached(name).unlink(missing_ok=True)

    def open(self, name: str) -> BinaryIO:
        """The object, for reading.

        Raises:
            NotThere: there is none.
            Away: the store is, or the cache cannot be written.
        """
        path = self._cached(name)
        try:
            file = open(path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return self._fetch(name, path)
        with suppress(FileNotFoundError):
            os.utime(path)
        return file

    def trim(self) -> None:
        """Remove what nobody has opened for long, and the least lately opened beyond the limit."""
        self._fetched, room = 0, self._limit
        found = [(state.st_mtime, state.st_size, path) for path, state in self._files()]
        for opened_at, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0 or time.time() - opened_at > KEPT_FOR_S:
                path.unlink(missing_ok=True)

    def empty(self) -> None:
        """Harmless to whoever has opened a file."""
        for path, _ in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The cache may be a file system of its own, which has folders of its own (lost+found)."""
        for path in self.cache.iterdir():
            with suppress(FileNotFoundError):
                if stat.S_ISREG((state := path.lstat()).st_mode):
                    yield path, state

    def _fetch(self, name: str, path: Path) -> BinaryIO:
        temporary = path.with_name(f".{secrets.token_hex(16)}")
        try:
            with open(temporary, "xb") as target:
                self.store.get(name, target)
                self._fetched += target.tell()
            file = open(temporary, "rb")  # noqa: SIM115
            with suppress(FileNotFoundError):  # another process has emptied the cache
                os.rename(temporary, path)
        except NotThere:
            raise
        except OSError as error:
            raise Away(f"the cache {self.cache} cannot be used: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        if self._fetched > self._limit / TRIMMED_EVERY:
            self.trim()
        return file

    def _cached(self, name: str) -> Path:
        """Keys and UIDs are the last part of every name, and no two of them are the same."""
        return self.cache / PurePosixPath(name).name
