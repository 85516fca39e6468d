"""The node's devices, as the analyst asks them: an owner process for each, and what is done when one fails.

    ask ─> the device with the least to do ─> its owner ─> outputs
             none can serve this package ────────────────> NoDevice: the CPU does it
             others kept it waiting for the time limit ──> NoDevice
             its owner died ─> once more, with a new one ─> NoDevice
             it died twice without an answer between, or did not start: the device rests for `REST_S`;
             so does a package that the device cannot serve, and for those that only watch one that finds no room

An image lies in its tray until it is answered, so nothing is lost with an owner. One that has work, and from which
nothing comes for the time limit, is ended; one that answers others meanwhile is well, however long an image waits.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from math import inf, prod
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from inference.bare_environment import bare_environment
from inference.gpu.batches import Turn
from inference.gpu.options import MOST_OUTPUT_BYTES, OwnerOptions
from inference.gpu.trays import Tray
from inference.package import Package

log = structlog.get_logger()

START_LIMIT_S = 180.0  # importing torch with CUDA takes a while
CLOSES_WITHIN_S = 2.0
REST_S = 300.0
TRIES = 2
DEATHS = 2
MAX_MESSAGE_BYTES = 1 << 20
EVENTS = frozenset({"network_loaded", "batch_halved", "device_broken"})
Outputs = Mapping[str, NDArray[np.float32]]  # of one image: name -> (1, ...)


class NoDevice(Exception):
    """No device serves this image; the message says why."""


class Unserved(NoDevice):
    """This device cannot serve the package."""


class NoRoomToWatch(NoDevice):
    """This device has no free room for a version that only watches."""


class Late(NoDevice):
    """This device did not come to the image in time."""


class OwnerDied(Exception):
    """It ended, or nothing came from it in time."""


TURNED_DOWN: Mapping[str, type[NoDevice]] = {
    "unfit": Unserved,
    "full": NoDevice,
    "late": Late,
    "no_room": NoRoomToWatch,
}  # as owner.py says it


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    outputs: Outputs
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReport:
    """
    title: as its maker calls the device. why_not: why it cannot be used; empty: it can.
    unserved: packages that it cannot serve, and why.
    """

    device: str
    title: str
    why_not: str
    unserved: Mapping[str, str]


class Devices:
    """Safe to call from several threads.

    Args:
        options: for each device; the name in it is replaced.
        pinned: names of packages that stay loaded.
        time_limit_s: for a batch, and for the loading of its network; and before that, for an image to wait its turn.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        options: OwnerOptions,
        pinned: frozenset[str] = frozenset(),
        time_limit_s: float,
        clock: Callable[[], float] = time.monotonic,
        start_owner: "Callable[[OwnerOptions], OwnerProcess] | None" = None,
    ) -> None:
        self._pinned = pinned
        self._time_limit_s = time_limit_s
        start = start_owner or OwnerProcess
        self._devices = [_Device(replace(options, device=name), clock=clock, start_owner=start) for name in names]

    @property
    def names(self) -> str:
        return ", ".join(device.name for device in self._devices)

    @property
    def in_flight(self) -> int:
        """Images that wait for an answer."""
        return sum(device.in_flight for device in self._devices)

    def start(self, packages: Sequence[Package]) -> list["DeviceReport"]:
        """Start the owners and have them load these packages, before the first image comes; what became of it."""
        return [device.start(packages, self._request, self._time_limit_s) for device in self._devices]

    def serves(self, package: Package, turn: Turn = Turn.ORDINARY) -> bool:
        """Whether it is worth to ask."""
        return self._best(package, turn) is not None

    def ask(self, package: Package, tray: Tray, *, turn: Turn) -> Served:
        """The network's outputs for the image in the tray, which stays as it is meanwhile.

        Raises:
            NoDevice: the CPU has to do it.
        """
        why = "no device can serve it"
        for _ in range(TRIES):
            device = self._best(package, turn)
            if device is None:
                break
            try:
                request = {"task": "infer", "turn": turn, **self._request(package, turn)}
                return device.ask(request, self._time_limit_s, tray)
            except Late:  # another device would have the study wait as long again
                raise
            except (NoDevice, OwnerDied) as error:
                why = str(error)
        raise NoDevice(why)

    def close(self) -> None:
        """End the owners. The devices may be used again."""
        for device in self._devices:
            device.close()

    def _request(self, package: Package, turn: Turn = Turn.ORDINARY) -> dict[str, Any]:
        """What names a package to an owner. One that only watches is not pinned with the others of its name."""
        return {
            "folder": str(package.folder),
            "device_uid": package.device_uid,
            "is_pinned": package.name in self._pinned and turn is not Turn.SHADOW,
        }

    def _best(self, package: Package, turn: Turn) -> "_Device | None":
        able = [device for device in self._devices if device.can_serve(package.device_uid, turn)]
        return min(able, key=lambda device: device.in_flight, default=None)


