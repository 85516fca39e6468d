"""The database follows the spool: behind the receiver, after an outage, and past what it cannot take."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy.exc import OperationalError

import storage.arrivals.indexer
from storage.arrivals.indexer import Indexer
from storage.arrivals.news import NewsPipe
from storage.arrivals.receivers import Beat, receiver_signs
from storage.arrivals.sweep import Sweep
from storage.database import Database, utc_now
from storage.headers import StoredInstance, read_stored_instance
from storage.instances import Spool
from storage.intake import Recorded, record_instances, record_release
from storage.study_keys import MasterKey, StudyKeys
from storage.tables import instances, quarantine, studies
from tests.factories.arrivals import provenance, spooled
from tests.factories.databases import TIERS
from tests.factories.hostile import an_instance_in
from tests.factories.sources import radiograph
from tests.storage.following import following, keys_in, until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "RETRY_S", 0.02)


class Away:
    """Makes every connection fail like that to a server that is down, until `is_back`."""

    def __init__(self, database: Database) -> None:
        self.failures, self.is_back = 0, False
        sa.event.listen(database.engine, "begin", self._begin)

    def _begin(self, connection: sa.Connection) -> None:
        if not self.is_back:
            self.failures += 1
            raise OperationalError("BEGIN", {}, ConnectionError("the server closed the connection"))


def test_the_start_brings_in_what_has_no_row(database: Database, spool: Spool) -> None:
    keys = {spooled(spool, radiograph(number)) for number in (1, 2, 3)}
    with following(database, spool) as follower:
        until(lambda: keys_in(database, instances) == keys)
    assert follower.verdicts() == ["kept", "kept", "kept"]


def test_what_the_receiver_stores_gets_its_row_and_a_re_send_loses_its_file(sqlite: Database, spool: Spool) -> None:
    with following(sqlite, spool) as follower:
        first, again = received(spool, radiograph(1), second=1), received(spool, radiograph(1), second=2)
        follower.indexer.on_stored(first)
        follower.indexer.on_stored(again)
        until(lambda: len(follower.verdicts()) == 2)
    assert follower.verdicts() == ["duplicate", "kept"]
    assert list(spool.stored_keys()) == [first]


def test_a_receiver_that_compares_large_re_sends_goes_on_to_read_the_news_and_to_show_that_it_is_there(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        for second in (1, 2):
            received(spool, radiograph(number), second=second)
    beats: list[int] = []
    seen = []

    class Counted(Beat):
        def beat_if_due(self) -> None:
            beats.append(1)

    def compare(_spool: Spool, _one: str, _other: str) -> bool:
        seen.append(len(beats))
        return True

    monkeypatch.setattr("storage.intake.is_same_content", compare)
    indexer = Indexer(sqlite, spool, tiers=TIERS, beat=Counted(sqlite, "here", listeners=0))
    indexer.start()
    until(lambda: len(list(spool.stored_keys())) == 3)
    indexer.stop()
    assert len(set(seen)) == len(seen) == 3


def test_an_own_result_loses_its_file_and_what_is_quarantined_keeps_it(sqlite: Database, spool: Spool) -> None:
    own = radiograph(1)
    own.Manufacturer, own.ManufacturerModelName = "Collimator project", "Collimator"
    returned, damaged = spooled(spool, own), spooled(spool, b"\xff" * 200)
    with following(sqlite, spool) as follower:
        until(lambda: len(follower.verdicts()) == 2)
    assert follower.verdicts() == ["own_result", "unreadable"]
    assert list(spool.stored_keys()) == [damaged]
    assert not spool.path(returned).exists()


def is_released(database: Database) -> bool:
    """The newest study."""
    with database.read() as connection:
        return connection.scalar(sa.select(studies.c.released_at).order_by(studies.c.id.desc())) is not None


def released_at(database: Database) -> datetime:
    until(lambda: is_released(database))
    with database.read() as connection:
        at: datetime = connection.scalars(sa.select(studies.c.released_at)).one()
    return at


def received(spool: Spool, dataset: Dataset, *, second: int) -> str:
    """Put it into the spool as if it had come in that second."""
    received_at = datetime(2026, 11, 20, 10, 15, tzinfo=UTC) + timedelta(seconds=second)
    key = spooled(spool, dataset, how=replace(provenance(), received_at=received_at))
    os.utime(spool.path(key), (received_at.timestamp(), received_at.timestamp()))
    return key


def changed(number: int, content: int) -> Dataset:
    """The radiograph of that number, with other content than its namesakes."""
    dataset = radiograph(number)
    dataset.StudyDescription = f"content {content}"
    return dataset


def test_a_study_is_released_when_its_last_association_is(sqlite: Database, spool: Spool) -> None:
    two = radiograph(1)
    two.SOPInstanceUID = "2.25.4711.1.1.2"
    with following(sqlite, spool) as follower:
        follower.indexer.on_stored(spooled(spool, radiograph(2), how=provenance(association="a0")))
        until(lambda: len(follower.verdicts()) == 1)  # the sweep of the start is over, which knows no associations
        follower.indexer.on_stored(spooled(spool, radiograph(1), how=provenance(association="a1")))
        follower.indexer.on_stored(spooled(spool, two, how=provenance(association="a2")))
        follower.indexer.on_released("a1")
        until(lambda: len(follower.verdicts()) == 3)
        follower.indexer.on_released("unheard of")
        time.sleep(0.3)
        assert not is_released(sqlite)
        follower.indexer.on_released("a2")
        until(lambda: is_released(sqlite))


def test_what_comes_while_the_database_is_away_is_brought_in_when_it_is_back(sqlite: Database, spool: Spool) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        keys = {spooled(spool, radiograph(number)) for number in (1, 2)}
        for key in keys:
            follower.indexer.on_stored(key)
        until(lambda: away.failures > 3)
        assert follower.recorded == []
        away.is_back = True
        until(lambda: keys_in(sqlite, instances) == keys)


def test_what_comes_while_the_sweep_after_an_outage_runs_is_not_forgotten(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as run:
        until(lambda: away.failures > 1)
        keys = [spooled(spool, radiograph(1))]
        run.indexer.on_stored(keys[0])
        find = Sweep.find

        def one_comes(sweep: Sweep) -> Iterator[list[str]]:
            """What the sweep must leave to the news: it is younger than the sweep."""
            time.sleep(0.1)
            keys.append(spooled(spool, radiograph(2)))
            run.indexer.on_stored(keys[1])
            yield from find(sweep)

        monkeypatch.setattr(Sweep, "find", one_comes)
        away.is_back = True
        until(lambda: len(keys) == 2 and keys_in(sqlite, instances) == set(keys))


def test_stopping_while_the_database_is_away_loses_nothing(sqlite: Database, spool: Spool) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        key = spooled(spool, radiograph(1))
        follower.indexer.on_stored(key)
        until(lambda: away.failures > 0)
    away.is_back = True
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})


def test_of_many_conflicting_instances_a_sweep_keeps_the_first_received(sqlite: Database, spool: Spool) -> None:
    kept = {received(spool, changed(number, 0), second=number) for number in range(1, 6)}
    others = {received(spool, changed(n, other), second=10 * n + other) for other in (1, 2) for n in range(1, 6)}
    with following(sqlite, spool) as follower:
        until(lambda: len(follower.verdicts()) == 15)
    assert (keys_in(sqlite, instances), keys_in(sqlite, quarantine)) == (kept, others)


def test_the_time_of_reception_decides_between_files_that_were_written_in_the_same_tick(
    sqlite: Database, spool: Spool
) -> None:
    last, first, middle = (received(spool, changed(1, second), second=second) for second in (3, 1, 2))
    for key in (last, first, middle):
        os.utime(spool.path(key), ns=(1_000, 1_000))
    with following(sqlite, spool) as follower:
        until(lambda: len(follower.verdicts()) == 3)
    assert (keys_in(sqlite, instances), keys_in(sqlite, quarantine)) == ({first}, {middle, last})


def test_the_first_received_is_kept_also_when_both_came_during_an_outage(sqlite: Database, spool: Spool) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        pairs = [[received(spool, changed(n, s), second=s) for s in (1, 2)] for n in range(1, 9)]
        for first, second in pairs:
            follower.indexer.on_stored(second)  # two associations may tell in another order than they stored
            follower.indexer.on_stored(first)
        until(lambda: away.failures > 2)
        away.is_back = True
        until(lambda: len(follower.verdicts()) == 16)
    assert keys_in(sqlite, instances) == {first for first, _ in pairs}


def test_a_release_during_an_outage_is_made_up_for_after_it(sqlite: Database, spool: Spool) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        follower.indexer.on_stored(spooled(spool, radiograph(1), how=provenance(association="a1")))
        follower.indexer.on_released("a1")
        follower.indexer.on_closed("a1")
        until(lambda: away.failures > 2)
        away.is_back = True
        until(lambda: is_released(sqlite))


def test_a_release_counts_from_when_it_was_told_however_long_it_took_to_record_it(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "RELEASE_KNOWN_WITHIN_S", 3600.0)
    pipe = NewsPipe()
    pipe.writer().on_released("a1")
    told_by = utc_now()
    spooled(spool, radiograph(1), how=provenance(association="a1"))
    with following(sqlite, spool, pipe=pipe):
        assert released_at(sqlite) <= told_by


def test_a_release_behind_which_there_is_more_news_counts_from_when_it_is_recorded(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may tell of more images of the same study, which came right after it."""
    monkeypatch.setattr(storage.arrivals.indexer, "RELEASE_KNOWN_WITHIN_S", 3600.0)
    monkeypatch.setattr(storage.arrivals.indexer, "BATCH_LIMIT", 1)
    pipe = NewsPipe()
    pipe.writer().on_released("a1")
    pipe.writer().on_closed("a1")
    told_by = utc_now()
    spooled(spool, radiograph(1), how=provenance(association="a1"))
    with following(sqlite, spool, pipe=pipe):
        assert released_at(sqlite) > told_by


