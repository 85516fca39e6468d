"""Images of several studies go through a network together, nobody waits for long, and STAT goes first."""

from math import inf

import pytest

from inference.gpu.batches import Batches, QueueFull, Turn, Waiting

CHEST, SPINE = ("chest", "2.25.1"), ("spine", "2.25.2")


def waiting(
    ticket: int,
    *,
    at_s: float = 0.0,
    key: tuple[str, str] = CHEST,
    turn: Turn = Turn.ORDINARY,
    late_s: float = inf,
) -> Waiting:
    return Waiting(ticket=ticket, key=key, tray=ticket, turn=turn, arrived_s=at_s, late_s=late_s)


def batches(*ones: Waiting, largest: int = 4, capacity: int = 100) -> Batches:
    made = Batches(largest=largest, wait_s=0.005, capacity=capacity)
    for one in ones:
        made.put(one)
    return made


def tickets(batch: list[Waiting]) -> list[int]:
    return [one.ticket for one in batch]


def test_an_idle_device_gets_a_single_image_at_once() -> None:
    assert tickets(batches(waiting(1, at_s=7.0)).take(7.0, is_idle=True)) == [1]


def test_while_the_device_is_busy_an_image_waits_five_milliseconds_for_others() -> None:
    made = batches(waiting(1, at_s=1.0), waiting(2, at_s=1.004))
    assert made.take(1.0049, is_idle=False) == []
    assert made.due_in_s(1.003) == pytest.approx(0.002)
    assert tickets(made.take(1.005, is_idle=False)) == [1, 2]
    assert made.due_in_s(2.0) is None


def test_a_full_batch_does_not_wait() -> None:
    made = batches(*(waiting(ticket, at_s=1.0) for ticket in range(5)))
    assert made.due_in_s(1.0) == 0.0
    assert tickets(made.take(1.0, is_idle=False)) == [0, 1, 2, 3]
    assert made.take(1.0, is_idle=False) == []
    assert len(made) == 1


def test_images_of_different_packages_never_go_together() -> None:
    made = batches(waiting(1), waiting(2, key=SPINE), waiting(3))
    assert tickets(made.take(0.0, is_idle=True)) == [1, 3]
    assert tickets(made.take(0.0, is_idle=True)) == [2]


def test_a_stat_image_goes_before_all_that_came_earlier() -> None:
    made = batches(*(waiting(ticket, at_s=ticket / 1e4) for ticket in range(6)))
    made.put(waiting(9, at_s=0.003, turn=Turn.STAT))
    assert tickets(made.take(0.003, is_idle=True)) == [9, 0, 1, 2]


def test_on_a_busy_device_a_stat_image_neither_waits_for_others_nor_stands_behind_a_full_batch() -> None:
    made = batches(*(waiting(ticket, at_s=0.0) for ticket in range(4)))
    made.put(waiting(9, at_s=0.001, key=SPINE, turn=Turn.STAT))
    assert made.due_in_s(0.001) == 0.0
    assert tickets(made.take(0.001, is_idle=False)) == [9]
    made.put(waiting(10, at_s=0.002, key=SPINE))
    assert tickets(made.take(0.002, is_idle=False)) == [0, 1, 2, 3]
    assert made.take(0.002, is_idle=False) == []


def test_what_only_watches_goes_behind_all_that_came_later() -> None:
    made = batches(waiting(1, turn=Turn.SHADOW), *(waiting(ticket, at_s=0.001) for ticket in range(2, 7)))
    assert tickets(made.take(0.002, is_idle=True)) == [2, 3, 4, 5]
    assert tickets(made.take(0.002, is_idle=True)) == [6, 1]


def test_the_package_of_what_only_watches_goes_behind_the_others() -> None:
    made = batches(waiting(1, turn=Turn.SHADOW), waiting(2, at_s=0.001, key=SPINE))
    assert tickets(made.take(0.002, is_idle=True)) == [2]


def test_the_package_of_a_stat_image_goes_before_the_others() -> None:
    made = batches(waiting(1, at_s=0.0), waiting(2, at_s=0.001, key=SPINE, turn=Turn.STAT))
    assert tickets(made.take(0.002, is_idle=True)) == [2]


def test_among_packages_the_one_that_has_waited_longest_goes_first() -> None:
    made = batches(waiting(1, at_s=0.002), waiting(2, at_s=0.001, key=SPINE))
    assert tickets(made.take(0.01, is_idle=False)) == [2]
    assert tickets(made.take(0.01, is_idle=False)) == [1]


def test_what_waited_longer_than_it_may_is_taken_out_and_the_others_stay() -> None:
    made = batches(waiting(1, late_s=9.0), waiting(2, late_s=10.0), waiting(3, key=SPINE, late_s=9.0))
    assert made.take_late(8.9) == []
    assert tickets(made.take_late(9.0)) == [1, 3]
    assert len(made) == 1
    assert tickets(made.take(9.0, is_idle=True)) == [2]
    assert made.due_in_s(9.0) is None


def test_what_did_not_fit_is_taken_again_in_smaller_batches_and_in_its_order() -> None:
    made = batches(*(waiting(ticket, at_s=ticket / 1e4) for ticket in range(5)))
    first = made.take(0.0, is_idle=True)
    made.limit(CHEST, 2)
    made.put_back(first)
    taken = [tickets(made.take(0.0, is_idle=True)) for _ in range(3)]
    assert taken == [[0, 1], [2, 3], [4]]


def test_a_limit_only_ever_shrinks_and_is_the_packages_own() -> None:
    made = batches()
    made.limit(CHEST, 2)
    made.limit(CHEST, 3)
    assert (made.largest(CHEST), made.largest(SPINE)) == (2, 4)
    made.limit(CHEST, 0)
    assert made.largest(CHEST) == 1


def test_more_than_may_wait_are_refused_and_what_was_taken_may_always_come_back() -> None:
    made = batches(waiting(1), waiting(2), capacity=2)
    with pytest.raises(QueueFull, match="2 images wait already"):
        made.put(waiting(3))
    taken = made.take(0.0, is_idle=True)
    made.put(waiting(3))
    made.put_back(taken)
    assert len(made) == 3