class _Device:
    """One device: its owner, and whether it may be asked."""

    def __init__(
        self,
        options: OwnerOptions,
        *,
        clock: Callable[[], float],
        start_owner: "Callable[[OwnerOptions], OwnerProcess]",
    ) -> None:
        self._options = options
        self._clock = clock
        self._start_owner = start_owner
        self._owner: OwnerProcess | None = None
        self._starting = threading.Lock()
        self._deaths = 0
        self._rests_until_s = -inf
        self._unfit_until_s: dict[str, float] = {}  # by Device UID of the package
        self._roomless_until_s: dict[str, float] = {}  # the same, for those that only watch

    @property
    def in_flight(self) -> int:
        return 0 if self._owner is None else self._owner.in_flight

    def can_serve(self, device_uid: str, turn: Turn) -> bool:
        roomless_until_s = self._roomless_until_s.get(device_uid, -inf) if turn is Turn.SHADOW else -inf
        rests_until_s = max(self._rests_until_s, self._unfit_until_s.get(device_uid, -inf), roomless_until_s)
        return self._clock() >= rests_until_s

    @property
    def name(self) -> str:
        return self._options.device

    def start(
        self, packages: Sequence[Package], request: Callable[[Package], dict[str, Any]], time_limit_s: float
    ) -> "DeviceReport":
        unserved: dict[str, str] = {}
        try:
            title = self._running_owner().title
            for package in packages:
                try:
                    self.ask({"task": "load", **request(package)}, time_limit_s)
                except Unserved as error:
                    unserved[package.name] = str(error)
        except (NoDevice, OwnerDied) as error:
            return DeviceReport(device=self.name, title="", why_not=str(error), unserved=unserved)
        return DeviceReport(device=self.name, title=title, why_not="", unserved=unserved)

    def ask(self, request: Mapping[str, Any], time_limit_s: float, tray: Tray | None = None) -> Served:
        owner = self._running_owner()
        try:
            outputs = owner.ask(request, time_limit_s, tray)
        except Unserved as error:
            self._unfit_until_s[str(request["device_uid"])] = self._clock() + REST_S
            log.warning("package_not_on_device", device=self.name, reason=str(error))
            raise
        except NoRoomToWatch:
            self._roomless_until_s[str(request["device_uid"])] = self._clock() + REST_S
            raise
        except OwnerDied as error:
            self._count_death(owner, str(error))
            raise
        self._deaths = 0
        return Served(outputs=outputs, device=self.name)

    def _running_owner(self) -> "OwnerProcess":
        """The owner, started where there is none.

        Raises:
            NoDevice: the device cannot be used.
        """
        with self._starting:
            if self._owner is None:
                try:
                    self._owner = self._start_owner(self._options)
                except (OwnerDied, NoDevice) as error:
                    self._rest(str(error))
                    raise NoDevice(str(error)) from error
                log.info("device_ready", device=self.name, reason=self._owner.title)
            return self._owner

    def close(self) -> None:
        """An owner that just starts is not waited for: it ends with this process."""
        if not self._starting.acquire(timeout=CLOSES_WITHIN_S):
            return
        try:
            if self._owner is not None:
                self._owner.end("it was closed")
            self._owner, self._deaths = None, 0
        finally:
            self._starting.release()

    def _count_death(self, owner: "OwnerProcess", why: str) -> None:
        """Once for each owner, however many waited for it."""
        with self._starting:
            if self._owner is not owner:
                return
            owner.end(why)
            self._owner = None
            self._deaths += 1
            log.error("device_owner_died", device=self.name, reason=why)
            if self._deaths >= DEATHS:
                self._rest(why)

    def _rest(self, why: str) -> None:
        self._deaths = 0
        self._rests_until_s = self._clock() + REST_S
        log.error("device_failed", device=self.name, reason=why, delay_s=REST_S)


