"""Networks stay loaded within a budget; the least recently used leaves, unless it is at work or pinned."""

from collections.abc import Callable
from weakref import WeakSet

import pytest

from inference.gpu.errors import NoRoom, OutOfMemory, Unfit
from inference.gpu.residents import Residents

MB = 1 << 20
A, B, C = ("a", "1"), ("b", "1"), ("c", "1")


class Memory:
    """A device's memory: what is loaded into it takes so much, until it is let go."""

    def __init__(self, *, size_mb: int = 10_000, budget_mb: int) -> None:
        self.size_mb = size_mb
        self.loads: list[tuple[str, str]] = []
        self._taken: dict[tuple[str, str], int] = {}
        self.residents: Residents[str] = Residents(
            budget_bytes=budget_mb * MB, in_use=lambda: sum(self._taken.values()) * MB, release=self._release
        )

    def get(self, key: tuple[str, str], cost_mb: int, *, is_pinned: bool = False, may_evict: bool = True) -> str:
        load = self._loader(key, cost_mb)
        return self.residents.get(key, load, is_pinned=is_pinned, may_evict=may_evict)

    def _loader(self, key: tuple[str, str], cost_mb: int) -> Callable[[], str]:
        def load() -> str:
            self.loads.append(key)
            if sum(self._taken.values()) + cost_mb > self.size_mb:
                raise OutOfMemory("the device is full")
            self._taken[key] = cost_mb
            return f"network {key[0]}"

        return load

    def _release(self) -> None:
        self._taken = {key: cost for key, cost in self._taken.items() if key in self.residents}


def resident(memory: Memory) -> list[str]:
    return [key[0] for key in memory.residents.costs]


def test_a_network_is_loaded_once() -> None:
    memory = Memory(budget_mb=100)
    assert [memory.get(A, 40), memory.get(A, 40)] == ["network a", "network a"]
    assert memory.loads == [A]
    assert memory.residents.costs == {A: 40 * MB}


def test_the_least_recently_used_leaves_when_the_budget_is_reached() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    memory.get(B, 40)
    memory.get(A, 40)
    memory.get(C, 40)
    assert resident(memory) == ["a", "c"]


def test_one_that_is_at_work_does_not_leave() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    memory.get(B, 40)
    with memory.residents.at_work(A):
        memory.get(C, 40)
        assert resident(memory) == ["a", "c"]
    memory.get(B, 40)
    assert resident(memory) == ["c", "b"]


def test_a_pinned_one_never_leaves_and_the_one_that_does_not_fit_beside_it_says_so() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 60, is_pinned=True)
    memory.get(B, 30)
    with pytest.raises(
        Unfit, match="it needs 50 MB of the device's memory; of the 100 MB that the node may use, 60 MB are held"
    ):
        memory.get(C, 50)
    assert resident(memory) == ["a", "b"]


def test_for_one_that_may_evict_nobody_nobody_leaves() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    assert memory.get(B, 40, may_evict=False) == "network b"
    with pytest.raises(NoRoom, match="the 40 MB that it needs are taken by other networks"):
        memory.get(C, 40, may_evict=False)
    assert resident(memory) == ["a", "b"]
    with pytest.raises(NoRoom):
        memory.get(C, 40, may_evict=False)
    assert memory.loads == [A, B, C]  # what it needs is known now: it is not loaded once more to find that out


def test_on_a_full_device_nobody_leaves_for_it_either() -> None:
    memory = Memory(size_mb=60, budget_mb=100)
    memory.get(A, 40)
    with pytest.raises(NoRoom, match="the device is full"):
        memory.get(B, 40, may_evict=False)
    assert resident(memory) == ["a"]


def test_a_network_that_only_watches_is_the_first_to_leave() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    memory.get(B, 40, may_evict=False)
    memory.get(C, 40)
    assert resident(memory) == ["a", "c"]


def test_on_a_full_device_it_is_the_first_to_leave_as_well() -> None:
    memory = Memory(size_mb=100, budget_mb=1000)
    memory.get(A, 40)
    memory.get(B, 40, may_evict=False)
    memory.get(C, 40)
    assert resident(memory) == ["a", "c"]


def test_a_network_that_only_watched_stays_like_the_others_once_something_that_answers_uses_it() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    memory.get(B, 40, may_evict=False)
    memory.get(B, 40)
    memory.get(B, 40, may_evict=False)
    memory.get(C, 40)
    assert resident(memory) == ["b", "c"]


def test_one_that_is_larger_than_the_budget_sends_no_other_away() -> None:
    memory = Memory(budget_mb=100)
    memory.get(A, 40)
    for _ in range(2):
        with pytest.raises(Unfit, match="it needs 101 MB"):
            memory.get(B, 101)
    assert resident(memory) == ["a"]
    assert memory.loads == [A, B]  # what it costs is known the second time


def test_a_network_that_is_known_to_be_large_finds_its_place_made_before_it_is_loaded() -> None:
    memory = Memory(size_mb=100, budget_mb=100)
    memory.get(A, 60)
    memory.get(B, 40)
    memory.get(C, 60)  # the device is full: a leaves, and the load is tried again
    memory.loads.clear()
    memory.get(A, 60)
    assert memory.loads == [A]
    assert resident(memory) == ["a"]


@pytest.mark.parametrize("error", [Unfit("its answers differ"), OutOfMemory("the device is full"), IndexError("a bug")])
def test_a_load_that_fails_gives_back_what_it_held(error: Exception) -> None:
    class Network:
        """What takes memory until nobody holds it any more."""

    alive: WeakSet[Network] = WeakSet()
    held_at_release: list[int] = []

    def check(network: Network) -> None:
        raise ValueError("of the network")

    def load() -> Network:
        network = Network()
        alive.add(network)
        try:
            check(network)
        except ValueError as reason:
            raise error from reason
        return network

    residents: Residents[Network] = Residents(
        budget_bytes=MB, in_use=lambda: 0, release=lambda: held_at_release.append(len(alive))
    )
    with pytest.raises((Unfit, IndexError)):
        residents.get(A, load)
    assert held_at_release == [0]


def test_what_finds_the_device_full_is_loaded_again_after_another_left() -> None:
    memory = Memory(size_mb=70, budget_mb=1000)
    memory.get(A, 40)
    memory.get(B, 40)
    assert memory.loads == [A, B, B]
    assert resident(memory) == ["b"]


def test_what_finds_the_device_full_when_nobody_may_leave_is_unfit() -> None:
    memory = Memory(size_mb=70, budget_mb=1000)
    memory.get(A, 40, is_pinned=True)
    with pytest.raises(Unfit, match="it does not fit into the device's memory: the device is full"):
        memory.get(B, 40)
    memory.residents.unpin(A)
    assert memory.get(B, 40) == "network b"
