"""How many may come in: connections that have not associated yet wait in a pool of their own, apart from associations.

accepted  ->  pool (the oldest gives way when it is full)  ->  associated: per node, per caller, per address
                └── and back into it until the peer closes, as the first to give way ──┘

In the pool it is the oldest of the address that has most there: one that floods takes the place of its own only.

A caller is who the configuration says it is: somebody else who gives its AE title takes nothing from it. Those whom the
configuration does not know have a few associations for all of them together.
"""

import threading
from collections import Counter
from typing import Protocol

from scp.callers import KnownCaller
from scp.limits import Limits


class Guest(Protocol):
    """A connection. `drop` ends it from another thread."""

    def drop(self) -> None: ...


class Admission:
    """Counts who is in; safe to use from every connection's thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._waiting: dict[Guest, str] = {}  # with their addresses, in the order of arrival
        self._lingering: dict[Guest, None] = {}  # in the order of departure
        self._associated: dict[Guest, tuple[KnownCaller, str]] = {}
        self._callers: Counter[tuple[str, ...]] = Counter()
        self._addresses: Counter[str] = Counter()
        self._strangers = 0

    def wait(self, guest: Guest, *, address: str) -> None:
        """A connection was accepted. An honest peer asks for its association at once, so the oldest silent one goes;
        where one address opens connection after connection, that is one of its own.
        """
        with self._lock:
            self._waiting[guest] = address
            surplus = self._surplus()
        if surplus is not None:
            surplus.drop()

    def admit(self, guest: Guest, *, caller: KnownCaller, address: str) -> bool:
        """Whether there is an association left for this peer; if so, it has it until `leave`."""
        with self._lock:
            if (
                len(self._associated) >= self._limits.maximum_associations
                or self._callers[caller.identity] >= self._limits.maximum_associations_per_caller
                or self._addresses[address] >= self._limits.maximum_associations_per_address
                or (caller.is_stranger and self._strangers >= self._limits.maximum_associations_of_strangers)
            ):
                return False
            self._waiting.pop(guest, None)
            self._associated[guest] = (caller, address)
            self._callers[caller.identity] += 1
            self._addresses[address] += 1
            self._strangers += caller.is_stranger
            return True

    def linger(self, guest: Guest) -> None:
        """The connection will ask for nothing more, but its peer may close first. It has a place in the pool, and gives
        way before anybody else there.
        """
        with self._lock:
            self._take_out(guest)
            self._lingering[guest] = None
            surplus = self._surplus()
        if surplus is not None:
            surplus.drop()

    def leave(self, guest: Guest) -> None:
        """The connection is over; harmless when it is said twice."""
        with self._lock:
            self._take_out(guest)

    def associated(self) -> list[Guest]:
        with self._lock:
            return list(self._associated)

    def all(self) -> list[Guest]:
        with self._lock:
            return [*self._waiting, *self._lingering, *self._associated]

    def _surplus(self) -> Guest | None:
        """Who has to give way in the pool, and is taken out of it."""
        if len(self._waiting) + len(self._lingering) <= self._limits.maximum_unassociated:
            return None
        oldest = next(iter(self._lingering or self._of_the_busiest()))
        self._take_out(oldest)
        return oldest

    def _of_the_busiest(self) -> list[Guest]:
        ((busiest, _),) = Counter(self._waiting.values()).most_common(1)
        return [guest for guest, address in self._waiting.items() if address == busiest]

    def _take_out(self, guest: Guest) -> None:
        self._waiting.pop(guest, None)
        self._lingering.pop(guest, None)
        if guest not in self._associated:
            return
        caller, address = self._associated.pop(guest)
        self._callers[caller.identity] -= 1
        self._addresses[address] -= 1
        self._strangers -= caller.is_stranger
        self._callers += Counter()  # forgets whom nothing is left of
        self._addresses += Counter()
