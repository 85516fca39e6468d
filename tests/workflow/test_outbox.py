"""Something is handed over while a job ends: one job goes on, and nothing is left behind."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.outboxes import wake
from storage.tables import deliveries, outboxes
from tests.workflow.conftest import Puts
from tests.workflow.test_delivery import waiting_study
from workflow.outbox import go_on, try_later
from workflow.rooms import Rooms

TOGETHER = 8


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def in_one_transaction(rooms: Rooms, work: Callable[..., None], *arguments: object) -> None:
    with rooms.database.write() as connection:
        work(connection, rooms, *arguments)


def wake_pacs(connection: sa.Connection, rooms: Rooms) -> None:
    wake(connection, rooms.jobs, clinic="st-mary", destination="pacs")


def nothing_pending(rooms: Rooms) -> None:
    """The destination's first job has sent all there was, and is about to end."""
    waiting_study(rooms, 1)
    in_one_transaction(rooms, lambda connection, _: set_all(connection, "delivered"))


def hand_over(connection: sa.Connection, rooms: Rooms) -> None:
    set_all(connection, "pending")
    wake_pacs(connection, rooms)


def set_all(connection: sa.Connection, state: str) -> None:
    connection.execute(sa.update(deliveries).values(state=state))


def test_those_that_hand_over_at_the_same_moment_put_one_job(rooms: Rooms, puts: Puts) -> None:
    at_once = threading.Barrier(TOGETHER)

    def wake_with_the_others(_: int) -> None:
        at_once.wait()
        in_one_transaction(rooms, wake_pacs)

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(wake_with_the_others, range(TOGETHER)))
    assert puts.jobs == [("pacs", "st-mary", 1, 0.0)]


def test_a_job_that_ends_waits_for_who_is_handing_over_and_takes_it_along(rooms: Rooms, puts: Puts) -> None:
    nothing_pending(rooms)
    ends = threading.Thread(target=in_one_transaction, args=(rooms, go_on, "st-mary", "pacs", 1))
    with rooms.database.write() as connection:
        hand_over(connection, rooms)
        ends.start()
        ends.join(0.3)
        assert ends.is_alive()
        assert [job[2] for job in puts.jobs] == [1]
    ends.join(10)
    assert [job[2:] for job in puts.jobs] == [(1, 0.0), (2, 0.0)]


def test_who_hands_over_waits_for_a_job_that_ends_and_puts_the_next_one(rooms: Rooms, puts: Puts) -> None:
    nothing_pending(rooms)
    hands_over = threading.Thread(target=in_one_transaction, args=(rooms, hand_over))
    with rooms.database.write() as connection:
        go_on(connection, rooms, "st-mary", "pacs", 1)
        hands_over.start()
        hands_over.join(0.3)
        assert hands_over.is_alive()
    hands_over.join(10)
    assert [job[2:] for job in puts.jobs] == [(1, 0.0), (2, 0.0)]


def test_each_clinic_and_each_destination_has_a_job_of_its_own(rooms: Rooms, puts: Puts) -> None:
    with rooms.database.write() as connection:
        for clinic, destination in (("st-mary", "pacs"), ("st-mary", "archive"), ("mercy", "pacs")):
            wake(connection, rooms.jobs, clinic=clinic, destination=destination)
    assert [job[:2] for job in puts.jobs] == [("pacs", "st-mary"), ("archive", "st-mary"), ("pacs", "mercy")]


def test_a_destination_that_is_away_is_not_woken_and_one_that_is_reached_again_is(rooms: Rooms, puts: Puts) -> None:
    waiting_study(rooms, 1)
    in_one_transaction(rooms, try_later, "st-mary", "pacs", 1, "cannot be reached", False)
    in_one_transaction(rooms, wake_pacs)
    assert [job[2] for job in puts.jobs] == [1, 2]
    with rooms.database.read() as connection:
        row = connection.execute(sa.select(outboxes)).one()
    assert (row.failures, row.last_error, row.is_busy) == (1, "cannot be reached", True)
    in_one_transaction(rooms, go_on, "st-mary", "pacs", 2)
    assert puts.jobs[-1] == ("pacs", "st-mary", 3, 0.0)
