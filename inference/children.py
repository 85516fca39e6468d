"""The limited child processes that decode, and where no device serves, infer: as many as may work at once.

    ask        a request about an image -> a free child -> its reply
    prepared   the same; the child leaves the network's input in a tray of its own (gpu/trays.py)
    check      a package that is to be installed, without an image

A decoder that crashes, hangs or eats memory takes only its child with it: the next request starts another. A child gets
each image as an open descriptor, so that it needs no key to what is encrypted at rest.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

from domain.errors import Misconfigured, Refuse, Retry
from domain.states import Reason
from inference.bare_environment import bare_environment
from inference.gpu.trays import Tray

NICENESS = 10  # below the receiver
LEAST_NICENESS = 19  # below the children of all other analysts: the kernel gives them seven times as much
START_LIMIT_S = 60.0
NOT_STARTED = "The machine may have too little memory, or too much to do."
TOO_LARGE = "It may have needed more memory than allowed."
MAX_REPLY_BYTES = 4 << 20
MAX_PIXEL_BYTES = 64 << 20
TRAYS = 4  # of a child: it goes on with the next image while these wait for the device
REMEMBERED_IMAGES = 8  # as many as a child keeps decoded, if they are not too large
ERROR_KEYS = frozenset({"refused", "misconfigured", "changed", "bug"})
# From an instance's path to a descriptor of its plain text, open as long as the context is.
LendFile = Callable[[str], AbstractContextManager[int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Of one child, as [inference] says where nobody changed it: address space, and time for one image."""

    memory_limit_bytes: int = 4 << 30
    time_limit_s: float = 120.0


LIMITS = Limits()


@contextmanager
def lend_plain_file(path: str) -> Iterator[int]:
    """For files that lie on the disk as they are."""
    with open(path, "rb") as file:
        yield file.fileno()


class Children:
    """Safe to call from several threads; those for whom no child is free wait.

    Args:
        processes: at most; each is started when it is needed first.
        memory_limit_bytes: address space of a child. A 20-megapixel image needs about 1 GiB.
        time_limit_s: for one image, from request to answer.
        lend_file: opens an instance's file.
        niceness: of the children. first_tray: from there on their trays are numbered.
    """

    def __init__(
        self,
        *,
        processes: int,
        memory_limit_bytes: int,
        time_limit_s: float,
        lend_file: LendFile = lend_plain_file,
        niceness: int = NICENESS,
        first_tray: int = 0,
    ) -> None:
        self._lend_file = lend_file
        limits = (str(memory_limit_bytes), str(time_limit_s), str(niceness))
        self._places = [_Place(first_tray + number * TRAYS, limits, time_limit_s) for number in range(processes)]
        self._free = list(self._places)
        self._changed = threading.Condition()
        self._urgent = 0  # who waits for a place and is urgent

    def ask(
        self, request: dict[str, Any], path: str, *, has_attachment: bool = False, is_urgent: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        """One request about one image, and its reply.

        Args:
            is_urgent: before all others that wait for a child.

        Raises:
            Refuse, Misconfigured: the child says so.
            Retry: the child died or took too long; whether the image is to blame shows when it does so again.
        """
        with self._image(path) as (descriptor, version), self._place(path, is_urgent=is_urgent) as place:
            return place.ask({**request, "image": version}, descriptor, has_attachment=has_attachment)

    @contextmanager
    def prepared(
        self, request: dict[str, Any], path: str, *, size_bytes: int, is_urgent: bool = False
    ) -> Iterator[tuple[dict[str, Any], Tray]]:
        """The reply, and a tray with so many bytes that the child has written. The child is free meanwhile.

        Raises:
            as `ask`.
        """
        with ExitStack() as stack:
            with self._image(path) as (descriptor, version), self._place(path, is_urgent=is_urgent) as place:
                tray = stack.enter_context(place.tray(size_bytes))
                reply, _ = place.ask({**request, "image": version}, descriptor, tray.descriptor)
            yield reply, tray

    def check(self, folder: str, device_uid: str, *, is_for_device: bool) -> None:
        """Check a package that serves nobody yet.

        Raises:
            as `ask`.
        """
        request = {"task": "check", "folder": folder, "device_uid": device_uid, "is_for_device": is_for_device}
        with self._place("") as place:
            place.ask(request)

    def close(self) -> None:
        """End the children, also one that is at work: who waits for it gets a Retry. They may be used again."""
        with self._changed:
            for place in self._places:
                if place in self._free:
                    place.close()
                else:
                    place.kill()

    @contextmanager
    def _place(self, path: str, *, is_urgent: bool = False) -> Iterator["_Place"]:
        """A free place: the one that has decoded this image a moment ago, or else the one that worked last."""
        with self._changed:
            self._urgent += is_urgent
            while not self._free or (self._urgent and not is_urgent):
                self._changed.wait()
            self._urgent -= is_urgent
            self._changed.notify_all()
            place = next((place for place in self._free if path in place.paths), self._free[-1])
            self._free.remove(place)
        try:
            place.paths.append(path)
            yield place
        finally:
            with self._changed:
                self._free.append(place)
                self._changed.notify_all()

    @contextmanager
    def _image(self, path: str) -> Iterator[tuple[int, str]]:
        """The image's descriptor, and a name that changes with its content."""
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self._lend_file(path))
            except OSError as error:
                raise Refuse(f"the file cannot be read: {error.strerror}", reason=Reason.UNREADABLE_PIXELS) from error
            yield descriptor, _version(path)