class OwnerProcess:
    """The process, and who waits for it.

    Raises:
        OwnerDied: it did not start.
        NoDevice: it started, and the device cannot be used.
    """

    def __init__(self, options: OwnerOptions) -> None:
        if find_spec("torch") is None:  # which also tells an ONNX network's memory to the device
            raise NoDevice("a device needs torch, which is not installed: see the README, Models")
        self._device = options.device
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[Outputs]] = {}
        self._trays: dict[int, int] = {}  # number -> the generation that it knows
        self._tickets = count(1)
        self._why_dead = ""
        self._heard_at_s = 0.0  # when the last message came, or work to one that had none
        self._connection: Connection[bytes, bytes]
        self._connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "inference.gpu.owner", str(theirs.fileno()), options.as_json()]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=bare_environment() | _drivers_environment(),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.title = self._hello()
        threading.Thread(target=self._listen, name=f"listen-{options.device}", daemon=True).start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def ask(self, request: Mapping[str, Any], time_limit_s: float, tray: Tray | None = None) -> Outputs:
        """
        Args:
            time_limit_s: for the image to wait its turn, which the owner keeps; then for whatever is under way there.

        Raises:
            NoDevice: this device does not serve the package, or not now.
            OwnerDied
        """
        answer: Future[Outputs] = Future()
        ticket = next(self._tickets)
        if not self._waiting:
            self._heard_at_s = time.monotonic()
        self._waiting[ticket] = answer
        try:
            if self._why_dead:
                raise OwnerDied(self._why_dead)
            self._send({**request, "ticket": ticket, "limit_s": time_limit_s}, tray)
            while (left_s := self._heard_at_s + time_limit_s - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    return answer.result(left_s)
            raise OwnerDied(f"nothing came from it for {time_limit_s:g} s")
        finally:
            self._waiting.pop(ticket, None)

    def _send(self, message: dict[str, Any], tray: Tray | None) -> None:
        """The message, and before it the tray's memory where the owner does not know it."""
        try:
            with self._sending:
                if tray is not None:
                    message["tray"] = tray.number
                    if self._trays.get(tray.number) != tray.generation:
                        self._connection.send_bytes(json.dumps({"task": "tray", "tray": tray.number}).encode())
                        send_handle(self._connection, tray.descriptor, self._process.pid)
                        self._trays[tray.number] = tray.generation
                self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise OwnerDied(self._why_dead or f"it does not listen: {error}") from error

    def end(self, why: str) -> None:
        self._process.kill()
        self._process.wait()
        self._fail_all(why)

    def _hello(self) -> str:
        try:
            if not self._connection.poll(START_LIMIT_S):
                raise TimeoutError(f"it did not start within {START_LIMIT_S:g} s")
            message = json.loads(self._connection.recv_bytes(MAX_MESSAGE_BYTES))
        except (OSError, EOFError, ValueError) as error:
            self._process.kill()
            status = self._process.wait()
            raise OwnerDied(f"the device's process did not start (exit status {status}): {error}") from error
        if "ready" not in message:
            self._process.wait()
            raise NoDevice(str(message.get("failed", "the device's process did not start")))
        return str(message["ready"])

    def _listen(self) -> None:
        """Hand out what comes, until the connection ends."""
        try:
            while True:
                message = json.loads(self._connection.recv_bytes(MAX_MESSAGE_BYTES))
                self._heard_at_s = time.monotonic()
                self._hand_out(message)
        except (OSError, EOFError, ValueError) as error:
            self._fail_all(self._why_dead or f"the device's process died: {error or 'it closed its connection'}")
            self._connection.close()

    def _hand_out(self, message: Mapping[str, Any]) -> None:
        if "done" in message:
            content = self._connection.recv_bytes(MOST_OUTPUT_BYTES) if message["outputs"] else b""
            tickets = message["done"]
            for ticket, outputs in zip(tickets, _split(message["outputs"], content, len(tickets)), strict=True):
                if answer := self._waiting.pop(ticket, None):
                    answer.set_result(outputs)
        elif turned_down := TURNED_DOWN.keys() & message.keys():
            (how,) = turned_down
            self._fail(message[how], TURNED_DOWN[how](str(message["says"])))
        elif message.get("event") in EVENTS:
            known = {key: message[key] for key in ("package", "count", "reason", "seconds") if key in message}
            log.info(message["event"], device=self._device, **known)

    def _fail_all(self, why: str) -> None:
        self._why_dead = self._why_dead or why
        self._fail(list(self._waiting), OwnerDied(self._why_dead))

    def _fail(self, tickets: Iterable[int], error: Exception) -> None:
        """Who takes a ticket out of those that wait settles it: two threads may want to."""
        for ticket in tickets:
            if answer := self._waiting.pop(ticket, None):
                answer.set_exception(error)


def _drivers_environment() -> dict[str, str]:
    """What tells the driver which GPUs this process may see."""
    return {key: value for key, value in os.environ.items() if key.startswith(("CUDA_", "NVIDIA_"))}


def _split(shapes: Sequence[tuple[str, Sequence[int]]], content: bytes, images: int) -> list[Outputs]:
    """Each image's outputs, (1, …) by name."""
    given: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(images)]
    start = 0
    for name, shape in shapes:
        array = np.frombuffer(content, np.float32, prod(shape), start).reshape(shape)
        start += array.nbytes
        for place, one in enumerate(given):
            one[name] = array[place : place + 1]
    return list(given)
