"""A signal ends a process in whatever moment it comes."""

import os
import signal
import time

from cli.stopping import stop_signal

TRIES = 150
NOTICED_WITHIN_S = 10.0


def test_a_signal_that_comes_while_the_main_thread_begins_to_wait_is_not_lost() -> None:
    for number in range(TRIES):
        process_id = start_waiting()
        time.sleep(number % 7 * 0.0003)  # it waits again and again: the signal meets it at another step each time
        os.kill(process_id, signal.SIGTERM)
        assert ends(process_id), f"try {number}"


def start_waiting() -> int:
    ready, tell = os.pipe()
    if process_id := os.fork():
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        return process_id
    stop = stop_signal(signal.SIGTERM)
    os.write(tell, b"!")
    while not stop.wait(0.0001):
        pass
    os._exit(0)


def ends(process_id: int) -> bool:
    deadline = time.monotonic() + NOTICED_WITHIN_S
    while time.monotonic() < deadline:
        if os.waitpid(process_id, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    os.kill(process_id, signal.SIGKILL)
    os.waitpid(process_id, 0)
    return False
