"""What the owner of a device does with images and failures. The network here is told when to end and when to fail; no
clock runs but in its loop.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.gpu.batches import Batches, Turn
from inference.gpu.errors import DeviceBroken, OutOfMemory, Unfit
from inference.gpu.networks import Arrays, DeviceNetwork, Running
from inference.gpu.owner import Owner, serve
from inference.gpu.residents import Residents
from inference.gpu.trays import Tray
from inference.package import Package, load
from inference.preprocess import Float32
from tests.factories.packages import INPUT_SIZE, build_package
from tests.inference.processes import within

IMAGE_BYTES = 4 * INPUT_SIZE * INPUT_SIZE


def _set() -> Event:
    event = Event()
    event.set()
    return event


@dataclass
class Told:
    """A network that gives each image's mean, and fails as it is told.

    fits: images in a batch that do not use up the memory. fails: with what, at the start or at the end of a batch.
    done: set once the batches are done that are under way.
    """

    largest: int = 4
    fits: int = 99
    fails_at_start: Exception | None = None
    fails_at_end: Exception | None = None
    batches: list[int] = field(default_factory=list)
    done: Event = field(default_factory=_set)

    def start(self, images: Sequence[Float32]) -> Running:
        self.batches.append(len(images))
        if self.fails_at_start:
            raise self.fails_at_start
        if len(images) > self.fits:
            raise OutOfMemory("the device is full")
        return Started(np.array([[image.mean()] for image in images]), self.fails_at_end, self.done)


@dataclass
class Started:
    means: NDArray[Any]
    error: Exception | None
    done: Event

    def is_done(self) -> bool:
        return self.done.is_set()

    def outputs(self) -> Arrays:
        assert self.done.wait(60)
        if self.error:
            raise self.error
        return {"mean": self.means}


def told_over(parent: "Connection[bytes, bytes]", message: Mapping[str, Any], descriptor: int = -1) -> None:
    parent.send_bytes(json.dumps(message).encode())
    if descriptor >= 0:
        send_handle(parent, descriptor, os.getpid())


class NoPins:
    def pin(self, memory: NDArray[Any]) -> None: ...

    def unpin(self, memory: NDArray[Any]) -> None: ...


class House:
    """An owner, the trays of those who ask it, and what it answered."""

    def __init__(self, folder: Path, network: Told) -> None:
        self.now_s = 0.0
        self.clock: Callable[[], float] = lambda: self.now_s
        self.sent: list[dict[str, Any]] = []
        self.answers: dict[int, float] = {}
        self.trays: dict[int, Tray] = {}
        self.opened: list[str] = []
        self.networks: dict[str, Told | Exception] = {"chest": network}
        self.packages = {name: load(build_package(folder / name, name=name)) for name in ("chest", "spine")}
        self.residents: Residents[tuple[DeviceNetwork, Package]] = Residents(
            budget_bytes=1 << 30, in_use=lambda: 0, release=lambda: None
        )
        self.owner = Owner(
            pins=NoPins(),
            batches=Batches(largest=8, wait_s=0.005, capacity=6),
            residents=self.residents,
            open_network=self._open,
            send=self._take,
            clock=lambda: self.clock(),
        )

    def ask(
        self,
        ticket: int,
        parent: "Connection[bytes, bytes] | None" = None,
        *,
        name: str = "chest",
        turn: Turn = Turn.ORDINARY,
        limit_s: float = 120.0,
    ) -> None:
        """An image whose mean is its ticket; told to the owner itself, or over the parent's end of its connection."""
        tell = self.owner.take if parent is None else partial(told_over, parent)
        if ticket not in self.trays:
            self.trays[ticket] = Tray(ticket)
            self.trays[ticket].fit(IMAGE_BYTES)
            tell({"task": "tray", "tray": ticket}, self.trays[ticket].descriptor)
        image = np.full((1, INPUT_SIZE, INPUT_SIZE), ticket, np.float32)
        with open(f"/proc/self/fd/{self.trays[ticket].descriptor}", "r+b") as memory:
            memory.write(image.tobytes())
        named = self.named(name)
        tell({"task": "infer", "ticket": ticket, "tray": ticket, "turn": turn, "limit_s": limit_s, **named})

    @contextmanager
    def serving(self, *, clock: Callable[[], float]) -> "Iterator[Connection[bytes, bytes]]":
        """The owner's loop, in a thread of its own; what is given is the parent's end of its connection."""
        self.clock = clock
        parent, connection = Pipe()

        def until_closed() -> None:
            with suppress(EOFError, ConnectionResetError):
                serve(connection, self.owner)

        loop = Thread(target=until_closed)
        loop.start()
        try:
            yield parent
        finally:
            for network in self.networks.values():
                if isinstance(network, Told):
                    network.done.set()
            parent.close()
            loop.join(60)
            connection.close()

    def named(self, name: str) -> dict[str, Any]:
        package = self.packages[name]
        return {"folder": str(package.folder), "device_uid": package.device_uid, "is_pinned": False}

    def run(self) -> None:
        """Until nothing waits."""
        for _ in range(100):
            wait_s = self.owner.wait_s()
            if wait_s is None:
                return
            self.now_s += wait_s
            self.owner.turn()
        raise AssertionError("it never comes to rest")

    def said(self, key: str) -> list[Any]:
        return [message[key] for message in self.sent if key in message]

    def _open(self, package: Package, largest: int) -> DeviceNetwork:
        self.opened.append(package.name)
        network = self.networks[package.name]
        if isinstance(network, Exception):
            raise network
        return network

    def _take(self, message: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        self.sent.append(dict(message))
        for array in arrays:
            self.answers |= {ticket: float(mean) for ticket, (mean,) in zip(message["done"], array, strict=True)}


@pytest.fixture
def network() -> Told:
    return Told()


@pytest.fixture
def house(tmp_path: Path, network: Told) -> Iterator[House]:
    made = House(tmp_path, network)
    yield made
    for tray in made.trays.values():
        tray.close()


def test_each_image_gets_its_own_answer_from_one_batch(house: House, network: Told) -> None:
    for ticket in (1, 2, 3):
        house.ask(ticket)
    house.run()
    assert house.answers == {1: 1.0, 2: 2.0, 3: 3.0}
    assert network.batches == [3]
    assert house.opened == ["chest"]


def test_outputs_that_are_too_many_for_one_message_come_in_several(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.gpu.owner.MOST_OUTPUT_BYTES", 11)  # each gives one float32
    for ticket in (1, 2, 3, 4):
        house.ask(ticket)
    house.ask(5)
    house.run()
    assert house.said("done") == [[1, 2], [3, 4], [5]]
    assert house.answers == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0}


def test_a_network_whose_outputs_for_one_image_are_too_many_is_left_to_the_cpu(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.gpu.owner.MOST_OUTPUT_BYTES", 3)
    house.ask(1)
    house.run()
    assert house.said("unfit") == [[1]]
    assert house.answers == {}


def test_an_image_is_started_at_once_where_nothing_is_under_way(house: House, network: Told) -> None:
    house.ask(1)
    house.owner.turn()
    assert network.batches == [1]
    assert house.now_s == 0.0


def test_while_one_batch_computes_the_next_is_started_and_answers_come_in_order(house: House, network: Told) -> None:
    network.done.clear()
    house.ask(1)
    house.owner.turn()
    for ticket in (2, 3, 4):
        house.ask(ticket)
    house.owner.turn()
    assert (network.batches, house.said("done")) == ([1], [])
    house.now_s = 0.006
    network.done.set()
    house.owner.turn()
    assert (network.batches, house.said("done")) == ([1, 3], [[1]])
    house.run()
    assert house.said("done") == [[1], [2, 3, 4]]


def test_while_one_batch_computes_messages_are_read_and_the_next_is_started_when_it_is_due(
    house: House, network: Told
) -> None:
    """In the loop itself: what it waits for is the clock and the connection."""
    network.done.clear()
    with house.serving(clock=time.monotonic) as parent:
        house.ask(1, parent)
        assert within(60, lambda: network.batches == [1])
        house.ask(2, parent)
        assert within(60, lambda: network.batches == [1, 1])
        assert house.answers == {}
        network.done.set()
        assert within(60, lambda: house.answers == {1: 1.0, 2: 2.0})


def test_a_batch_that_is_done_is_answered_though_nothing_else_comes(house: House, network: Told) -> None:
    network.done.clear()
    with house.serving(clock=time.monotonic) as parent:
        house.ask(1, parent)
        assert within(60, lambda: network.batches == [1])
        network.done.set()
        assert within(60, lambda: house.answers == {1: 1.0})


def test_an_image_that_waits_for_others_is_started_once_nothing_is_under_way(house: House, network: Told) -> None:
    network.done.clear()
    house.ask(1)
    house.owner.turn()
    house.ask(2)
    network.done.set()
    house.owner.turn()
    assert house.said("done") == [[1]]
    assert house.owner.wait_s() == 0.0
    house.owner.turn()
    assert house.said("done") == [[1], [2]]


def test_no_batch_is_larger_than_what_was_measured_at_the_warm_up(house: House, network: Told) -> None:
    network.largest = 2
    for ticket in (1, 2, 3, 4, 5):
        house.ask(ticket)
    house.run()
    assert network.batches == [2, 2, 1]
    assert sorted(house.answers) == [1, 2, 3, 4, 5]


def test_out_of_memory_halves_the_batch_and_goes_on(house: House, network: Told) -> None:
    network.fits = 1
    for ticket in (1, 2, 3, 4):
        house.ask(ticket)
    house.run()
    assert network.batches == [4, 2, 1, 1, 1, 1]
    assert house.answers == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}


def test_the_halved_size_is_remembered(house: House, network: Told) -> None:
    network.fits = 2
    for ticket in (1, 2, 3, 4):
        house.ask(ticket)
    house.run()
    network.batches.clear()
    for ticket in (1, 2, 3, 4):
        house.ask(ticket)
    house.run()
    assert network.batches == [2, 2]
    assert [message["count"] for message in house.sent if message.get("event") == "batch_halved"] == [2]


def test_memory_that_runs_out_at_the_end_of_a_batch_halves_it_as_well(house: House, network: Told) -> None:
    network.fails_at_end = OutOfMemory("the device is full")
    house.ask(1)
    house.ask(2)
    house.owner.turn()
    network.fails_at_end = None
    house.run()
    assert network.batches == [2, 1, 1]
    assert house.answers == {1: 1.0, 2: 2.0}


def test_where_memory_runs_out_what_only_watches_leaves_before_the_batch_becomes_smaller(
    house: House, network: Told
) -> None:
    house.networks["spine"] = Told()
    house.ask(5, name="spine", turn=Turn.SHADOW)
    house.run()
    network.fails_at_start = OutOfMemory("the device is full")
    house.ask(1)
    house.ask(2)
    house.owner.turn()
    assert [Path(folder).name for folder, _ in house.residents.costs] == ["chest"]
    network.fails_at_start = None
    house.run()
    assert network.batches == [2, 2]
    assert house.answers == {5: 5.0, 1: 1.0, 2: 2.0}
    house.ask(6, name="spine", turn=Turn.SHADOW)
    house.run()
    assert house.said("no_room") == [[6]]
    house.ask(5, name="spine")
    house.run()
    assert house.said("done") == [[5], [1, 2], [5]]


def test_where_one_image_does_not_fit_another_network_leaves(house: House, network: Told) -> None:
    house.networks["spine"] = Told()
    house.ask(5, name="spine")
    house.run()
    network.fails_at_start = OutOfMemory("the device is full")
    house.ask(1)
    house.owner.turn()
    assert [Path(folder).name for folder, _ in house.residents.costs] == ["chest"]
    network.fails_at_start = None
    house.run()
    assert house.answers == {5: 5.0, 1: 1.0}


def test_where_one_image_does_not_fit_and_nobody_may_leave_the_cpu_has_to_serve_it(house: House, network: Told) -> None:
    network.fits = 0
    house.ask(1)
    house.run()
    assert house.said("unfit") == [[1]]
    assert house.said("says") == ["one image alone does not fit into the device's memory: the device is full"]


def test_for_a_version_that_only_watches_no_network_leaves(house: House, network: Told) -> None:
    house.networks["spine"] = Told()
    house.ask(5, name="spine")
    house.run()
    network.fits = 0
    house.ask(1, turn=Turn.SHADOW)
    house.run()
    assert [Path(folder).name for folder, _ in house.residents.costs] == ["spine", "chest"]
    assert (house.said("no_room"), house.said("unfit")) == ([[1]], [])
    assert house.said("says") == ["the device's memory is taken by other networks: the device is full"]


def test_a_version_that_only_watches_waits_for_all_that_answer(house: House, network: Told) -> None:
    house.networks["spine"] = Told()
    house.ask(1, name="spine", turn=Turn.SHADOW)
    for ticket in (2, 3):
        house.ask(ticket)
    house.run()
    assert house.said("done") == [[2, 3], [1]]


def test_an_image_that_others_keep_waiting_is_sent_away_in_time_and_they_are_served(house: House) -> None:
    house.ask(1, name="spine", limit_s=3.0)
    for second in (0, 1, 2, 3):
        house.now_s = float(second)
        house.ask(10 + second, turn=Turn.STAT)
        house.owner.turn()
    assert house.said("late") == [[1]]
    assert house.said("says") == ["others kept the device busy for as long as an image may wait"]
    assert house.said("done") == [[10], [11], [12], [13]]
    assert house.owner.wait_s() is None


def test_a_batch_that_never_ends_leaves_the_owner_silent_whoever_else_asks(house: House, network: Told) -> None:
    """So its parent ends it: see devices.py."""
    network.done.clear()
    with house.serving(clock=time.monotonic) as parent:
        house.ask(1, parent)
        assert within(60, lambda: network.batches == [1])
        house.ask(2, parent)
        assert within(60, lambda: network.batches == [1, 1])
        sent = len(house.sent)
        house.ask(3, parent, limit_s=0.001)
        assert not within(0.3, lambda: len(house.sent) > sent)


def test_a_package_that_the_device_cannot_serve_harms_no_other(house: House) -> None:
    house.networks["spine"] = Unfit("what it gives for the golden radiograph differs")
    house.ask(1)
    house.ask(2, name="spine")
    house.run()
    assert house.answers == {1: 1.0}
    assert (house.said("unfit"), house.said("says")) == (
        [[2]],
        ["what it gives for the golden radiograph differs"],
    )


@pytest.mark.parametrize("when", ["fails_at_start", "fails_at_end"])
def test_a_bug_of_one_network_is_told_and_harms_no_other(house: House, network: Told, when: str) -> None:
    setattr(network, when, IndexError("of the network"))
    house.networks["spine"] = Told()
    house.ask(1)
    house.ask(2, name="spine")
    house.run()
    assert house.answers == {2: 2.0}
    assert (house.said("unfit"), house.said("says")) == ([[1]], ["IndexError: of the network"])


@pytest.mark.parametrize("when", ["fails_at_start", "fails_at_end"])
def test_a_broken_device_ends_the_owner(house: House, network: Told, when: str) -> None:
    setattr(network, when, DeviceBroken("CUDA error: an illegal memory access"))
    house.ask(1)
    with pytest.raises(DeviceBroken):
        house.run()


def test_more_images_than_may_wait_are_sent_back_at_once(house: House) -> None:
    for ticket in range(1, 9):
        house.ask(ticket)
    assert (house.said("full"), house.said("says")) == ([[7], [8]], ["6 images wait already"] * 2)
    house.run()
    assert sorted(house.answers) == [1, 2, 3, 4, 5, 6]


def test_a_package_that_was_installed_anew_amid_a_request_does_not_answer_it(house: House) -> None:
    house.ask(1)
    build_package(house.packages["chest"].folder, version="2.0.0")
    house.run()
    assert house.said("says") == ["the package chest was installed anew a moment ago"]


def test_of_a_pinned_package_only_the_version_that_is_installed_stays(house: House) -> None:
    for version in ("1.0.0", "2.0.0"):
        build_package(house.packages["chest"].folder, version=version)
        house.packages["chest"] = load(house.packages["chest"].folder)
        house.owner.take({"task": "load", "ticket": 1, **house.named("chest"), "is_pinned": True})
    assert house.said("done") == [[1], [1]]
    assert house.residents.let_one_go()
    assert list(house.residents.costs) == [(str(house.packages["chest"].folder), house.packages["chest"].device_uid)]
    assert not house.residents.let_one_go()


def test_a_tray_that_became_larger_is_read_where_it_is_now(house: House) -> None:
    house.ask(1)
    house.run()
    house.trays[1].fit(2 * IMAGE_BYTES)
    house.owner.take({"task": "tray", "tray": 1}, house.trays[1].descriptor)
    house.answers.clear()
    house.ask(1)
    house.run()
    assert house.answers == {1: 1.0}
