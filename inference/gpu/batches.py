"""Which of the waiting images go to the network together: those of one package, across studies.

    put -> wait for others of the same package -> take: at once where the device is idle,
                                                        else when the largest batch is full, or `wait_s` after the first
         -> take_late: what has waited longer than it may

STAT goes before all others, without waiting for more, and what only watches behind them. Nobody moves up by waiting:
who is kept for too long is sent away, and served elsewhere. It knows no clock: the time is told to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

Key = tuple[str, str]  # of a package: its folder, its device UID


class Turn(IntEnum):
    """Whose image goes first, and whose last: a version that only watches is in nobody's way."""

    STAT = 0
    ORDINARY = 1
    SHADOW = 2


class QueueFull(Exception):
    """More wait than may: whoever asks has to hold back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One image. `ticket` is the asker's name for it; `tray` where its pixels are; from `late_s` on it is late."""

    ticket: int
    key: Key
    tray: int
    turn: Turn
    arrived_s: float
    late_s: float

    @property
    def rank(self) -> tuple[Turn, float, int]:
        """Smaller goes first."""
        return (self.turn, self.arrived_s, self.ticket)


class Batches:
    """
    Args:
        largest: images in a batch, at most.
        wait_s: how long the first image waits for others while the device is busy.
        capacity: images that may wait, of all packages together.
    """

    def __init__(self, *, largest: int, wait_s: float, capacity: int) -> None:
        self._largest = largest
        self._wait_s = wait_s
        self._capacity = capacity
        self._waiting: dict[Key, list[Waiting]] = {}
        self._limits: dict[Key, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, one: Waiting) -> None:
        """
        Raises:
            QueueFull: as many wait as may.
        """
        if len(self) >= self._capacity:
            raise QueueFull(f"{self._capacity} images wait already")
        self._waiting.setdefault(one.key, []).append(one)

    def put_back(self, batch: Sequence[Waiting]) -> None:
        """What was taken and could not be done. It keeps its place, and is never refused."""
        for one in batch:
            self._waiting.setdefault(one.key, []).append(one)

    def largest(self, key: Key) -> int:
        return self._limits.get(key, self._largest)

    def limit(self, key: Key, largest: int) -> None:
        """From now on take at most so many of this package together: more did not fit into the device's memory."""
        self._limits[key] = max(1, min(largest, self.largest(key)))

    def take(self, now_s: float, *, is_idle: bool) -> list[Waiting]:
        """The next batch, all of one package; empty while waiting for more is better."""
        ready = [key for key, waiting in self._waiting.items() if is_idle or self._is_due(key, waiting, now_s)]
        if not ready:
            return []
        key = min(ready, key=lambda one: min(waiting.rank for waiting in self._waiting[one]))
        in_order = sorted(self._waiting.pop(key), key=lambda waiting: waiting.rank)
        largest = self.largest(key)
        if rest := in_order[largest:]:
            self._waiting[key] = rest
        return in_order[:largest]

    def take_late(self, now_s: float) -> list[Waiting]:
        """What has waited too long, of all packages."""
        late = [one for waiting in self._waiting.values() for one in waiting if one.late_s <= now_s]
        for one in late:
            self._waiting[one.key].remove(one)
            if not self._waiting[one.key]:
                del self._waiting[one.key]
        return late

    def due_in_s(self, now_s: float) -> float | None:
        """How long until `take` gives something though the device is busy; None: nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, min(self._due_at(key, waiting) for key, waiting in self._waiting.items()) - now_s)

    def _is_due(self, key: Key, waiting: Sequence[Waiting], now_s: float) -> bool:
        return self._due_at(key, waiting) <= now_s

    def _due_at(self, key: Key, waiting: Sequence[Waiting]) -> float:
        first = min(one.arrived_s for one in waiting)
        waits_for_no_more = len(waiting) >= self.largest(key) or any(one.turn is Turn.STAT for one in waiting)
        return first if waits_for_no_more else first + self._wait_s
