"""What peers make the node log is bounded: of each event so many lines a minute, from one address and from all."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict

WINDOW_S = 60.0
MOST_FROM_ONE_ADDRESS = 20
MOST_FROM_ALL = 200


class LogFloods:
    """A structlog processor that drops what is too much; safe to use from every thread.

    It counts the events that name a peer's address. The next line that is written, of whatever event, tells how many
    were left out before it: left_out.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._written: Counter[tuple[str, ...]] = Counter()
        self._forget_at = 0.0
        self._left_out = 0

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Raises:
        DropEvent: it is too much.
        """
        address = event.get("peer_address")
        with self._lock:
            if address is not None and self._is_too_much(event["event"], address):
                self._left_out += 1
                raise structlog.DropEvent
            left_out, self._left_out = self._left_out, 0
        return {**event, "left_out": left_out} if left_out else event

    def _is_too_much(self, name: str, address: str) -> bool:
        now = self._clock()
        if now >= self._forget_at:
            self._written.clear()
            self._forget_at = now + WINDOW_S
        if self._written[name,] >= MOST_FROM_ALL or self._written[name, address] >= MOST_FROM_ONE_ADDRESS:
            return True
        self._written.update(((name,), (name, address)))
        return False
