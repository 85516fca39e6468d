"""The event on which a background thread waits between two looks: to be stopped, or to be woken before its time."""

import threading
import time


class Alarm(threading.Event):
    """Set, like any event, it says that it is over. `wake` ends one wait, the present or else the next one.

    rest_s: from one wait's end to the next one's, also when it is woken in between.
    """

    def __init__(self, *, rest_s: float = 0.0) -> None:
        super().__init__()
        self._rest_s = rest_s
        self._rested_at = 0.0
        self._rings = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is over, after `timeout` seconds at most."""
        if not self.is_set():
            self._rings.wait(timeout)
        if not self.is_set():
            time.sleep(max(0.0, self._rested_at - time.monotonic()))
        self._rings.clear()
        self._rested_at = time.monotonic() + self._rest_s
        return self.is_set()

    def wake(self) -> None:
        self._rings.set()

    def set(self) -> None:
        super().set()
        self._rings.set()
