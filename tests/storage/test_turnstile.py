"""Who writes to a SQLite database goes in turn, and nobody keeps the others from it."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from storage.database import Database
from storage.turnstile import PATIENCE_S, Turnstile
from tests.journeys.house import wait_until

WRITES = 100
HOLDS_THE_TURN = """
import sys
from storage.turnstile import PATIENCE_S, Turnstile
turnstile = Turnstile(sys.argv[1])
turn = turnstile.take_turn()
print("has it", flush=True)
sys.stdin.readline()
turnstile.leave(turn)
print("left", flush=True)
sys.stdin.readline()
"""
WAITS_FOR_THE_TURN = """
import fcntl, sys
with open(f"{sys.argv[1]}-next", "w") as next_one:
    fcntl.flock(next_one, fcntl.LOCK_EX)
    print("is next", flush=True)
    sys.stdin.readline()
print("left", flush=True)
sys.stdin.readline()
"""


def test_of_two_who_write_without_pause_neither_overtakes_the_other(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE turns (id INTEGER PRIMARY KEY, who TEXT)"))
    start = threading.Barrier(2)

    def write(who: str) -> None:
        start.wait()
        for _ in range(WRITES):
            with database.write() as connection:
                connection.execute(sa.text("INSERT INTO turns (who) VALUES (:who)"), {"who": who})
                time.sleep(0.002)  # the other one comes meanwhile

    both = [threading.Thread(target=write, args=(who,)) for who in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()

    with database.read() as connection:
        order = connection.scalars(sa.text("SELECT who FROM turns ORDER BY id")).all()
    first_half = Counter(order[:WRITES])
    assert min(first_half["a"], first_half["b"]) >= WRITES // 3
    database.close()


def test_what_a_library_changes_waits_for_its_turn_and_what_it_reads_does_not(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE a (b INTEGER)"))
    library, has_changed = database.library_engine(connections=2), threading.Event()

    def change() -> None:
        with library.begin() as connection:
            connection.execute(sa.text("INSERT INTO a VALUES (1)"))
        has_changed.set()

    turnstile = Turnstile(str(tmp_path / "a.db"))
    turn = turnstile.take_turn()
    changing = threading.Thread(target=change)
    changing.start()
    with library.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM a")) == 0
    assert not has_changed.wait(0.2)
    turnstile.leave(turn)
    assert has_changed.wait(10.0)
    changing.join()
    library.dispose()
    database.close()


def test_a_transaction_that_fails_gives_its_turn_back(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    for _ in range(3):
        try:
            with database.write() as connection:
                connection.execute(sa.text("INSERT INTO nowhere VALUES (1)"))
        except sa.exc.OperationalError:
            pass
    turnstile = Turnstile(str(tmp_path / "a.db"))
    turnstile.leave(turnstile.take_turn())
    database.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process at the turnstile of `a.db`, up to its first word."""
    with ExitStack() as running:

        def start(program: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-c", program, str(tmp_path / "a.db")]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.enter_context(process)
            running.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline()
            return process

        yield start


def _go_on(process: "subprocess.Popen[str]") -> None:
    """Up to its second word: it has left."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "left\n"


def test_a_process_that_is_killed_in_its_turn_keeps_nobody_from_theirs(
    tmp_path: Path, other: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    other(HOLDS_THE_TURN).kill()
    turnstile = Turnstile(str(tmp_path / "a.db"))
    turn = turnstile.take_turn()
    assert turn is not None
    turnstile.leave(turn)


@pytest.mark.parametrize("program", [HOLDS_THE_TURN, WAITS_FOR_THE_TURN], ids=["turn", "next"])
def test_a_process_that_is_stopped_at_the_turnstile_is_passed_by_until_it_goes_on(
    program: str, tmp_path: Path, other: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    stopped = other(program)
    stopped.send_signal(signal.SIGSTOP)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with capture_logs() as lines:
        waited = [_time_to_write(database) for _ in range(5)]
    assert waited[0] >= PATIENCE_S
    assert [line["event"] for line in lines] == ["turn_held_up"]  # the others did not wait at all

    stopped.send_signal(signal.SIGCONT)
    _go_on(stopped)
    # Whoever waited meanwhile has to come through first; then everybody waits for the turn again.
    wait_until(lambda: _waits_for_its_turn(database, Turnstile(str(tmp_path / "a.db"))), "it waits for its turn")
    database.close()


def _time_to_write(database: Database) -> float:
    since = time.monotonic()
    writes = _writing(database)
    writes.join(10.0)
    assert not writes.is_alive()
    return time.monotonic() - since


def _waits_for_its_turn(database: Database, turnstile: Turnstile) -> bool:
    turn = turnstile.take_turn()
    assert turn is not None
    writes = _writing(database)
    writes.join(PATIENCE_S / 3)
    waited = writes.is_alive()
    turnstile.leave(turn)
    writes.join(10.0)
    assert not writes.is_alive()
    return waited


def _writing(database: Database) -> threading.Thread:
    """In a thread, so that what waits for ever fails the test and does not hold it up."""

    def write() -> None:
        with database.write() as connection:
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS a (b INTEGER)"))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_files_that_cannot_be_opened_are_an_error_and_not_a_wait(tmp_path: Path) -> None:
    turnstile = Turnstile(str(tmp_path / "nowhere" / "a.db"))
    with pytest.raises(FileNotFoundError):
        turnstile.take_turn()
