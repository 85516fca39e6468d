"""The senders: the raw one, which shows the receiver, and DCMTK's storescu, which shows what a user would see."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol

from benchmarks.ingest.raw_sender import LOOPBACK, Job
from benchmarks.ingest.receivers import CALLED_AE_TITLE, CALLING_AE_TITLE, ENVIRONMENT
from benchmarks.ingest.wire import Item

SENT_WITHIN_S = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """begun_s and ended_s: the first byte and the last answer, by the monotonic clock. `cpu_s`: of all senders."""

    begun_s: float
    ended_s: float
    cpu_s: float
    latencies_s: tuple[float, ...] = ()


class NotSent(Exception):
    """A sender was refused, cut, or answered anything but 0x0000."""


class Send(Protocol):
    """`answered` is called with the time of the last answer, while the associations are still there."""

    def __call__(
        self, port: int, shares: Sequence[tuple[Item, ...]], *, is_plain: bool, answered: Callable[[float], None]
    ) -> Sent: ...


def send_raw(
    port: int, shares: Sequence[tuple[Item, ...]], *, is_plain: bool, answered: Callable[[float], None]
) -> Sent:
    """One process for each association. They associate and prepare first, then all begin.

    Raises:
        NotSent: one of them failed.
    """
    jobs = [
        Job(
            port=port,
            calling_ae_title=CALLING_AE_TITLE,
            called_ae_title=CALLED_AE_TITLE,
            is_plain=is_plain,
            items=share,
        )
        for share in shares
    ]
    with _processes([[sys.executable, "-m", "benchmarks.ingest.raw_sender"]] * len(jobs)) as senders:
        for sender, job in zip(senders, jobs, strict=True):
            _tell(sender, job.encode())
        for sender in senders:
            _hear(sender)
        for sender in senders:
            _tell(sender, "go")
        results: list[dict[str, Any]] = [json.loads(_hear(sender)) for sender in senders]
        ended_s = max(result["ended_s"] for result in results)
        answered(ended_s)
        for sender in senders:
            _tell(sender, "leave")
        _finish(senders)
    return Sent(
        begun_s=min(result["begun_s"] for result in results),
        ended_s=ended_s,
        cpu_s=sum(result["cpu_s"] for result in results),
        latencies_s=tuple(latency for result in results for latency in result["latencies_s"]),
    )


def send_storescu(
    port: int, shares: Sequence[tuple[Item, ...]], *, is_plain: bool, answered: Callable[[float], None]
) -> Sent:
    """One process for each association; its start, association and release are counted with it.

    Raises:
        NotSent: one of them failed.
    """
    options = ["-R", "-aet", CALLING_AE_TITLE, "-aec", CALLED_AE_TITLE, LOOPBACK, str(port)]
    commands = [["storescu", *options, *(item.path for item in share)] for share in shares]
    cpu_s, begun_s = _children_cpu_s(), time.monotonic()
    with _processes(commands) as senders:
        _finish(senders)
    ended_s = time.monotonic()
    answered(ended_s)
    return Sent(begun_s=begun_s, ended_s=ended_s, cpu_s=_children_cpu_s() - cpu_s)


SENDERS: dict[str, Send] = {"raw": send_raw, "storescu": send_storescu}


@contextmanager
def _processes(commands: Sequence[list[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """None of them is left afterwards, and none runs for ever."""
    started: list[subprocess.Popen[str]] = []
    watchdog = threading.Timer(SENT_WITHIN_S, lambda: _kill(started))
    watchdog.start()
    try:
        for command in commands:
            pipe = subprocess.PIPE
            started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT))
        yield started
    finally:
        watchdog.cancel()
        _kill(started)


def _kill(senders: Sequence[subprocess.Popen[str]]) -> None:
    for sender in senders:
        if sender.poll() is None:
            sender.kill()
            sender.wait()


def _tell(sender: subprocess.Popen[str], line: str) -> None:
    try:
        print(line, file=_open(sender.stdin), flush=True)
    except BrokenPipeError:
        raise _failure(sender) from None


def _hear(sender: subprocess.Popen[str]) -> str:
    line = _open(sender.stdout).readline()
    if not line:
        raise _failure(sender)
    return line


def _finish(senders: Sequence[subprocess.Popen[str]]) -> None:
    for sender in senders:
        _, errors = sender.communicate()
        if sender.returncode:
            raise NotSent(_last_line(errors))


def _failure(sender: subprocess.Popen[str]) -> NotSent:
    return NotSent(_last_line(_open(sender.stderr).read()))


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "the sender ended without a word"


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