def test_a_release_during_a_long_outage_counts_from_when_it_is_recorded(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "RELEASE_KNOWN_WITHIN_S", 0.2)
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        follower.indexer.on_stored(spooled(spool, radiograph(1), how=provenance(association="a1")))
        follower.indexer.on_released("a1")
        time.sleep(0.3)
        is_back_at, away.is_back = utc_now(), True
        assert released_at(sqlite) >= is_back_at


def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many instances were recorded in each transaction, from now on."""
    sizes: list[int] = []

    def record(database: Database, spool: Spool, stored: list[StoredInstance], **how: Any) -> list[Recorded]:
        sizes.append(len(stored))
        return record_instances(database, spool, stored, **how)

    monkeypatch.setattr(storage.arrivals.indexer, "record_instances", record)
    return sizes


def test_what_comes_after_some_silence_is_recorded_at_once(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "GATHER_S", 600.0)
    swept = spooled(spool, radiograph(1))
    with following(sqlite, spool) as follower:
        until(lambda: keys_in(sqlite, instances) == {swept})
        follower.indexer.on_stored(told := spooled(spool, radiograph(2)))
        until(lambda: keys_in(sqlite, instances) == {swept, told})


def test_what_comes_shortly_after_each_other_is_recorded_together(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "GATHER_S", 4.0)
    sizes = batches(monkeypatch)
    spooled(spool, radiograph(1))
    with following(sqlite, spool) as follower:
        until(lambda: sizes == [1])
        for number in range(2, 8):
            follower.indexer.on_stored(spooled(spool, radiograph(number)))
            until(lambda: len(sizes) > 1)  # the first of them begins a batch, and the others come after it
        until(lambda: len(follower.verdicts()) == 7)
    assert sizes == [1, 1, 5]


def test_a_listener_that_died_holds_up_no_release_of_its_studies(sqlite: Database, spool: Spool) -> None:
    pipe = NewsPipe(listeners=2)
    dying, living = pipe.writer(0), pipe.writer(1)
    two = radiograph(1)
    two.SOPInstanceUID = "2.25.4711.1.1.2"
    with following(sqlite, spool, pipe=pipe) as follower:
        dying.on_stored(spooled(spool, radiograph(1), how=provenance(association="a1")))
        living.on_stored(spooled(spool, two, how=provenance(association="a2")))
        until(lambda: len(follower.verdicts()) == 2)
        pipe.writer(0).started()
        living.on_released("a2")
        until(lambda: is_released(sqlite))


def test_a_release_counts_that_is_read_together_with_its_listeners_start(sqlite: Database, spool: Spool) -> None:
    pipe, is_told = NewsPipe(), threading.Event()
    listener = pipe.writer()

    def on_recorded(_recorded: Recorded) -> None:
        is_told.wait(30)

    indexer = Indexer(sqlite, spool, tiers=TIERS, pipe=pipe, on_recorded=on_recorded)
    indexer.start()
    listener.on_stored(spooled(spool, radiograph(1), how=provenance(association="a0")))
    until(lambda: len(keys_in(sqlite, instances)) == 1)
    listener.started()
    listener.on_stored(spooled(spool, radiograph(2), how=provenance(association="a1")))
    listener.on_released("a1")
    listener.on_closed("a1")
    is_told.set()
    until(lambda: len(keys_in(sqlite, instances)) == 2)
    indexer.stop()
    assert is_released(sqlite)


@pytest.mark.parametrize("encrypts", [False, True])
def test_a_file_that_was_lost_is_there_again_when_it_is_sent_again(
    database: Database, tmp_path: Path, encrypts: bool
) -> None:
    """A spool that was restored from a copy older than the database, say."""
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]) if encrypts else None)
    with following(database, spool) as follower:
        follower.indexer.on_stored(first := spooled(spool, radiograph(1)))
        until(lambda: keys_in(database, instances) == {first})
        spool.path(first).unlink()
        follower.indexer.on_stored(again := spooled(spool, radiograph(1)))
        until(lambda: keys_in(database, instances) == {again})
    assert spool.has(again)
    assert keys_in(database, quarantine) == set()


def test_news_that_were_lost_are_made_up_for_by_a_sweep(sqlite: Database, spool: Spool) -> None:
    pipe = NewsPipe()
    listener = pipe.writer()
    while pipe.put(b"\n" * 4096):
        pass  # until it is full, as when the indexer has been away for long
    keys = {spooled(spool, radiograph(number)) for number in range(1, 6)}
    for key in keys:
        listener.on_stored(key)
    assert pipe.was_lost()
    with following(sqlite, spool, pipe=pipe) as follower:
        until(lambda: len(follower.verdicts()) == 5)
        while pipe.put(b"\n" * 4096):
            pass
        listener.on_stored(late := spooled(spool, radiograph(6)))
        until(lambda: keys_in(sqlite, instances) == {*keys, late})


def test_a_full_backlog_leaves_the_rest_in_the_pipe(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "BACKLOG_LIMIT", 1)
    monkeypatch.setattr(storage.arrivals.indexer, "BATCH_LIMIT", 1)
    with following(sqlite, spool) as follower:
        keys = {spooled(spool, radiograph(number)) for number in range(1, 6)}
        for key in keys:
            follower.indexer.on_stored(key)
        until(lambda: keys_in(sqlite, instances) == keys)


def test_who_asks_is_told_the_verdict(sqlite: Database, spool: Spool) -> None:
    pipe = NewsPipe(listeners=2)
    asking, other = pipe.writer(0, asks=True), pipe.writer(1, asks=True)
    with following(sqlite, spool, pipe=pipe):
        kept, conflicting = received(spool, changed(1, 1), second=1), received(spool, changed(1, 2), second=2)
        asking.on_stored(kept)
        assert asking.verdict(kept, timeout_s=20.0) == "kept"
        other.on_stored(conflicting)
        assert other.verdict(conflicting, timeout_s=20.0) == "conflicting"


def test_who_asks_while_the_database_is_away_is_told_at_once_that_nobody_knows(sqlite: Database, spool: Spool) -> None:
    pipe = NewsPipe()
    asking, away = pipe.writer(asks=True), Away(sqlite)
    with following(sqlite, spool, pipe=pipe):
        until(lambda: away.failures > 0)
        key = spooled(spool, radiograph(1))
        asking.on_stored(key)
        asked_at = time.monotonic()
        assert asking.verdict(key, timeout_s=600.0) is None
        assert time.monotonic() - asked_at < 300.0
        away.is_back = True
        until(lambda: keys_in(sqlite, instances) == {key})


def test_an_instance_that_the_database_does_not_take_goes_into_quarantine_alone(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {spooled(spool, radiograph(number)) for number in (1, 3)}
    bad = spooled(spool, radiograph(2))
    row_of = storage.intake._row

    def refuse_one(stored: StoredInstance, study_id: int) -> dict[str, Any]:
        return row_of(stored, -1 if stored.spool_key == bad else study_id)  # there is no such study

    monkeypatch.setattr(storage.intake, "_row", refuse_one)
    with following(database, spool) as follower:
        until(lambda: len(follower.verdicts()) == 3)
    assert keys_in(database, instances) == good
    assert keys_in(database, quarantine) == {bad}
    with database.read() as connection:
        assert connection.scalar(sa.select(quarantine.c.detail)) == "the database does not take it: IntegrityError"


def test_an_instance_of_a_clinic_that_nobody_knows_waits_and_holds_up_nobody(database: Database, spool: Spool) -> None:
    stranger = spooled(spool, radiograph(1), how=provenance(clinic="gone"))
    known = spooled(spool, radiograph(2))
    with following(database, spool) as follower:
        until(lambda: len(follower.verdicts()) == 1)
        late = spooled(spool, radiograph(3))
        follower.indexer.on_stored(late)
        until(lambda: keys_in(database, instances) == {known, late})
    with following(database, spool, {**TIERS, "gone": "basic"}):
        until(lambda: keys_in(database, instances) == {known, late, stranger})


def test_an_instance_that_is_damaged_at_rest_or_has_no_key_waits_and_holds_up_nobody(
    sqlite: Database, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]))
    damaged, keyless, sound = (spooled(spool, radiograph(number), study=f"st-mary/{number}") for number in (1, 2, 3))
    spool.path(damaged).write_bytes(spool.path(damaged).read_bytes()[:-1] + b"?")
    assert spool.keys is not None
    spool.keys.destroy("st-mary/2")
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {sound})
    assert keys_in(sqlite, quarantine) == set()
    assert set(spool.stored_keys()) == {damaged, keyless, sound}


def test_a_strangers_file_in_the_spool_is_left_alone_and_holds_up_nobody(sqlite: Database, spool: Spool) -> None:
    stranger = spool.root / "00" / "stranger.dcm"
    stranger.write_bytes(b"?" * 400)
    key = spooled(spool, radiograph(1))
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})
    assert stranger.exists()


def a_name_that_is_no_text(folder: Path) -> None:
    os.close(os.open(os.fsencode(folder) + b"/R\xf6ntgen.dcm", os.O_CREAT | os.O_WRONLY))


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / f"{'0' * 32}.dcm")


def a_link_to_itself(folder: Path) -> None:
    (folder / f"{'0' * 32}.dcm").symlink_to(f"{'0' * 32}.dcm")


def a_folder(folder: Path) -> None:
    (folder / f"{'0' * 32}.dcm").mkdir()


@pytest.mark.parametrize("put", [a_name_that_is_no_text, a_pipe, a_link_to_itself, a_folder])
def test_what_somebody_else_put_into_the_spool_holds_up_nobody(
    sqlite: Database, spool: Spool, put: Callable[[Path], None]
) -> None:
    put(spool.root / "00")
    key = spooled(spool, radiograph(1))
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})


def test_an_instance_that_could_not_be_read_for_a_moment_gets_its_row_without_a_restart(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "LOOKS_AGAIN_S", 0.1)
    failures = iter([OSError(errno.EMFILE, "Too many open files"), ZeroDivisionError()])

    def read(spool: Spool, spool_key: str) -> StoredInstance:
        for failure in failures:
            raise failure
        return read_stored_instance(spool, spool_key)

    monkeypatch.setattr(storage.arrivals.indexer, "read_stored_instance", read)
    with following(sqlite, spool) as follower:
        key = spooled(spool, radiograph(1))
        follower.indexer.on_stored(key)
        until(lambda: keys_in(sqlite, instances) == {key})


def test_an_instance_that_came_just_before_the_clock_was_put_back_gets_its_row_without_a_restart(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep takes it for one that arrives meanwhile, of which it will be told."""
    monkeypatch.setattr(storage.arrivals.indexer, "LOOKS_AGAIN_S", 0.1)
    key = spooled(spool, radiograph(1))
    soon = time.time() + 0.9
    os.utime(spool.path(key), (soon, soon))
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})


