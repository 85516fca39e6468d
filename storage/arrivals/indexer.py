"""Follows the spool into the database: just behind the receiver, in batches, and again after any outage.

    news of the listeners  ->  backlog  ->  headers  ->  one transaction a batch  ->  drop files not needed
    start, lost news, or after an outage  ->  sweep: the clinics' rows, then every file that no row mentions

With a shared store it moves the files there as it goes (mover.py): before a batch's rows are written, its files are
in the store, and afterwards they are dropped here. So a row says that every machine can read the instance, and a file
without a row that it has yet to be moved, which the next sweep does.

No listener waits for it. While the database or the shared store is away it goes on reading the news: what was stored
will be found by the sweep, and what a sweep cannot find, that an association was released, is kept until after it.

One instance that cannot be read or recorded now (too many files are open, its clinic has no row yet) is looked at again
every minute.
"""

import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from domain.errors import Away
from domain.study import InstanceFacts
from storage.arrivals.associations import Associations
from storage.arrivals.mover import Mover
from storage.arrivals.news import News, NewsPipe, What
from storage.arrivals.receivers import Beat
from storage.arrivals.sweep import LEFT_LIMIT, Found, Sweep, look_at
from storage.database import Database, is_away, utc_now
from storage.file_meta import Foreign
from storage.headers import StoredInstance, read_stored_instance
from storage.instances import Spool
from storage.intake import (
    Recorded,
    Verdict,
    record_instances,
    record_release,
    replaces_lost,
    sync_clinics,
    unknown_keys,
)
from storage.plain import to_plain

log = structlog.get_logger()

BACKLOG_LIMIT = 100_000  # news; what comes then stays in the pipe, and is lost when that is full, too
BATCH_LIMIT = 100  # for so long it keeps all others from writing, on SQLite
POLL_S = 0.5
# Between two batches, unless there is a backlog: one transaction for what comes shortly after each other, not one each.
# What comes after some silence is written at once.
GATHER_S = 0.05
# A release that is older when it is recorded counts from then: what came after it may not be known yet.
RELEASE_KNOWN_WITHIN_S = 1.0
RETRY_S = 2.0
LONGEST_RETRY_S = 10.0  # of a shared store that is away; before each try the spool is swept
ASKED_WAITS_S = 0.5
LOOKS_AGAIN_S = 60.0
STOPS_WITHIN_S = 10.0
NOT_OF_A_LISTENER = frozenset((What.LOST, What.MARK))
ABOUT_AN_INSTANCE = frozenset((What.STORED, What.ASKED))
# It is the instance that is at fault, not the database.
REFUSED_BY_DATABASE = (DataError, IntegrityError, UnicodeError)


