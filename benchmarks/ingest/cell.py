"""One measurement: a fresh receiver, one load, one way to send it.

start  ->  settle  ->  CPU before  ->  send, wait for the last 0x0000  ->  all rows are there, nothing more to do
       ->  CPU after, peaks of memory  ->  does it have every instance?  ->  end, empty its folder
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingest import loads
from benchmarks.ingest.process_tree import MemoryWatch
from benchmarks.ingest.receivers import NotStarted, Receiver, Running, check_stored, running
from benchmarks.ingest.senders import SENDERS, NotSent, Sent
from benchmarks.ingest.wire import Item

ROWS_WITHIN_S = 60.0
ROWS_EVERY_S = 0.01
SETTLES_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a cell measures; rounds are counted from 1."""

    round: int
    load: str
    associations: int
    sender: str
    receiver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """MB and GB are 10^6 and 10^9 bytes.

    instances_per_s, mb_per_s: from the first byte (with storescu: from its start) to the last 0x0000 (its end).
    cpu_s_per_gb, cpu_s_per_1000: of the receiver's whole tree until it has nothing more to do, indexing included.
    sender_cpu_s_per_gb: of the senders.
    latency_ms: the median from an instance's first byte to its answer; None with storescu.
    peak_rss_mb, peak_pss_mb: of the receiver's tree; shared memory is counted for each process, or divided.
    indexed_after_s: from the last 0x0000 until the database has every row; None without a database.
    """

    instances: int
    instances_per_s: float
    mb_per_s: float
    cpu_s_per_gb: float
    cpu_s_per_1000: float
    sender_cpu_s_per_gb: float
    latency_ms: float | None
    peak_rss_mb: float
    peak_pss_mb: float
    indexed_after_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """`figures` is None where the measurement failed; `failure` says why."""

    plan: Plan
    load_average: float
    figures: Figures | None
    failure: str = ""


class Failed(Exception):
    """The receiver does not have what it answered 0x0000 for."""


def measure(plan: Plan, receiver: Receiver, items: Sequence[Item], work: Path) -> Cell:
    """Never raises for what goes wrong with a receiver: that is its result."""
    folder = work / "-".join((plan.receiver, plan.load, str(plan.associations), plan.sender, str(plan.round)))
    os.sync()  # what the cell before left to be written is not this one's affair
    load_average = os.getloadavg()[0]
    some = tuple(items[: max(plan.associations, round(len(items) * receiver.share))])
    try:
        with running(receiver, folder, work / "programs") as started:
            try:
                figures = _send_and_watch(plan, receiver, some, started)
            except (NotSent, Failed) as error:
                raise Failed(f"{error}; its last words: {started.last_words()!r}") from error
        return Cell(plan=plan, load_average=load_average, figures=figures)
    except (NotStarted, Failed) as error:
        return Cell(plan=plan, load_average=load_average, figures=None, failure=str(error))
    finally:
        _give_space_back(folder)


def _send_and_watch(plan: Plan, receiver: Receiver, items: tuple[Item, ...], started: Running) -> Figures:
    shares = list(loads.shares(items, plan.associations))
    indexed_after_s = None

    def wait_for_rows(answered_at_s: float) -> None:
        nonlocal indexed_after_s
        if receiver.rows is not None:
            _wait_for(receiver.rows, started.place.folder, len(items))
            indexed_after_s = time.monotonic() - answered_at_s

    with MemoryWatch(started.tree) as memory:
        before_s = started.tree.cpu_s()
        send = SENDERS[plan.sender]
        sent = send(started.place.port, shares, is_plain=receiver.is_plain, answered=wait_for_rows)
        started.tree.settle(at_most_s=SETTLES_WITHIN_S)
        cpu_s = started.tree.cpu_s() - before_s
    size_bytes = sum(item.size_bytes - item.data_set_at for item in items)
    if lack := check_stored(receiver, started.place.folder, instances=len(items), size_bytes=size_bytes):
        raise Failed(lack)
    return _figures(sent, memory, cpu_s, len(items), size_bytes, indexed_after_s)


def _figures(
    sent: Sent, memory: MemoryWatch, cpu_s: float, instances: int, size_bytes: int, indexed_after_s: float | None
) -> Figures:
    seconds = sent.ended_s - sent.begun_s
    return Figures(
        instances=instances,
        instances_per_s=instances / seconds,
        mb_per_s=size_bytes / seconds / 1e6,
        cpu_s_per_gb=cpu_s / size_bytes * 1e9,
        cpu_s_per_1000=cpu_s / instances * 1000,
        sender_cpu_s_per_gb=sent.cpu_s / size_bytes * 1e9,
        latency_ms=statistics.median(sent.latencies_s) * 1000 if sent.latencies_s else None,
        peak_rss_mb=memory.peak_rss_bytes / 1e6,
        peak_pss_mb=memory.peak_pss_bytes / 1e6,
        indexed_after_s=indexed_after_s,
    )


def _give_space_back(folder: Path) -> None:
    """Empty its files; they go with the whole run. Where files were removed within the last half minute, ext4 looks at
    every inode that was freed before it makes a new file, and the next receiver would pay several times the price.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def _wait_for(rows: Callable[[Path], int], folder: Path, count: int) -> None:
    until = time.monotonic() + ROWS_WITHIN_S
    while (found := rows(folder)) < count:
        if time.monotonic() > until:
            raise Failed(f"{found} rows of {count} instances")
        time.sleep(ROWS_EVERY_S)