def test_a_release_of_nothing_needs_no_database() -> None:
    record_release(Database("postgresql://nobody@127.0.0.1:1/none"), [])


@pytest.mark.parametrize(
    ("content", "transfer_syntax_uid"),
    [
        (an_instance_in(b"1", b"IS"), ExplicitVRLittleEndian),
        (an_instance_in(b"ISO_IR\x00100", is_implicit=True), ImplicitVRLittleEndian),
    ],
    ids=["a character set that is a number", "a NUL in its character set"],
)
def test_an_instance_that_no_parser_can_read_is_quarantined_and_holds_up_nobody(
    sqlite: Database, spool: Spool, content: bytes, transfer_syntax_uid: str
) -> None:
    poison = spooled(spool, content, transfer_syntax_uid=transfer_syntax_uid)
    with following(sqlite, spool) as follower:
        sound = spooled(spool, radiograph(1))
        follower.indexer.on_stored(sound)
        until(lambda: keys_in(sqlite, instances) == {sound})
        until(lambda: keys_in(sqlite, quarantine) == {poison})
    with sqlite.read() as connection:
        row = connection.execute(sa.select(quarantine)).one()
    assert (row.reason, row.study_instance_uid) == ("unreadable", "1.2.3")
    assert row.detail.startswith("the data set cannot be parsed: ")


