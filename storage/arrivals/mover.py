"""Moves instances from this machine's spool into the shared store, several at once, before they get their rows.

    digest -> put     then the row     then the file here goes

The digest goes into the row: whether an instance has come before is then told without fetching the first one, while
nobody else may write for the clinic. An own result that a PACS sent back is not moved: it will be dropped.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from storage.content import content_sha256
from storage.headers import StoredInstance
from storage.instances import Spool

log = structlog.get_logger()

AT_ONCE = 8


class Mover:
    """Without a shared store it does nothing."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mover") if spool.shared is not None else None

    def moved(
        self, stored: Sequence[StoredInstance], *, meanwhile: Callable[[], None] = lambda: None
    ) -> list[StoredInstance]:
        """Those that are in the shared store now, with their digests. One whose file has gone is left out.

        meanwhile: is called after each.

        Raises:
            Away: the store is; some may be there.
        """
        if self._pool is None:
            return list(stored)
        moved = []
        for instance in self._pool.map(self._move, stored):
            if instance is not None:
                moved.append(instance)
            meanwhile()
        return moved

    def let_go(self, keys: Sequence[str]) -> None:
        """The files of these are no longer needed here: their rows are written."""
        if self._pool is not None:
            for key in keys:
                self._spool.let_go(key)

    def move_known(self, keys: Sequence[str], *, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Let go of files that have had their rows for longer; how many there were. Some may have come before there was
        a shared store.

        Raises:
            Away: the store is.
        """
        if self._pool is None:
            return 0
        for _ in self._pool.map(self._move_known, keys):
            meanwhile()
        return len(keys)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _move(self, instance: StoredInstance) -> StoredInstance | None:
        if instance.is_own_result:
            return instance
        try:
            digest = content_sha256(self._spool, instance.spool_key)
            if not (self._spool.shares_before_commit and self._spool.is_shared(instance.spool_key)):
                self._spool.share(instance.spool_key)
        except FileNotFoundError:  # erased meanwhile
            return None
        except OSError as error:
            log.error("spool_file_unreadable", spool_key=instance.spool_key, error=str(error.strerror))
            return None
        return replace(instance, content_sha256=digest)

    def _move_known(self, key: str) -> None:
        try:
            if not self._spool.is_shared(key):
                self._spool.share(key)
        except FileNotFoundError:
            return
        self._spool.let_go(key)