class Indexer:
    """One background thread.

    tiers: the configured clinics.
    on_recorded: is told of every verdict.
    pipe: where the news come from; without one, from this object's own `on_stored`, `on_released`, `on_closed`.
    beat: the receiver's sign of life.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        tiers: Mapping[str, str],
        on_recorded: Callable[[Recorded], None] = lambda recorded: None,
        pipe: NewsPipe | None = None,
        beat: Beat | None = None,
    ) -> None:
        self._tiers = tiers
        self._database = database
        self._spool = spool
        self._mover = Mover(spool)
        self._on_recorded = on_recorded
        self._beat = beat
        pipe = pipe or NewsPipe()
        self._writer, self._reader = pipe.writer(), pipe.reader()
        self._marks: dict[str, threading.Event] = {}
        self._associations = Associations()
        self._backlog: deque[News] = deque()
        self._needs_sweep = True
        self._is_away = False
        self._failures = 0  # of the shared store, one after the other
        self._is_failing = False
        self._retry_at = 0.0
        self._written_at = -math.inf
        self._left: set[str] = set()  # keys of what has no row although its time has come
        self._look_again_at = 0.0
        # While it cannot tell soon, a listener that asks for a verdict is not kept waiting.
        self._answers_at_once = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        """Sweep what an earlier run left, then follow the listeners."""
        self._thread.start()

    def stop(self) -> None:
        """Bring in what was told so far, then end. What the database does not take now, the next start will sweep."""
        self._stopping.set()
        self._thread.join(timeout=STOPS_WITHIN_S)
        self._mover.close()

    def on_stored(self, spool_key: str) -> None:
        """This and the next two: what a listener in the same process tells."""
        self._writer.on_stored(spool_key)

    def on_released(self, association: str) -> None:
        self._writer.on_released(association)

    def on_closed(self, association: str) -> None:
        self._writer.on_closed(association)

    def mark(self) -> threading.Event | None:
        """It is set once everything that listeners have told until now has its row, or its place in quarantine; also
        what they told while the database was away, or could not tell. For another thread, which holds one at a time.

        None: there is no room for it in the pipe now.
        """
        name, recorded = secrets.token_hex(8), threading.Event()
        self._marks[name] = recorded
        if self._writer.mark(name):
            return recorded
        del self._marks[name]
        return None

    def _run(self) -> None:
        to_plain(InstanceFacts())  # the first time takes 50 ms, for which the first study should not have to wait
        while True:
            is_stopping = self._stopping.is_set()
            has_come = self._take_news(wait=not is_stopping)
            if not self._is_away or time.monotonic() >= self._retry_at:
                self._work()
            elif self._failures:  # it is not the receiver that is silent
                self._beat_anyway()
            if is_stopping and (self._is_away or not (has_come or self._backlog)):
                break
        self._end_beat()

    def _take_news(self, *, wait: bool) -> bool:
        """Bring what has come into the backlog; whether anything has."""
        has_room = len(self._backlog) < BACKLOG_LIMIT
        idle_s = POLL_S if wait and (self._is_away or not self._backlog) else 0.0
        if not has_room:
            time.sleep(idle_s)
            return False
        news = self._reader.read(timeout_s=idle_s)
        gathers_s = self._written_at + GATHER_S - time.monotonic()
        if news and idle_s and gathers_s > 0 and not any(one.what is What.ASKED for one in news):
            time.sleep(gathers_s)
            news += self._reader.read(timeout_s=0.0)
        for one in news:
            self._take(one)
        return bool(news)

    def _take(self, news: News) -> None:
        if self._beat is not None and news.what not in NOT_OF_A_LISTENER:
            self._beat.heard(news.listener)
        if news.what is What.LOST:
            log.warning("news_lost")
            self._needs_sweep = True
        elif news.what is not What.ALIVE:
            if self._answers_at_once:
                news = self._unasked(news)
            if not (self._needs_sweep and news.what is What.STORED):
                self._backlog.append(news)

    def _unasked(self, news: News) -> News:
        """Answer that there is no verdict, and go on as if nobody had asked."""
        if news.what is not What.ASKED:
            return news
        self._reader.answer(news, None)
        return replace(news, what=What.STORED)

    def _work(self) -> None:
        """Do the next batch, and the sweep before it where one is due; an error is an outage until the next try."""
        try:
            if self._needs_sweep:
                # From here on what is stored is remembered: the sweep looks only at what was there before it.
                self._needs_sweep = self._is_away = False
                sync_clinics(self._database, self._tiers)
                self._sweep()
            self._is_away = self._answers_at_once = False
            self._failures = 0
            batch = self._next_batch()
            self._index(batch)
            if batch:
                self._written_at = time.monotonic()
            for _ in batch:
                self._backlog.popleft()
            self._look_again_if_due()
            self._is_failing = False
            self._beat_if_due()
        except (DBAPIError, OSError) as error:
            log.warning("index_delayed", error=type(error).__name__)
            self._is_failing = not is_away(error)
            self._go_away()
        except Away as away:
            log.warning("index_delayed", error=away.message, reason=away.hint)
            self._go_away()
            self._failures += 1
            self._retry_at = time.monotonic() + min(RETRY_S * 2 ** (self._failures - 1), LONGEST_RETRY_S)
        except Exception:
            log.exception("index_failed")
            self._is_failing = True
            self._go_away()

    def _go_away(self) -> None:
        """Until it is back, database or store: what was stored need not be remembered, the sweep will find it."""
        self._needs_sweep = self._is_away = self._answers_at_once = True
        self._retry_at = time.monotonic() + RETRY_S
        kept = [news for one in self._backlog if (news := self._unasked(one)).what is not What.STORED]
        self._backlog = deque(kept)

    def _next_batch(self) -> list[News]:
        """A listener's start begins a batch: it ends what this listener had open before, not what it opens after it."""
        batch = list(islice(self._backlog, BATCH_LIMIT))
        starts = (place for place, news in enumerate(batch) if place and news.what is What.STARTED)
        return batch[: next(starts, len(batch))]

    def _index(self, batch: Collection[News]) -> None:
        told = {news.about: news for news in batch if news.what in ABOUT_AN_INSTANCE}
        stored = self._ready(told)
        for news in batch:
            if news.what is What.STARTED:
                self._associations.listener_began(news.listener)
        verdicts = {}
        for instance, recorded in self._record(stored):
            verdicts[recorded.spool_key] = recorded.verdict
            if recorded.verdict is Verdict.KEPT and recorded.study_id is not None:
                listener = told[recorded.spool_key].listener
                self._associations.brought(instance.provenance.association, listener, recorded.study_id)
        for news in batch:
            match news.what:
                case What.ASKED:
                    self._reader.answer(news, verdicts.get(news.about))
                case What.RELEASED:
                    completed = self._associations.completed_by(news.about)
                    record_release(self._database, completed, at=self._counts_from(news, batch))
                    self._associations.closed(news.about)
                case What.CLOSED:
                    self._associations.closed(news.about)
                case What.MARK if self._needs_sweep:  # something before it may have been lost meanwhile
                    self._backlog.append(news)
                case What.MARK if mark := self._marks.pop(news.about, None):
                    mark.set()

    def _counts_from(self, release: News, batch: Collection[News]) -> datetime | None:
        """The release's own time, so that whoever waits after it waits no longer for this; None where more of its study
        may have come since, which is yet to be recorded.
        """
        is_behind = len(self._backlog) > len(batch)
        if is_behind or release.at is None or (utc_now() - release.at).total_seconds() > RELEASE_KNOWN_WITHIN_S:
            return None
        return release.at

    def _sweep(self) -> None:
        begun = time.monotonic()
        self._left.clear()
        sweep = Sweep(self._database, self._spool)
        try:
            for known in sweep.find():
                self._meanwhile(begun)
                self._mover.move_known(known, meanwhile=self._between_files)
            if sweep.count:
                log.info("sweep_found", count=sweep.count)
            for batch in sweep.batches():
                self._record_swept(batch)
                self._meanwhile(begun)
            self._leave(sweep.left)
        finally:
            sweep.close()

    def _record_swept(self, batch: Collection[Found]) -> None:
        modified_ns = {found.spool_key: found.modified_ns for found in batch}
        stored = sorted(
            self._ready(modified_ns),
            key=lambda instance: (modified_ns[instance.spool_key], instance.provenance.received_at),
        )
        for instance, recorded in self._record(stored):
            if recorded.verdict is Verdict.KEPT and recorded.study_id is not None:
                self._associations.was_swept(instance.provenance.association, recorded.study_id)

    def _look_again_if_due(self) -> None:
        if not self._left or time.monotonic() < self._look_again_at:
            return
        left, self._left = sorted(self._left), set()
        without_row = unknown_keys(self._database, left)
        self._record_swept([found for key in without_row if (found := look_at(self._spool, key))])

    def _leave(self, keys: Collection[str]) -> None:
        """For another look; where there are too many, for the next start."""
        if not self._left:
            self._look_again_at = time.monotonic() + LOOKS_AGAIN_S
        self._left.update(islice(keys, LEFT_LIMIT - len(self._left)))

    def _ready(self, keys: Collection[str]) -> list[StoredInstance]:
        """Those of these that can be recorded: read, and in the shared store where there is one."""
        read = list(self._read(keys))
        ready = self._mover.moved(read, meanwhile=self._between_files)
        self._leave({one.spool_key for one in read}.difference(one.spool_key for one in ready))
        return ready

    def _between_files(self) -> None:
        """Uploads and comparisons may take long: the pipe must not overflow, nor the receiver seem silent."""
        self._take_news(wait=False)
        self._beat_if_due()

    def _meanwhile(self, begun: float) -> None:
        """What must not wait until a long sweep is over."""
        self._take_news(wait=False)
        self._beat_if_due()
        if not self._answers_at_once and time.monotonic() - begun > ASKED_WAITS_S:
            self._answers_at_once = True
            self._backlog = deque(map(self._unasked, self._backlog))

    def _read(self, keys: Collection[str]) -> Iterator[StoredInstance]:
        for key in keys:
            try:
                yield read_stored_instance(self._spool, key)
            except FileNotFoundError:
                continue  # dropped meanwhile: a duplicate that the sweep saw before its row decided
            except Foreign as error:
                log.error("foreign_file_in_spool", spool_key=key, error=str(error))
            except OSError as error:
                log.error("spool_file_unreadable", spool_key=key, error=str(error.strerror))
                self._leave((key,))
            except Away:
                raise
            except Exception:  # whose fault it is, no other instance may wait for it
                log.exception("instance_not_read", spool_key=key)
                self._leave((key,))

    def _record(self, stored: list[StoredInstance]) -> list[tuple[StoredInstance, Recorded]]:
        by_key = {instance.spool_key: instance for instance in stored}
        recorded = self._record_each_if_need_be(stored) if stored else []
        needed = []
        for one in recorded:
            if one.keeps_file or self._replaces_lost(one):
                needed.append(one.spool_key)
            else:
                self._remove(one.spool_key)
            self._on_recorded(one)
        self._mover.let_go(needed)
        for verdict, count in Counter(one.verdict for one in recorded).items():
            log.info("instances_recorded", verdict=str(verdict), count=count)
        return [(by_key[one.spool_key], one) for one in recorded]

    def _replaces_lost(self, recorded: Recorded) -> bool:
        replaces = replaces_lost(self._database, self._spool, recorded)
        if replaces:
            log.error("lost_file_replaced", spool_key=recorded.spool_key)
        return replaces

    def _remove(self, key: str) -> None:
        """Should the shared store be away now, the file stays here too, without a row: a sweep drops it again."""
        try:
            self._spool.remove(key)
        except Away as away:
            log.warning("index_delayed", error=away.message)
            self._needs_sweep = True

    def _record_each_if_need_be(self, stored: list[StoredInstance]) -> list[Recorded]:
        """One instance that the database does not take, or that nobody thought of, must not hold up the others."""
        try:
            return record_instances(self._database, self._spool, stored, meanwhile=self._between_files)
        except Exception as error:
            if _is_outage(error):
                raise
            if len(stored) == 1:
                return self._record_refused(stored[0], error)
            half = len(stored) // 2
            return self._record_each_if_need_be(stored[:half]) + self._record_each_if_need_be(stored[half:])

    def _record_refused(self, instance: StoredInstance, error: Exception) -> list[Recorded]:
        problem = f"it cannot be recorded: {type(error).__name__}"
        if isinstance(error, REFUSED_BY_DATABASE):
            problem = f"the database does not take it: {type(error).__name__}"
        try:
            return record_instances(self._database, self._spool, [replace(instance, problem=problem)])
        except Exception as again:
            if _is_outage(again):
                raise
            # Its clinic was taken out of the configuration before it had a row, or worse. The file stays for later.
            trace = None if isinstance(again, REFUSED_BY_DATABASE) else again
            clinic = instance.provenance.clinic
            log.error("instance_not_recorded", spool_key=instance.spool_key, clinic=clinic, exc_info=trace)
            self._leave((instance.spool_key,))
            return []

    def _beat_if_due(self) -> None:
        """A receiver of which nothing gets a row is not well, however often it sweeps: /health has to show it."""
        if self._beat is not None and not self._is_failing:
            self._beat.beat_if_due()

    def _beat_anyway(self) -> None:
        with suppress(DBAPIError):
            self._beat_if_due()

    def _end_beat(self) -> None:
        try:
            if self._beat is not None:
                self._beat.end()
        except DBAPIError as error:
            log.warning("index_delayed", error=type(error).__name__)


def _is_outage(error: Exception) -> bool:
    """Whether it fails for every instance and not for one: the database, the store or the disk."""
    return isinstance(error, (DBAPIError, OSError, Away)) and not isinstance(error, REFUSED_BY_DATABASE)
