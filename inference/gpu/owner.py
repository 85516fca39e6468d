"""The one process that uses a device: it alone loads networks there, and asks them for all studies of the machine.

    python -m inference.gpu.owner CONNECTION_FD OPTIONS

    messages in -> batches.py -> the network, from residents.py -> start ──┐ two batches are under way: while one
                                             answers out <- outputs <──────┘ computes, the next one is copied

It ends when its parent closes the connection or dies, and when the device breaks. Messages are JSON:

    {"task": "tray", "tray": 3} and a descriptor     the tray's memory, from now on
    {"task": "load", "ticket": 7, "folder": …, "device_uid": …, "is_pinned": …}
    {"task": "infer", "ticket": 8, "folder": …, "device_uid": …, "is_pinned": …, "tray": 3, "turn": 1, "limit_s": 120.0}

    {"ready": title} or {"failed": why}              once, at the start
    {"done": [7, …], "outputs": [[name, shape], …]}  and, where there are outputs, these arrays as bytes, float32
    {"unfit": [7, …], "says": why}                   the device cannot serve this package
    {"full": [7], "says": why}                       more wait than may
    {"late": [7, …], "says": why}                    it waited for `limit_s` and was not begun
    {"no_room": [7, …], "says": why}                 it only watches, and its network finds no room that is free
    {"event": …, …}                                  for the log
"""

import fcntl
import json
import os
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from domain.errors import CollimatorError, Misconfigured
from inference.gpu.batches import Batches, Key, QueueFull, Turn, Waiting
from inference.gpu.device import open_device
from inference.gpu.errors import DeviceBroken, NoRoom, OutOfMemory, Unfit
from inference.gpu.networks import DeviceNetwork, Running, open_network
from inference.gpu.options import MOST_OUTPUT_BYTES, OwnerOptions
from inference.gpu.residents import Residents
from inference.gpu.trays import mapped
from inference.package import Package, load
from inference.preprocess import Float32

MAX_MESSAGE_BYTES = 64 * 1024
UNDER_WAY = 2  # as many as networks.py has memory for
POLL_S = 0.0003  # how long, at most, a message or the end of a batch is not noticed while one is under way
WAITING_IMAGES = 4096
USABLE_SHARE = 0.9  # of the device's free memory, where the settings name no budget
BROKEN = 3  # exit status


