"""Which networks stay in the device's memory: as many as its budget holds, the least recently used leave first.

What a network costs is measured: the memory in use after it was loaded and warmed up, less that before. One that is at
work never leaves, and a pinned one never at all. For a version that only watches nobody leaves, and its network is the
first to leave, until something that answers uses it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import clear_frames
from typing import Generic, TypeVar

from inference.gpu.batches import Key
from inference.gpu.errors import DeviceBroken, NoRoom, OutOfMemory, Unfit

N = TypeVar("N")


@dataclass(slots=True)
class _Resident(Generic[N]):
    network: N
    cost_bytes: int
    is_pinned: bool
    only_watches: bool
    at_work: int = 0

    @property
    def may_leave(self) -> bool:
        return not self.is_pinned and not self.at_work


class Residents(Generic[N]):
    """
    Args:
        budget_bytes: of all networks together.
        in_use: bytes of the device's memory that are in use now.
        release: gives back what a network held that was let go.
    """

    def __init__(self, *, budget_bytes: int, in_use: Callable[[], int], release: Callable[[], None]) -> None:
        self._budget_bytes = budget_bytes
        self._in_use = in_use
        self._release = release
        self._residents: OrderedDict[Key, _Resident[N]] = OrderedDict()
        self._known_costs: dict[Key, int] = {}
        self._in_the_way: set[Key] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._residents

    @property
    def costs(self) -> dict[Key, int]:
        """Bytes by network, the least recently used first."""
        return {key: resident.cost_bytes for key, resident in self._residents.items()}

    def get(self, key: Key, load: Callable[[], N], *, is_pinned: bool = False, may_evict: bool = True) -> N:
        """The network, loaded where it is not there.

        Args:
            may_evict: others leave to make room for it. False: it only watches.

        Raises:
            Unfit: it does not fit beside what may not leave.
            NoRoom: it would fit if others left, and `may_evict` is False.
        """
        if key not in self._residents:
            if key in self._in_the_way and not may_evict:
                raise NoRoom("beside it there was not enough of the device's memory for what answers")
            self._make_room(self._known_costs.get(key, 0), may_evict=may_evict)
            network, cost = self._loaded(load, may_evict=may_evict)
            self._known_costs[key] = cost
            try:
                self._make_room(cost, may_evict=may_evict)
            except Unfit:
                del network
                self._release()
                raise
            self._residents[key] = _Resident(network, cost_bytes=cost, is_pinned=is_pinned, only_watches=not may_evict)
        resident = self._residents[key]
        resident.is_pinned = resident.is_pinned or is_pinned
        resident.only_watches = resident.only_watches and not may_evict
        self._residents.move_to_end(key)
        return resident.network

    @contextmanager
    def at_work(self, key: Key) -> Iterator[None]:
        """While it lasts, the network stays."""
        self.begin(key)
        try:
            yield
        finally:
            self.end(key)

    def begin(self, key: Key) -> None:
        self._residents[key].at_work += 1

    def end(self, key: Key) -> None:
        self._residents[key].at_work -= 1

    def unpin(self, key: Key) -> None:
        self._residents[key].is_pinned = False

    def let_who_watches_go(self) -> bool:
        """Evict a network that only watches, and keep it out as long as it only watches: the memory did run out beside
        it, whatever the budget says. False: there is none.
        """
        watching = [key for key, resident in self._residents.items() if resident.may_leave and resident.only_watches]
        if not watching:
            return False
        self._in_the_way.add(watching[0])
        return self.let_one_go()

    def let_one_go(self) -> bool:
        """Evict the least recently used network that may leave, one that only watches first; False: there is none."""
        leaving = [key for key, resident in self._residents.items() if resident.may_leave]
        if not leaving:
            return False
        del self._residents[min(leaving, key=lambda key: not self._residents[key].only_watches)]
        self._release()
        return True

    def _loaded(self, load: Callable[[], N], *, may_evict: bool) -> tuple[N, int]:
        """The network and what it costs."""
        while True:
            before = self._in_use()
            try:
                return load(), max(0, self._in_use() - before)
            except DeviceBroken:
                raise
            except OutOfMemory as error:
                self._give_back(error)
                if not may_evict:
                    raise NoRoom(f"the device's memory is taken by other networks: {error}") from error
                if not self.let_one_go():
                    raise Unfit(f"it does not fit into the device's memory: {error}") from error
            except Exception as error:
                self._give_back(error)
                raise

    def _give_back(self, error: BaseException) -> None:
        """What a load held that failed. The frames of its error hold the network as long as the error is spoken of."""
        reason: BaseException | None = error
        while reason is not None:
            clear_frames(reason.__traceback__)
            reason = reason.__cause__ or reason.__context__
        self._release()

    def _make_room(self, wanted_bytes: int, *, may_evict: bool) -> None:
        """Let networks go until the budget holds; none, where that would not be enough."""
        staying = sum(one.cost_bytes for one in self._residents.values() if not one.may_leave)
        if staying + wanted_bytes > self._budget_bytes:
            raise Unfit(
                f"it needs {_mb(wanted_bytes)} MB of the device's memory; of the {_mb(self._budget_bytes)} MB that the "
                f"node may use, {_mb(staying)} MB are held by networks that may not leave"
            )
        while sum(self.costs.values()) + wanted_bytes > self._budget_bytes:
            if not may_evict:
                raise NoRoom(f"the {_mb(wanted_bytes)} MB that it needs are taken by other networks")
            self.let_one_go()


def _mb(size_bytes: int) -> int:
    return -(-size_bytes // (1 << 20))
