"""Who waits on an alarm is woken once for each time that it rings, and for good when it is set."""

import threading

from storage.alarm import Alarm

LONG_S = 60.0


def test_a_wait_that_nobody_ends_ends_by_itself() -> None:
    assert Alarm().wait(0.01) is False


def test_it_wakes_who_waits_and_nothing_is_over() -> None:
    alarm, answers = Alarm(), list[bool]()
    waits = threading.Thread(target=lambda: answers.append(alarm.wait(LONG_S)))
    waits.start()
    alarm.wake()
    waits.join(LONG_S / 2)
    assert answers == [False]


def test_it_wakes_who_was_not_waiting_yet_once() -> None:
    alarm = Alarm()
    alarm.wake()
    alarm.wake()
    assert alarm.wait(LONG_S) is False
    again = threading.Thread(target=alarm.wait, args=(LONG_S,))
    again.start()
    again.join(0.1)
    assert again.is_alive()
    alarm.set()
    again.join(LONG_S / 2)
    assert not again.is_alive()


def test_it_is_over_for_everybody_and_for_ever() -> None:
    alarm = Alarm()
    alarm.set()
    assert [alarm.wait(LONG_S), alarm.wait(LONG_S)] == [True, True]
