"""Who writes to a SQLite database goes in turn, and nobody keeps the others from it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from storage.database import Database
from storage.turnstile import Turnstile

WRITES = 100
HOLDS_THE_TURN = """
import sys, time
from storage.turnstile import Turnstile
Turnstile(sys.argv[1]).take_turn()
print("has it", flush=True)
time.sleep(600)
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


def test_a_process_that_is_killed_in_its_turn_keeps_nobody_from_theirs(tmp_path: Path) -> None:
    place = str(tmp_path / "a.db")
    holder = subprocess.Popen([sys.executable, "-c", HOLDS_THE_TURN, place], stdout=subprocess.PIPE, cwd=os.getcwd())
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"has it\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    turnstile = Turnstile(place)
    turnstile.leave(turnstile.take_turn())
