"""SQLite lets one write at a time: who writes without pause must not keep all others from it."""

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import Database

TRANSACTIONS = 30
HOLDS_S = 0.1


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}")
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE lines (line TEXT)"))
    return database


def write(database: Database, line: str, *, hold_s: float = 0.0) -> None:
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO lines VALUES (:line)"), {"line": line})
        time.sleep(hold_s)


def lines(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.text("SELECT line FROM lines ORDER BY rowid")))


def test_who_writes_once_comes_before_who_writes_again_and_again_has_ended(database: Database) -> None:
    def again_and_again() -> None:
        for _ in range(TRANSACTIONS):
            write(database, "again", hold_s=HOLDS_S)

    hog = threading.Thread(target=again_and_again)
    hog.start()
    time.sleep(2 * HOLDS_S)
    write(database, "once")
    hog.join()
    assert lines(database).index("once") < TRANSACTIONS / 2
    database.close()


def test_what_a_thread_did_not_finish_is_undone_and_it_may_write_again(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(sa.text("INSERT INTO lines VALUES ('lost')"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    write(database, "kept")
    assert lines(database) == ["kept"]
    database.close()
