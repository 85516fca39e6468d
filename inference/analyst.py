"""The door to this room: analyses images and shows them, in one limited child process.

    analyse -> gates, by the manifest (here) -> decode, infer (child) -> findings (here)

The caller's process imports neither codecs nor a runtime, and a decoder that crashes, hangs or eats memory takes
only the child with it: the next request starts another. The child gets each image as an open descriptor, so that it
needs no key to what is encrypted at rest.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

import structlog

from domain.errors import Misconfigured, Refuse, Retry
from domain.findings import Analysis, DisplayImage, ImageAnalysis
from domain.states import Reason
from domain.study import Instance
from inference.analysis import image_analysis
from inference.answer import Answer
from inference.bare_environment import bare_environment
from inference.gates import AGE_GATE, accepts
from inference.package import Package
from inference.registry import Registry

log = structlog.get_logger()

START_LIMIT_S = 60.0
MAX_REPLY_BYTES = 4 << 20
MAX_PIXEL_BYTES = 64 << 20
# From an instance's path to a descriptor of its plain text, open as long as the context is.
LendFile = Callable[[str], AbstractContextManager[int]]
ERROR_KEYS = frozenset({"refused", "misconfigured", "changed", "bug"})


@contextmanager
def lend_plain_file(path: str) -> Iterator[int]:
    """For files that lie on the disk as they are."""
    with open(path, "rb") as file:
        yield file.fileno()


class Analyst:
    """Safe to call from several threads; requests take turns.

    Args:
        installed_dir: where pulled and added packages lie.
        memory_limit_bytes: address space of the child. A 20-megapixel image needs about 1 GiB.
        time_limit_s: for one image, from request to answer.
        lend_file: opens an instance's file.
    """

    def __init__(
        self,
        *,
        installed_dir: Path,
        memory_limit_bytes: int,
        time_limit_s: float,
        lend_file: LendFile = lend_plain_file,
    ) -> None:
        self._registry = Registry(installed_dir)
        self._limits = (str(memory_limit_bytes), str(time_limit_s))
        self._time_limit_s = time_limit_s
        self._lend_file = lend_file
        self._child: _Child | None = None
        self._turn = threading.Lock()

    def analyse(self, package_name: str, instances: Sequence[Instance], *, is_demonstration: bool = False) -> Analysis:
        """Run one package on those of the images that pass its gates.

        Args:
            is_demonstration: skip the age gate, and say so in the result.

        Raises:
            Refuse: no image passes the gates (outside_population), or none can be decoded (the first one's reason).
            Misconfigured: the package is unknown, not configured, or not what its manifest says.
            Retry: the child died or took too long; whether the image is to blame shows when it does so again.
        """
        package = self._registry.get(package_name)
        if not package.is_configured:
            raise Misconfigured(f"{package_name} is not configured", hint=package.why_not)
        accepted = _accepted(package, instances, is_demonstration=is_demonstration)
        images: list[ImageAnalysis] = []
        refusals: list[Refuse] = []
        for instance in accepted:
            try:
                answer = self._answer(package, instance.path)
                images.append(image_analysis(package.manifest, instance.sop_instance_uid, answer))
            except Refuse as refusal:
                refusals.append(refusal)
        if not images:
            raise refusals[0]
        model = package.identity(is_demonstration=is_demonstration)
        unread = tuple(f"An image was not analysed: {refusal.message}." for refusal in refusals)
        return Analysis(model=replace(model, limits=(*model.limits, *unread)), images=tuple(images))

    def display(self, path: str, *, longest_side_px: int = 1536) -> DisplayImage:
        """The image as a viewer would show it, at most `longest_side_px` rows and columns.

        Raises:
            Refuse: it cannot be decoded.
            Retry: the child died or took too long.
        """
        request = {"task": "display", "longest_side_px": longest_side_px}
        reply, pixels = self._ask(request, path, has_attachment=True)
        return DisplayImage(pixels=pixels, **{key: int(value) for key, value in reply.items()})

    def close(self) -> None:
        """End the child. The analyst may be used again: it starts another."""
        with self._turn:
            self._end_child()

    def _answer(self, package: Package, path: str) -> Answer:
        request = {"task": "analyse", "folder": str(package.folder), "device_uid": package.device_uid}
        reply = self._ask(request, path)[0]
        took_s = {name: round(float(reply[name]), 4) for name in ("decode_s", "infer_s")}
        log.info("image_analysed", package=package.name, **took_s)
        return Answer.from_json(reply)

    def _ask(self, request: dict[str, Any], path: str, *, has_attachment: bool = False) -> tuple[dict[str, Any], bytes]:
        """One request about one image, and its reply; whatever goes wrong with the child ends it."""
        with self._image(path) as (descriptor, version), self._turn:
            request["image"] = version
            if self._child is None or not self._child.is_alive:
                self._end_child()
                self._child = _Child(self._limits)
            try:
                reply = self._child.ask(request, descriptor, time_limit_s=self._time_limit_s)
                attachment = b""
                if has_attachment and not reply.keys() & ERROR_KEYS:
                    attachment = self._child.receive(MAX_PIXEL_BYTES, self._time_limit_s)
            except TimeoutError:
                self._end_child()
                raise Retry(f"the analysis process took longer than {self._time_limit_s:g} s") from None
            except (OSError, EOFError, ValueError) as error:
                self._end_child()
                raise Retry("the analysis process died", hint="It may have needed more memory than allowed.") from error
        _raise_errors(reply)
        return reply, attachment

    @contextmanager
    def _image(self, path: str) -> Iterator[tuple[int, str]]:
        """The image's descriptor, and a name that changes with its content."""
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self._lend_file(path))
            except OSError as error:
                raise Refuse(f"the file cannot be read: {error.strerror}", reason=Reason.UNREADABLE_PIXELS) from error
            yield descriptor, _version(path)

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """The process and the connection to it."""

    def __init__(self, limits: tuple[str, str]) -> None:
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
        self.receive(MAX_REPLY_BYTES, START_LIMIT_S)

    @property
    def is_alive(self) -> bool:
        # Nothing is to be read between requests but the end of the connection.
        return self._process.poll() is None and not self._connection.poll(0)

    def ask(self, request: dict[str, Any], descriptor: int, *, time_limit_s: float) -> dict[str, Any]:
        self._connection.send_bytes(json.dumps(request).encode())
        send_handle(self._connection, descriptor, self._process.pid)
        reply = json.loads(self.receive(MAX_REPLY_BYTES, time_limit_s))
        if not isinstance(reply, dict):
            raise ValueError("the child sent something else than a JSON object")
        return reply

    def receive(self, max_bytes: int, time_limit_s: float) -> bytes:
        if not self._connection.poll(time_limit_s):
            raise TimeoutError
        return self._connection.recv_bytes(max_bytes)

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _version(path: str) -> str:
    """A name that changes with the file's content; one that was lent from elsewhere never changes."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return path
    return f"{path} {state.st_mtime_ns} {state.st_size}"


def _accepted(package: Package, instances: Sequence[Instance], *, is_demonstration: bool) -> list[Instance]:
    """The instances that pass the gates, in their order."""
    accepted: list[Instance] = []
    refused: list[str] = []
    for instance in instances:
        clauses = accepts(package.manifest, instance.facts, sop_class_uid=instance.sop_class_uid)
        failed = [c for c in clauses if not c.passed and not (is_demonstration and c.name == AGE_GATE)]
        if failed:
            refused += [f"{c.name}: {c.seen or 'unknown'} where {c.expected} is accepted" for c in failed]
        else:
            accepted.append(instance)
    if not accepted:
        reasons = "; ".join(dict.fromkeys(refused)) or "the study has none"
        raise Refuse(f"{package.name} accepts none of the images: {reasons}", reason=Reason.OUTSIDE_POPULATION)
    return accepted


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
