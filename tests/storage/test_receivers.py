"""A receiver shows that it is alive as long as every one of its listeners does."""

import sqlalchemy as sa

from storage.arrivals.receivers import Beat, receiver_signs
from storage.database import Database
from storage.tables import receivers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def age_rows(database: Database, seconds: float) -> None:
    """As if so much time had passed by the database's clock."""
    with database.write() as connection:
        connection.execute(sa.update(receivers).values(seen_at=receivers.c.seen_at - seconds))


def names(database: Database) -> list[tuple[str, bool]]:
    return [(sign.name, sign.is_alive) for sign in receiver_signs(database)]


def test_a_receiver_is_alive_once_all_of_its_listeners_have_been_heard_of(database: Database) -> None:
    beat = Beat(database, "a:11112", listeners=2)
    beat.heard(0)
    beat.beat_if_due()
    assert names(database) == []
    beat.heard(1)
    beat.beat_if_due()
    assert names(database) == [("a:11112", True)]


def test_a_beat_is_renewed_after_five_seconds_and_not_before(database: Database) -> None:
    clock = Clock()
    beat = Beat(database, "a:11112", listeners=1, clock=clock)
    for seconds, is_renewed in ((0.0, True), (4.9, False), (0.2, True)):
        age_rows(database, 100.0)
        clock.now += seconds
        beat.heard(0)
        beat.beat_if_due()
        assert names(database) == [("a:11112", is_renewed)]


def test_one_silent_listener_of_several_stops_the_beat(database: Database) -> None:
    clock = Clock()
    beat = Beat(database, "a:11112", listeners=2, clock=clock)
    for listener in (0, 1):
        beat.heard(listener)
    beat.beat_if_due()
    age_rows(database, 21.0)
    clock.now += 21.0
    beat.heard(0)
    beat.beat_if_due()
    assert names(database) == [("a:11112", False)]


def test_a_receiver_that_stops_in_good_order_leaves_no_row_and_the_others_theirs(database: Database) -> None:
    one, other = Beat(database, "a:11112", listeners=1), Beat(database, "b:11112", listeners=1)
    for beat in (one, other):
        beat.heard(0)
        beat.beat_if_due()
    one.end()
    assert names(database) == [("b:11112", True)]


def test_a_receiver_that_has_been_silent_for_an_hour_is_forgotten(database: Database) -> None:
    gone, here = Beat(database, "gone:11112", listeners=1), Beat(database, "here:11112", listeners=1)
    gone.heard(0)
    gone.beat_if_due()
    age_rows(database, 3601.0)
    assert names(database) == []
    here.heard(0)
    here.beat_if_due()
    with database.read() as connection:
        assert list(connection.scalars(sa.select(receivers.c.name))) == ["here:11112"]
