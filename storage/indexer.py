"""Follows the spool into the database: just behind the receiver, in batches, and again after any outage.

    on_stored, on_released, on_closed  ->  queue  ->  headers  ->  one transaction a batch  ->  drop files not needed
    start, or after an outage  ->  sweep: the clinics' rows, then every key in the spool that no row mentions

The receiver never waits for this thread. When the queue is full or the database away, instances stay in the spool and
the next sweep brings them in.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from storage.database import Database
from storage.headers import StoredInstance, read_stored_instance
from storage.instances import Spool
from storage.intake import (
    Recorded,
    Verdict,
    record_instances,
    record_release,
    sync_clinics,
    unknown_keys,
)

log = structlog.get_logger()

QUEUE_LIMIT = 10_000
BATCH_LIMIT = 200
SWEEP_BATCH = 500
RETRY_S = 2.0
# It is the instance that is at fault, not the database.
REFUSED_BY_DATABASE = (DataError, IntegrityError, UnicodeError)


class Indexer:
    """One background thread. `tiers` are the configured clinics; `on_recorded` is told of every verdict."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        tiers: Mapping[str, str],
        on_recorded: Callable[[Recorded], None] = lambda recorded: None,
    ) -> None:
        self._tiers = tiers
        self._database = database
        self._spool = spool
        self._on_recorded = on_recorded
        self._queue: queue.Queue[tuple[str, str]] = queue.Queue(maxsize=QUEUE_LIMIT)
        self._needs_sweep = threading.Event()
        self._stopping = threading.Event()
        self._studies_by_association: dict[str, set[int]] = {}
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        """Sweep what an earlier run left, then follow the receiver."""
        removed = self._spool.remove_leftovers()
        if removed:
            log.info("leftovers_removed", count=removed)
        self._needs_sweep.set()
        self._thread.start()

    def stop(self) -> None:
        """Bring in what is queued, then end. What the database does not take now, the next start's sweep finds."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def on_stored(self, spool_key: str) -> None:
        self._put(("stored", spool_key))

    def on_released(self, association: str) -> None:
        self._put(("released", association))

    def on_closed(self, association: str) -> None:
        """The connection is gone, released or not; what an abort left open is closed by its quiet time."""
        self._put(("closed", association))

    def _put(self, message: tuple[str, str]) -> None:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._needs_sweep.set()

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                if self._needs_sweep.is_set():
                    self._needs_sweep.clear()
                    sync_clinics(self._database, self._tiers)
                    self._sweep()
                self._index(self._next_messages())
            except (DBAPIError, OSError) as error:
                log.warning("index_delayed", error=type(error).__name__)
                self._needs_sweep.set()
                if self._stopping.is_set():
                    return
                time.sleep(RETRY_S)
            except Exception:
                log.exception("index_failed")
                self._needs_sweep.set()
                time.sleep(RETRY_S)

    def _next_messages(self) -> list[tuple[str, str]]:
        try:
            messages = [self._queue.get(timeout=0.2)]
        except queue.Empty:
            return []
        while len(messages) < BATCH_LIMIT:
            try:
                messages.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return messages

    def _index(self, messages: Sequence[tuple[str, str]]) -> None:
        stored = list(self._read(value for what, value in messages if what == "stored"))
        if stored:
            associations = {instance.spool_key: instance.provenance.association for instance in stored}
            for recorded in self._record(stored):
                if recorded.verdict is Verdict.KEPT and recorded.study_id is not None:
                    association = associations[recorded.spool_key]
                    self._studies_by_association.setdefault(association, set()).add(recorded.study_id)
        for what, association in messages:
            if what == "released":
                self._release(association)
            elif what == "closed":
                self._studies_by_association.pop(association, None)

    def _release(self, association: str) -> None:
        brought = self._studies_by_association.pop(association, set())
        still_coming = set().union(*self._studies_by_association.values()) if self._studies_by_association else set()
        record_release(self._database, sorted(brought - still_coming))

    def _sweep(self) -> None:
        keys = self._spool.stored_keys()
        while batch := list(islice(keys, SWEEP_BATCH)):
            missing = unknown_keys(self._database, batch)
            if missing:
                log.info("sweep_found", count=len(missing))
                self._record(list(self._read(missing)))

    def _read(self, keys: "Iterator[str] | Sequence[str]") -> Iterator[StoredInstance]:
        for key in keys:
            try:
                yield read_stored_instance(self._spool.path(key), key)
            except FileNotFoundError:
                continue  # dropped meanwhile: a duplicate that the sweep saw before its row decided
            except ValueError as error:
                log.error("foreign_file_in_spool", spool_key=key, error=str(error))
            except OSError as error:
                log.error("spool_file_unreadable", spool_key=key, error=str(error.strerror))

    def _record(self, stored: list[StoredInstance]) -> list[Recorded]:
        recorded = self._record_each_if_need_be(stored)
        for one in recorded:
            log.info("instance_recorded", spool_key=one.spool_key, verdict=str(one.verdict))
            if not one.keeps_file:
                self._spool.remove(one.spool_key)
            self._on_recorded(one)
        return recorded

    def _record_each_if_need_be(self, stored: list[StoredInstance]) -> list[Recorded]:
        """One instance that the database does not take must not hold up the others of its batch."""
        try:
            return record_instances(self._database, stored)
        except REFUSED_BY_DATABASE as error:
            if len(stored) == 1:
                return self._record_refused(stored[0], type(error).__name__)
            return [recorded for one in stored for recorded in self._record_each_if_need_be([one])]

    def _record_refused(self, instance: StoredInstance, error: str) -> list[Recorded]:
        problem = f"the database does not take it: {error}"
        try:
            return record_instances(self._database, [replace(instance, problem=problem)])
        except REFUSED_BY_DATABASE:
            # Its clinic was taken out of the configuration before it had a row. The file stays for a later sweep.
            log.error("instance_not_recorded", spool_key=instance.spool_key, clinic=instance.provenance.clinic)
            return []