class _Place:
    """Where one child after the other works, and its trays."""

    def __init__(self, first_tray: int, limits: tuple[str, str, str], time_limit_s: float) -> None:
        self.paths: deque[str] = deque(maxlen=REMEMBERED_IMAGES)
        self._limits = limits
        self._time_limit_s = time_limit_s
        self._child: _Child | None = None
        self._trays = [Tray(first_tray + one) for one in range(TRAYS)]
        self._trays_left = threading.Semaphore(TRAYS)

    def ask(
        self, request: dict[str, Any], *descriptors: int, has_attachment: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        """Whatever goes wrong with the child ends it."""
        try:
            child, reply = self._reply(request, descriptors)
            attachment = b""
            if has_attachment and not reply.keys() & ERROR_KEYS:
                attachment = child.receive(MAX_PIXEL_BYTES, self._time_limit_s)
        except TimeoutError:
            self.end()
            raise Retry(f"the analysis process took longer than {self._time_limit_s:g} s") from None
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise Retry("the analysis process died", hint=TOO_LARGE) from error
        _raise_errors(reply)
        return reply, attachment

    def _reply(self, request: dict[str, Any], descriptors: Sequence[int]) -> tuple["_Child", dict[str, Any]]:
        """By which child, and its reply. What found no memory beside all that the child has kept, another is asked."""
        child, is_new = self._child, False
        if child is None or not child.is_alive:
            self.end()
            child, is_new = _Child(self._limits), True
            self._child = child
        reply = child.ask(request, descriptors, time_limit_s=self._time_limit_s)
        if "exhausted" not in reply:
            return child, reply
        self.end()
        if is_new:
            raise Retry("the analysis process died: it needs more memory than it may have", hint=TOO_LARGE)
        return self._reply(request, descriptors)

    @contextmanager
    def tray(self, size_bytes: int) -> Iterator[Tray]:
        """One that nobody uses; it waits for one."""
        self._trays_left.acquire()
        tray = self._trays.pop()
        try:
            tray.fit(size_bytes)
            yield tray
        finally:
            self._trays.append(tray)
            self._trays_left.release()

    def close(self) -> None:
        self.end()
        for tray in self._trays:
            tray.close()

    def kill(self) -> None:
        """For another thread than the one that asks, and that notices it."""
        if (child := self._child) is not None:
            child.kill()

    def end(self) -> None:
        self.paths.clear()
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """The process and the connection to it.

    Raises:
        Retry: it does not start.
    """

    def __init__(self, limits: tuple[str, str, str]) -> None:
        self._connection: Connection[bytes, bytes]
        self._connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "inference.child", str(theirs.fileno()), *limits]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=bare_environment(),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            self.receive(MAX_REPLY_BYTES, START_LIMIT_S)
        except TimeoutError:
            self.end()
            raise Retry(f"the analysis process did not start within {START_LIMIT_S:g} s", hint=NOT_STARTED) from None
        except (OSError, EOFError) as error:
            self.end()
            raise Retry("the analysis process died while it started", hint=NOT_STARTED) from error

    @property
    def is_alive(self) -> bool:
        # Nothing is to be read between requests but the end of the connection.
        return self._process.poll() is None and not self._connection.poll(0)

    def ask(self, request: dict[str, Any], descriptors: Sequence[int], *, time_limit_s: float) -> dict[str, Any]:
        self._connection.send_bytes(json.dumps(request).encode())
        for descriptor in descriptors:
            send_handle(self._connection, descriptor, self._process.pid)
        reply = json.loads(self.receive(MAX_REPLY_BYTES, time_limit_s))
        if not isinstance(reply, dict):
            raise ValueError("the child sent something else than a JSON object")
        return reply

    def receive(self, max_bytes: int, time_limit_s: float) -> bytes:
        """One whole message.

        Raises:
            TimeoutError: nothing came within the limit, or the rest not within as much again: the child is killed.
        """
        if not self._connection.poll(time_limit_s):
            raise TimeoutError
        # For the rest of a message that has begun, a connection waits as long as the other side lives.
        began_at = time.monotonic()
        watch = threading.Timer(time_limit_s, self.kill)
        watch.start()
        try:
            return self._connection.recv_bytes(max_bytes)
        except (EOFError, OSError):
            if time.monotonic() - began_at >= time_limit_s:
                raise TimeoutError from None
            raise
        finally:
            watch.cancel()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._connection.close()
        self.kill()
        self._process.wait()


def _version(path: str) -> str:
    """A name that changes with the file's content; one that was lent from elsewhere never changes."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return path
    return f"{path} {state.st_mtime_ns} {state.st_size}"


def _raise_errors(reply: dict[str, Any]) -> None:
    if "refused" in reply:
        error = reply["refused"]
        raise Refuse(str(error["message"]), reason=str(error["reason"]), hint=str(error["hint"]))
    if "misconfigured" in reply:
        error = reply["misconfigured"]
        raise Misconfigured(str(error["message"]), hint=str(error["hint"]))
    if "changed" in reply:
        raise Retry(str(reply["changed"]))
    if "bug" in reply:
        raise RuntimeError(f"in the analysis process: {reply['bug']}")
