"""What the database does for those who do not let go of it, and how its users outlast an outage."""

from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

import storage.database
from storage.database import Database
from storage.tables import clinics
from tests.factories.databases import migrated


def rename(connection: sa.Connection, tier: str) -> None:
    connection.execute(sa.update(clinics).where(clinics.c.name == "mercy").values(tier=tier))


def test_whoever_falls_silent_in_a_transaction_lets_go_of_its_locks(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine does that freezes, or loses its power."""
    monkeypatch.setattr(storage.database, "SILENT_IN_TRANSACTION_S", 0.5)
    with migrated(postgresql_url) as database:
        silent = Database(postgresql_url)
        connection = silent.engine.connect()
        rename(connection, "basic")
        with database.write() as other:
            other.execute(sa.text("SET LOCAL lock_timeout = '20s'"))
            rename(other, "enterprise")
        with pytest.raises(sa.exc.DBAPIError):
            rename(connection, "professional")
        connection.invalidate()
        silent.close()
        with database.read() as reader:
            assert reader.scalar(sa.select(clinics.c.tier).where(clinics.c.name == "mercy")) == "enterprise"


def test_work_that_an_outage_cut_short_is_begun_again(tmp_path: Path) -> None:
    database, begun = Database(f"sqlite:///{tmp_path / 'a.db'}"), []

    def work() -> str:
        begun.append(1)
        if len(begun) < 3:
            raise sa.exc.OperationalError("SELECT", {}, ConnectionError("the server closed the connection"))
        return "done"

    assert database.patiently(work) == "done"
    assert len(begun) == 3


def test_an_error_that_is_no_outage_is_raised_at_once(tmp_path: Path) -> None:
    database, begun = Database(f"sqlite:///{tmp_path / 'a.db'}"), []

    def work(statement: str) -> None:
        begun.append(statement)
        with database.write() as connection:
            connection.execute(sa.text(statement))

    for statement in ("CREATE TABLE a (b INTEGER UNIQUE)", "INSERT INTO a VALUES (1)"):
        work(statement)
    for wrong, error in (
        ("INSERT INTO a VALUES (1)", sa.exc.IntegrityError),
        ("INSERT INTO nowhere VALUES (1)", sa.exc.OperationalError),  # the driver's word for an outage, too
    ):
        begun.clear()
        with pytest.raises(error):
            database.patiently(lambda wrong=wrong: work(wrong))  # type: ignore[misc]
        assert begun == [wrong]


def test_a_server_that_goes_away_every_time_is_given_up_in_the_end(tmp_path: Path) -> None:
    database, begun = Database(f"sqlite:///{tmp_path / 'a.db'}"), []

    def work() -> None:
        begun.append(1)
        raise sa.exc.OperationalError("SELECT", {}, ConnectionError("the server closed the connection"))

    with pytest.raises(sa.exc.OperationalError):
        database.patiently(work)
    assert len(begun) == storage.database.OUTAGES + 1


def test_nobody_waits_for_a_database_that_was_closed(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/nothing?host={tmp_path}")

    def work() -> None:
        with pytest.raises(sa.exc.DBAPIError):
            database.patiently(lambda: database.read().__enter__())

    waiting = Thread(target=work, daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    database.close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_server_that_is_not_there_is_an_outage_however_the_driver_says_so(tmp_path: Path) -> None:
    for url in (f"postgresql://nobody@/nothing?host={tmp_path}", "postgresql://nobody@127.0.0.1:9/nothing"):
        database = Database(url)
        with pytest.raises(sa.exc.DBAPIError) as error, database.read():
            pass
        assert error.value.connection_invalidated


def test_on_sqlite_each_own_commit_is_durable_and_those_of_a_library_with_the_next_own_one(tmp_path: Path) -> None:
    """WAL's own words (sqlite.org/pragma.html#pragma_synchronous): 2 syncs its log at each commit, 1 does not."""
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    library = database.library_engine(connections=1)
    with database.write() as own, library.begin() as lent:
        assert own.scalar(sa.text("PRAGMA synchronous")) == 2
        assert lent.scalar(sa.text("PRAGMA synchronous")) == 1
        assert lent.scalar(sa.text("PRAGMA journal_mode")) == "wal"
    library.dispose()


def test_a_library_that_only_looks_keeps_nobody_from_writing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    library = database.library_engine(connections=1)
    with library.begin() as lent:
        assert lent.scalar(sa.text("SELECT count(*) FROM sqlite_master")) == 0
        with database.write() as own:
            own.execute(sa.text("CREATE TABLE a (b INTEGER)"))
    library.dispose()
