"""A background thread that does the same small thing again and again, and survives when it fails once."""

import threading
from collections.abc import Callable

import structlog

from storage.alarm import Alarm
from storage.database import is_away

log = structlog.get_logger()


class Periodic:
    """Calls `work` every `period_s` seconds, the first time at once, and when it is woken. One call ends before the
    next begins, and then a `period_s` that is a function says when that is.
    """

    def __init__(self, name: str, work: Callable[[], object], *, period_s: float | Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._period_s = period_s if callable(period_s) else lambda: period_s
        self._stopping = Alarm()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Let it be now rather than when it is time to."""
        self._stopping.wake()

    def stop(self, *, within_s: float = 10.0) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopping.set()
        self._thread.join(timeout=within_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._work()
            except Exception as error:
                if is_away(error):
                    log.warning("database_away", job=self._name, error=type(error).__name__)
                else:
                    log.exception("periodic_work_failed", job=self._name)
            self._stopping.wait(self._period_s())
