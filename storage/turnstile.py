"""Lets those who write to one SQLite database go one after the other, whichever thread or process they are in.

SQLite makes who waits for its write lock ask again and again, every 0.1 s at last, and whoever asks at the right moment
gets it: beside one who writes without pause the others may wait for seconds. Here the kernel wakes who waits.

    take `next`  ->  take `turn`  ->  give `next` back  ->  write  ->  give `turn` back

Only the one who has `next` waits for `turn`, so nobody who has just written overtakes those who wait. Both are locks on
empty files beside the database; a process that dies gives them back. One that is stopped in the middle, as a frozen
machine is, keeps them, perhaps without writing at all. So nobody waits longer than `PATIENCE_S`: who has waited for so
long passes by, and so do those after it until the way is free again. SQLite's own lock guards what they write, as it
does for whoever writes without a turnstile, like the program `sqlite3`.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

import structlog

PATIENCE_S = 1.5  # far more than anybody's transaction takes, and less than the shortest lease of a worker

log = structlog.get_logger()


class Turnstile:
    """Of one database, by the name of its file."""

    def __init__(self, database: str) -> None:
        self._next = f"{database}-next"
        self._turn = f"{database}-turn"
        self._doorman: _Doorman | None = None
        self._starting = threading.Lock()

    def take_turn(self) -> int | None:
        """Wait for it while others write. What comes back is for `leave`: None for who has passed by.

        Raises:
            OSError: the files beside the database cannot be opened.
        """
        try:
            return self._turn_in_turn(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._standing_doorman().turn_for_whoever_asks()

    @staticmethod
    def leave(turn: int | None) -> None:
        if turn is not None:
            os.close(turn)

    def close(self) -> None:
        """Send the doorman home. Whoever takes a turn after this calls another one."""
        with self._starting:
            doorman, self._doorman = self._doorman, None
        if doorman is not None:
            doorman.go_home()

    def _turn_in_turn(self, how: int) -> int:
        next_one = _locked(self._next, how)
        try:
            return _locked(self._turn, how)
        finally:
            os.close(next_one)

    def _standing_doorman(self) -> "_Doorman":
        with self._starting:
            if self._doorman is None:
                self._doorman = _Doorman(lambda: self._turn_in_turn(fcntl.LOCK_EX))
            return self._doorman


class _Doorman:
    """Waits for all of this process in a thread of his own, since nothing can end a wait for a file's lock."""

    def __init__(self, wait_for_turn: Callable[[], int]) -> None:
        self._wait_for_turn = wait_for_turn
        self._asked: SimpleQueue[tuple[Future[int], float] | None] = SimpleQueue()
        self._waits_since: float | None = None
        self._was_free_at = 0.0
        threading.Thread(target=self._stand, name="doorman", daemon=True).start()

    def turn_for_whoever_asks(self) -> int | None:
        if self._is_held_up():
            return None
        asked: Future[int] = Future()
        self._asked.put((asked, time.monotonic()))
        try:
            return asked.result(PATIENCE_S)
        except TimeoutError:
            if not asked.cancel():
                return asked.result()  # it came in the very moment
        log.warning("turn_held_up", waited_s=PATIENCE_S)
        return None

    def go_home(self) -> None:
        self._asked.put(None)

    def _is_held_up(self) -> bool:
        since = self._waits_since
        return since is not None and time.monotonic() - since >= PATIENCE_S

    def _stand(self) -> None:
        while (next_one := self._asked.get()) is not None:
            asked, asked_at = next_one
            if not asked.cancelled():
                self._serve(asked, asked_at)

    def _serve(self, asked: Future[int], asked_at: float) -> None:
        # From when he was asked, if he was free: by his own clock he might begin a moment after who asks gives up.
        self._waits_since = max(asked_at, self._was_free_at)
        try:
            turn = self._wait_for_turn()
        except OSError as error:
            if asked.set_running_or_notify_cancel():
                asked.set_exception(error)
            return
        finally:
            self._waits_since, self._was_free_at = None, time.monotonic()
        if asked.set_running_or_notify_cancel():
            asked.set_result(turn)
        else:
            Turnstile.leave(turn)


def _locked(path: str, how: int) -> int:
    """A lock belongs to an open file, not to a process: so it also keeps threads apart."""
    file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file