class Sends(Protocol):
    def __call__(self, message: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        """One message, and the arrays' bytes where there are any."""


class Pins(Protocol):
    """What a tray's memory is told to the device with."""

    def pin(self, memory: NDArray[Any]) -> None: ...

    def unpin(self, memory: NDArray[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Started:
    batch: list[Waiting]
    running: Running


class Owner:
    """The process without its connection: it is told messages, and when to take a turn."""

    def __init__(
        self,
        *,
        pins: Pins,
        batches: Batches,
        residents: Residents[tuple[DeviceNetwork, Package]],
        open_network: Callable[[Package, int], DeviceNetwork],
        send: Sends,
        clock: Callable[[], float],
    ) -> None:
        self._pins = pins
        self._batches = batches
        self._residents = residents
        self._open_network = open_network
        self._send = send
        self._clock = clock
        self._trays: dict[int, NDArray[np.uint8]] = {}
        self._pinned: set[Key] = set()
        self._under_way: deque[_Started] = deque()

    def take(self, message: Mapping[str, Any], descriptor: int = -1) -> None:
        """One message of the parent's."""
        if message.get("is_pinned"):
            self._pinned.add(_key(message))
        match message["task"]:
            case "tray":
                self._map(int(message["tray"]), descriptor)
            case "load":
                self._load_early(_key(message), int(message["ticket"]))
            case "infer":
                self._put(message)

    def wait_s(self) -> float | None:
        """How long until its next turn; None: until a message comes."""
        if not self._under_way:
            return 0.0 if len(self._batches) else None
        if self._under_way[0].running.is_done():
            return 0.0
        due_in_s = self._batches.due_in_s(self._clock())
        return POLL_S if due_in_s is None else min(POLL_S, due_in_s)

    def turn(self) -> None:
        """Start the batch that is due; answer the oldest if it is done, or wait for it where no more may be started."""
        now_s = self._clock()
        if late := self._batches.take_late(now_s):
            self._turn_down("late", late, "others kept the device busy for as long as an image may wait")
        batch = self._batches.take(now_s, is_idle=not self._under_way)
        if batch:
            self._start(batch)
        if len(self._under_way) == UNDER_WAY or (self._under_way and self._under_way[0].running.is_done()):
            self._finish()

    def _map(self, number: int, descriptor: int) -> None:
        if number in self._trays:
            self._pins.unpin(self._trays.pop(number))
        memory = mapped(descriptor)
        self._pins.pin(memory)
        self._trays[number] = memory

    def _put(self, message: Mapping[str, Any]) -> None:
        now_s = self._clock()
        one = Waiting(
            ticket=int(message["ticket"]),
            key=_key(message),
            tray=int(message["tray"]),
            turn=Turn(message["turn"]),
            arrived_s=now_s,
            late_s=now_s + float(message["limit_s"]),
        )
        try:
            self._batches.put(one)
        except QueueFull as error:
            self._turn_down("full", [one], str(error))

    def _start(self, batch: list[Waiting]) -> None:
        key = batch[0].key
        try:
            network, package = self._resident(key, may_evict=_may_evict(batch))
            if len(batch) > network.largest:
                self._batches.limit(key, network.largest)
                self._batches.put_back(batch[network.largest :])
                batch = batch[: network.largest]
            running = network.start([self._image(one, package) for one in batch])
        except OutOfMemory as error:
            self._find_room(batch, error)
        except NoRoom as error:
            self._turn_down("no_room", batch, str(error))
        except DeviceBroken:
            raise
        except Exception as error:  # whatever this package does, others are served
            self._turn_down("unfit", batch, _spoken(error))
        else:
            self._residents.begin(key)
            self._under_way.append(_Started(batch, running))

    def _finish(self) -> None:
        started = self._under_way.popleft()
        self._residents.end(started.batch[0].key)
        try:
            outputs = started.running.outputs()
        except OutOfMemory as error:
            self._find_room(started.batch, error)
            return
        except DeviceBroken:
            raise
        except Exception as error:
            self._turn_down("unfit", started.batch, _spoken(error))
            return
        names = sorted(outputs)
        arrays = [np.ascontiguousarray(outputs[name], np.float32) for name in names]
        of_one_bytes = max(1, sum(array[:1].nbytes for array in arrays))
        if of_one_bytes > MOST_OUTPUT_BYTES:
            says = f"it gives out {of_one_bytes >> 20} MB for an image; {MOST_OUTPUT_BYTES >> 20} MB are taken"
            self._turn_down("unfit", started.batch, says)
            return
        at_once = MOST_OUTPUT_BYTES // of_one_bytes
        for first in range(0, len(started.batch), at_once):
            part = slice(first, first + at_once)
            shapes = [[name, list(array[part].shape)] for name, array in zip(names, arrays, strict=True)]
            self._send(
                {"done": [one.ticket for one in started.batch[part]], "outputs": shapes},
                [array[part] for array in arrays],
            )

    def _find_room(self, batch: list[Waiting], error: OutOfMemory) -> None:
        """What only watches leaves; else half as many from now on; for one that does not fit alone, another leaves."""
        key, may_evict = batch[0].key, _may_evict(batch)
        with self._residents.at_work(key):
            if may_evict and self._residents.let_who_watches_go():
                pass  # and the batch is tried once more as it is
            elif len(batch) > 1:
                self._batches.limit(key, len(batch) // 2)
                self._tell("batch_halved", key, count=len(batch) // 2, reason=str(error))
            elif not may_evict:
                self._turn_down("no_room", batch, f"the device's memory is taken by other networks: {error}")
                return
            elif not self._residents.let_one_go():
                self._turn_down("unfit", batch, f"one image alone does not fit into the device's memory: {error}")
                return
        self._batches.put_back(batch)

    def _resident(self, key: Key, *, may_evict: bool = True) -> tuple[DeviceNetwork, Package]:
        if key not in self._residents:
            # What is measured, and what may leave, is clear only while nothing is at work.
            while self._under_way:
                self._finish()
        is_pinned = key in self._pinned
        return self._residents.get(key, lambda: self._opened(key), is_pinned=is_pinned, may_evict=may_evict)

    def _opened(self, key: Key) -> tuple[DeviceNetwork, Package]:
        folder, device_uid = key
        began_s = self._clock()
        try:
            package = load(Path(folder))
        except CollimatorError as error:
            raise Unfit(error.message) from error
        if package.device_uid != device_uid:
            raise Unfit(f"the package {package.name} was installed anew a moment ago")
        for other in [other for other in self._residents.costs if other[0] == folder]:
            self._residents.unpin(other)  # an earlier package of this folder: nobody asks it any more
        network = self._open_network(package, self._batches.largest(key))
        self._tell("network_loaded", key, count=network.largest, seconds=round(self._clock() - began_s, 2))
        return network, package

    def _load_early(self, key: Key, ticket: int) -> None:
        try:
            self._resident(key)
        except DeviceBroken:
            raise
        except Exception as error:
            self._send({"unfit": [ticket], "says": _spoken(error)})
        else:
            self._send({"done": [ticket], "outputs": []})

    def _image(self, one: Waiting, package: Package) -> Float32:
        """(channels, S, S), as it lies in its tray."""
        shape = package.manifest.preprocessing.input_shape
        return self._trays[one.tray][: 4 * prod(shape)].view(np.float32).reshape(shape)

    def _turn_down(self, how: str, batch: Sequence[Waiting], says: str) -> None:
        """`how`: "unfit", "full", "late" or "no_room"."""
        self._send({how: [one.ticket for one in batch], "says": says})

    def _tell(self, event: str, key: Key, **values: object) -> None:
        self._send({"event": event, "package": Path(key[0]).name, **values})


def main() -> int:
    connection: Connection[bytes, bytes] = Connection(int(sys.argv[1]))
    options = OwnerOptions(**json.loads(sys.argv[2]))
    send = _sender(connection)
    threading.Thread(target=_end_with_parent, args=[connection.fileno()], daemon=True).start()
    try:
        lock = _lock(options)
        device = open_device(options.device)
    except (Misconfigured, OutOfMemory, DeviceBroken) as error:
        send({"failed": str(error)})
        return BROKEN
    owner = Owner(
        pins=device,
        batches=Batches(largest=options.largest_batch, wait_s=options.batch_wait_s, capacity=WAITING_IMAGES),
        residents=Residents(
            budget_bytes=options.memory_mb << 20 or int(device.free_bytes() * USABLE_SHARE),
            in_use=device.in_use_bytes,
            release=device.release,
        ),
        open_network=lambda package, largest: open_network(package, device, largest=largest),
        send=send,
        clock=time.monotonic,
    )
    send({"ready": device.title})
    try:
        serve(connection, owner)
    except DeviceBroken as error:
        send({"event": "device_broken", "reason": str(error)})
        return BROKEN
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        lock.close()
    return 0


def _end_with_parent(descriptor: int) -> None:
    """At once, also amid a load or a batch that takes long: the parent's successor wants the device and its lock."""
    ended = select.poll()
    ended.register(descriptor, 0)  # that the other end is closed is told without being asked for: poll(2), POLLHUP
    ended.poll()
    os._exit(0)


def _lock(options: OwnerOptions) -> IO[bytes]:
    """Held until the process ends, however it does.

    Raises:
        Misconfigured: another process holds it.
    """
    if not options.lock_dir:
        return BytesIO()
    folder = Path(options.lock_dir)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{options.device.replace(':', '-')}.lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Misconfigured(f"another process of this machine owns {options.device}") from None
    return file


def serve(connection: "Connection[bytes, bytes]", owner: Owner) -> None:
    """Until the parent closes the connection."""
    while True:
        wait_s = owner.wait_s()
        if wait_s:
            time.sleep(wait_s)  # poll() rounds up to whole milliseconds, and many a batch takes no longer
        while connection.poll(None if wait_s is None else 0.0):
            message = json.loads(connection.recv_bytes(MAX_MESSAGE_BYTES))
            descriptor = recv_handle(connection) if message["task"] == "tray" else -1
            try:
                owner.take(message, descriptor)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            wait_s = 0.0
        owner.turn()


def _sender(connection: "Connection[bytes, bytes]") -> Sends:
    def send(message: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        connection.send_bytes(json.dumps(message).encode())
        if arrays:
            connection.send_bytes(b"".join(array.tobytes() for array in arrays))

    return send


def _may_evict(batch: Sequence[Waiting]) -> bool:
    """A version that only watches takes room that is free; what answers is never sent away for it."""
    return any(one.turn is not Turn.SHADOW for one in batch)


def _key(message: Mapping[str, Any]) -> Key:
    return str(message["folder"]), str(message["device_uid"])


def _spoken(error: Exception) -> str:
    """What is not one of ours is a bug, of this code or of the package's: its traceback goes to stderr."""
    if isinstance(error, Unfit):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"[:300]


if __name__ == "__main__":
    sys.exit(main())
