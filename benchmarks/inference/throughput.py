"""A whole node, C-STORE in and results stored at their destination, and the same stages in a bare loop, by turns."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inference import radiographs
from benchmarks.inference.side import Failed
from benchmarks.ingest.process_tree import cpu_s
from benchmarks.latency import node as latency_node
from benchmarks.latency.node import SENDER, Node, missing, running, wait_until
from benchmarks.latency.trace import last_stored
from inference.bare_environment import ONE_THREAD
from scu.store import describe, send_files

__all__ = ["Burst", "bursts", "make_weights", "missing"]

DONE_WITHIN_S = 300.0
# A word of a process's command line, and what it does. The first that fits; the rest supervises or serves pages.
WORK_OF = {
    b"inference.child": "decode, infer, display",
    b"worker": "write, send, jobs",
    b"receiver": "receive, index",
    b"listener": "receive, index",
    b"indexer": "receive, index",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """per_s: studies, from the first result stored to the last. alone_ms: (wall, CPU) a study, by stage.
    node_cpu_ms: a study, by what the process does.
    """

    studies: int
    per_s: float
    alone_ms: dict[str, tuple[float, float]]
    node_cpu_ms: dict[str, float]

    @property
    def alone_per_s(self) -> float:
        return 1e3 / sum(wall for wall, _ in self.alone_ms.values())


def make_weights(folder: Path) -> None:
    """FOLDER/model.pt and FOLDER/models: in a process of its own, which alone has torch."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.inference.weights", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise Failed(f"the network cannot be made: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def bursts(folder: Path, count: int, studies: int, *, rows: int, columns: int) -> Iterator[Burst]:
    """Each of so many studies at once, and then as often the stages alone."""
    place = folder / "throughput"
    (place / "data").mkdir(parents=True)
    (place / "data" / "models").symlink_to(folder / "models")
    try:
        with running(place) as node:
            _send(node, place, 2, rows, columns)
            for _ in range(count):
                yield _burst(node, place, studies, rows, columns)
    except latency_node.Failed as error:
        raise Failed(f"the node: {error}") from error


def _burst(node: Node, place: Path, studies: int, rows: int, columns: int) -> Burst:
    before = _cpu_s(node)
    stored = _send(node, place, studies, rows, columns)
    node.tree.settle(at_most_s=10.0)
    after = _cpu_s(node)
    return Burst(
        studies=studies,
        per_s=(studies - 1) / (stored[-1] - stored[0]),
        alone_ms=_alone(node, studies),
        node_cpu_ms={work: (after[work] - before[work]) * 1e3 / studies for work in before},
    )


def _send(node: Node, place: Path, count: int, rows: int, columns: int) -> list[float]:
    """When the last result of each study was stored, in order."""
    path, uids = place / "image.dcm", []
    for number in range(count):
        image = radiographs.radiograph(number, rows=rows, columns=columns)
        image.save_as(path, enforce_file_format=True)
        send_files([describe(path)], node.address, calling_ae_title=SENDER, timeout_s=60.0)
        uids.append(str(image.StudyInstanceUID))
    wait_until(lambda: all(last_stored(node, uid) is not None for uid in uids), DONE_WITHIN_S, "all results are stored")
    return sorted(last_stored(node, uid) or 0.0 for uid in uids)


def _cpu_s(node: Node) -> dict[str, float]:
    """Seconds so far, by what the processes do."""
    seconds = dict.fromkeys(WORK_OF.values(), 0.0) | {"other": 0.0}
    for process_id in node.tree.process_ids():
        try:
            command = Path(f"/proc/{process_id}/cmdline").read_bytes()
        except OSError:
            continue
        work = next((work for word, work in WORK_OF.items() if word in command), "other")
        seconds[work] += cpu_s(process_id)
    return seconds


def _alone(node: Node, times: int) -> dict[str, tuple[float, float]]:
    command = [sys.executable, "-m", "benchmarks.latency.stages", str(node.config), str(times + 1), str(node.pacs.port)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise Failed(f"the stages alone: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    spent = json.loads(done.stdout)
    # The first one loads the network. CPU is counted in ticks of 10 ms: only its mean says something.
    return {
        stage: (statistics.median(wall for wall, _ in pairs[1:]), statistics.mean(cpu for _, cpu in pairs[1:]))
        for stage, pairs in spent.items()
    }
