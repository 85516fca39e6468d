"""The database follows the spool: behind the receiver, after an outage, and past what it cannot take."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

import storage.indexer
from storage.database import Database
from storage.indexer import Indexer
from storage.instances import Spool
from storage.intake import Recorded, Verdict, record_release
from storage.tables import instances, quarantine, studies
from tests.factories.arrivals import files_in, provenance, spooled
from tests.factories.databases import TIERS
from tests.factories.sources import radiograph


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.indexer, "RETRY_S", 0.02)


@dataclass
class Following:
    indexer: Indexer
    recorded: list[Recorded] = field(default_factory=list)

    def verdicts(self) -> list[str]:
        """One for each file: a sweep and the receiver may both tell of one."""
        return sorted({one.spool_key: one.verdict for one in self.recorded}.values())


@contextmanager
def following(database: Database, spool: Spool, tiers: dict[str, str] = TIERS) -> Iterator[Following]:
    recorded: list[Recorded] = []
    indexer = Indexer(database, spool, tiers=tiers, on_recorded=recorded.append)
    indexer.start()
    yield Following(indexer, recorded)
    indexer.stop()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def keys_in(database: Database, table: sa.Table) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(sa.select(table.c.spool_key)))


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
        first, again = spooled(spool, radiograph(1)), spooled(spool, radiograph(1))
        follower.indexer.on_stored(first)
        follower.indexer.on_stored(again)
        until(lambda: len(follower.verdicts()) == 2)
    assert follower.verdicts() == ["duplicate", "kept"]
    assert list(spool.stored_keys()) == [first]


def test_an_own_result_loses_its_file_and_what_is_quarantined_keeps_it(sqlite: Database, spool: Spool) -> None:
    own = radiograph(1)
    own.Manufacturer, own.ManufacturerModelName = "Collimator project", "Collimator"
    returned, damaged = spooled(spool, own), spooled(spool, b"\xff" * 200)
    with following(sqlite, spool) as follower:
        until(lambda: len(follower.verdicts()) == 2)
    assert follower.verdicts() == ["own_result", "unreadable"]
    assert list(spool.stored_keys()) == [damaged]
    assert not spool.path(returned).exists()


def test_a_study_is_released_when_its_last_association_is(sqlite: Database, spool: Spool) -> None:
    def is_released() -> bool:
        with sqlite.read() as connection:
            return connection.scalar(sa.select(studies.c.released_at)) is not None

    two = radiograph(1)
    two.SOPInstanceUID = "2.25.4711.1.1.2"
    with following(sqlite, spool) as follower:
        follower.indexer.on_stored(spooled(spool, radiograph(1), how=provenance(association="a1")))
        follower.indexer.on_stored(spooled(spool, two, how=provenance(association="a2")))
        follower.indexer.on_released("a1")
        until(lambda: len(follower.verdicts()) == 2)
        follower.indexer.on_released("unheard of")
        time.sleep(0.3)
        assert not is_released()
        follower.indexer.on_released("a2")
        until(is_released)


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


def test_stopping_while_the_database_is_away_loses_nothing(sqlite: Database, spool: Spool) -> None:
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        key = spooled(spool, radiograph(1))
        follower.indexer.on_stored(key)
        until(lambda: away.failures > 0)
    away.is_back = True
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})


def test_a_full_queue_is_made_up_for_by_a_sweep(
    sqlite: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.indexer, "QUEUE_LIMIT", 1)
    away = Away(sqlite)
    with following(sqlite, spool) as follower:
        keys = {spooled(spool, radiograph(number)) for number in range(1, 6)}
        for key in keys:
            follower.indexer.on_stored(key)
        away.is_back = True
        until(lambda: keys_in(sqlite, instances) == keys)


def test_an_instance_that_the_database_does_not_take_goes_into_quarantine_alone(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {spooled(spool, radiograph(number)) for number in (1, 3)}
    bad = spooled(spool, radiograph(2))
    keep = storage.intake._keep

    def refuse_one(connection: sa.Connection, stored: storage.headers.StoredInstance) -> Recorded:
        if stored.spool_key == bad:
            connection.execute(sa.text("INSERT INTO clinics (name, tier) VALUES (NULL, NULL)"))
        return keep(connection, stored)

    monkeypatch.setattr(storage.intake, "_keep", refuse_one)
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


def test_a_strangers_file_in_the_spool_is_left_alone_and_holds_up_nobody(sqlite: Database, spool: Spool) -> None:
    stranger = spool.root / "00" / "stranger.dcm"
    stranger.write_bytes(b"?" * 400)
    key = spooled(spool, radiograph(1))
    with following(sqlite, spool):
        until(lambda: keys_in(sqlite, instances) == {key})
    assert stranger.exists()


def test_what_a_dead_receiver_left_is_cleared_away_at_the_start(sqlite: Database, spool: Spool) -> None:
    (spool.incoming / f"{2**22 + 1}-{'0' * 32}").write_bytes(b"half")
    with following(sqlite, spool):
        pass
    assert files_in(Path(spool.incoming)) == []


def test_a_release_of_nothing_needs_no_database() -> None:
    record_release(Database("postgresql://nobody@127.0.0.1:1/none"), [])


def test_there_is_a_verdict_for_each_way_that_an_instance_can_go() -> None:
    assert sorted(Verdict) == ["conflicting", "duplicate", "kept", "own_result", "unreadable"]
