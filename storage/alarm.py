"""The event on which a background thread waits between two looks: to be stopped, or to be woken before its time."""

import threading


class Alarm(threading.Event):
    """Set, like any event, it says that it is over. `wake` ends one wait, the present or else the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._rings = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is over, after `timeout` seconds at most."""
        if not self.is_set():
            self._rings.wait(timeout)
        self._rings.clear()
        return self.is_set()

    def wake(self) -> None:
        self._rings.set()

    def set(self) -> None:
        super().set()
        self._rings.set()
