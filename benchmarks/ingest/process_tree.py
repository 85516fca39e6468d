"""What a process and all its descendants cost, from /proc (proc(5), Linux).

CPU is exact to the system's clock tick (10 ms) for each process, and includes children that have ended and were waited
for. What the kernel does in threads of its own (writing back what was not synced) is in nobody's account.
"""

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RSS_EVERY_S = 0.05
PSS_EVERY_S = 0.5  # it walks the page tables of the process,
PSS_STEP_BYTES = 4 << 20  # so it is looked at more often only while the tree grows
SETTLE_S = 0.15


class ProcessTree:
    def __init__(self, process_id: int) -> None:
        self.root = process_id

    def process_ids(self) -> list[int]:
        """The root first. A child that has ended and was not waited for yet is among them."""
        found, unseen = [], [self.root]
        while unseen:
            process_id = unseen.pop()
            found.append(process_id)
            unseen += [int(child) for path in _tasks(process_id) for child in _read(path / "children").split()]
        return found

    def born_at(self) -> dict[int, str]:
        """When each began, in ticks (field 22): a process id is used again, both together are not."""
        fields = {process_id: _stat(process_id) for process_id in self.process_ids()}
        return {process_id: values[19] for process_id, values in fields.items() if values}

    def cpu_s(self) -> float:
        """User and system time since each process began, in seconds."""
        return sum(cpu_s(process_id) for process_id in self.process_ids())

    def rss_bytes(self) -> int:
        """Resident memory; what processes of the tree share is counted for each of them."""
        sizes = [_read(Path(f"/proc/{process_id}/statm")).split() for process_id in self.process_ids()]
        return sum(int(size[1]) for size in sizes if size) * PAGE_BYTES

    def pss_bytes(self) -> int:
        """Resident memory; what several processes share is divided among them, so this is what the tree takes."""
        rollups = [_read(Path(f"/proc/{process_id}/smaps_rollup")) for process_id in self.process_ids()]
        lines = [line for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
        return sum(int(line.split()[1]) for line in lines) * 1024

    def settle(self, *, at_most_s: float) -> None:
        """Wait until it has nothing more to do: no tick of CPU time in a short while."""
        until = time.monotonic() + at_most_s
        before = self.cpu_s()
        while time.monotonic() < until:
            time.sleep(SETTLE_S)
            now = self.cpu_s()
            if now - before < 1.5 / TICKS_PER_S:
                return
            before = now


def cpu_s(process_id: int) -> float:
    """Of one process and of those of its children that have ended (fields 14 to 17); 0 where it is gone."""
    return sum(int(value) for value in _stat(process_id)[11:15]) / TICKS_PER_S


class MemoryWatch:
    """Samples a tree's memory from a thread of its own, as long as it is entered; peaks in bytes."""

    def __init__(self, tree: ProcessTree) -> None:
        self.peak_rss_bytes = 0
        self.peak_pss_bytes = 0
        self._tree = tree
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look_at_rss()
        self._look_at_pss()

    def _run(self) -> None:
        pss_at, grown_to_bytes = time.monotonic(), 0
        while not self._over.wait(RSS_EVERY_S):
            self._look_at_rss()
            if time.monotonic() >= pss_at or self.peak_rss_bytes >= grown_to_bytes:
                self._look_at_pss()
                pss_at, grown_to_bytes = time.monotonic() + PSS_EVERY_S, self.peak_rss_bytes + PSS_STEP_BYTES

    def _look_at_rss(self) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes, self._tree.rss_bytes())

    def _look_at_pss(self) -> None:
        self.peak_pss_bytes = max(self.peak_pss_bytes, self._tree.pss_bytes())


def _stat(process_id: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none where the process has gone."""
    return _read(Path(f"/proc/{process_id}/stat")).rpartition(")")[2].split()


def _tasks(process_id: int) -> list[Path]:
    """A child belongs to the thread that made it."""
    try:
        return list(Path(f"/proc/{process_id}/task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """Empty where the process has gone meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""