def failing_for(spool_key: str, monkeypatch: pytest.MonkeyPatch, *, even_in_quarantine: bool = False) -> list[int]:
    """Whoever records this one meets a bug; the sizes of the batches in which it was tried."""
    tries: list[int] = []

    def record(database: Database, spool: Spool, stored: list[StoredInstance], **how: Any) -> list[Recorded]:
        for one in stored:
            if one.spool_key == spool_key and (even_in_quarantine or not one.problem):
                tries.append(len(stored))
                raise ZeroDivisionError
        return record_instances(database, spool, stored, **how)

    monkeypatch.setattr(storage.arrivals.indexer, "record_instances", record)
    return tries


def test_an_instance_at_which_recording_itself_fails_is_quarantined_alone(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [spooled(spool, radiograph(number)) for number in range(1, 6)]
    failing_for(keys[2], monkeypatch)
    with following(sqlite, spool):
        until(lambda: len(keys_in(sqlite, instances)) == 4 and keys_in(sqlite, quarantine) == {keys[2]})
    with sqlite.read() as connection:
        assert connection.scalar(sa.select(quarantine.c.detail)) == "it cannot be recorded: ZeroDivisionError"


def test_an_instance_that_cannot_even_be_quarantined_is_left_where_it_is_and_not_tried_again_and_again(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [spooled(spool, radiograph(number)) for number in (1, 2, 3)]
    tries = failing_for(keys[1], monkeypatch, even_in_quarantine=True)
    with following(sqlite, spool) as follower:
        until(lambda: keys_in(sqlite, instances) == {keys[0], keys[2]})
        tried = len(tries)
        time.sleep(0.3)  # many times RETRY_S
        late = spooled(spool, radiograph(4))
        follower.indexer.on_stored(late)
        until(lambda: keys_in(sqlite, instances) == {keys[0], keys[2], late})
    assert len(tries) == tried
    assert keys[1] in spool.stored_keys()


def test_an_instance_at_which_reading_itself_fails_holds_up_nobody(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, sound = spooled(spool, radiograph(1)), spooled(spool, radiograph(2))

    def read(spool: Spool, spool_key: str) -> StoredInstance:
        if spool_key == bad:
            raise ZeroDivisionError
        return read_stored_instance(spool, spool_key)

    monkeypatch.setattr(storage.arrivals.indexer, "read_stored_instance", read)
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {sound})


def test_a_receiver_whose_indexer_fails_shows_no_sign_of_life_until_it_works_again(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/health must not be well while nothing of what is received gets a row."""
    beat = Beat(sqlite, "a:11112", listeners=1)
    pipe, failures, is_mended = NewsPipe(), [0], threading.Event()
    find = Sweep.find

    def fail(sweep: Sweep) -> Iterator[list[str]]:
        yield from find(sweep)
        if not is_mended.is_set():
            failures[0] += 1
            raise ZeroDivisionError

    monkeypatch.setattr(Sweep, "find", fail)
    spooled(spool, radiograph(1))
    with following(sqlite, spool, pipe=pipe, beat=beat):
        until(lambda: failures[0] > 2)
        pipe.writer().alive()
        before = failures[0]
        until(lambda: failures[0] > before + 3)
        assert receiver_signs(sqlite) == []
        is_mended.set()
        until(lambda: len(receiver_signs(sqlite)) == 1)
