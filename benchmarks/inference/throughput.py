"""A whole node, C-STORE in and results stored at their destination, and the same stages in bare loops, by turns.

The studies lie on the disk before the burst begins: what makes them is not to take the node's processors. A node works
at several studies at once and hands results over in batches, so its rate is the slope of all the moments at which a
study was done, without those at the beginning, when its queue fills. It has every core, so there is a bare loop for
each of them, all at the same time.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from pydicom.uid import generate_uid

from benchmarks.inference import radiographs
from benchmarks.inference.side import Failed
from benchmarks.ingest.process_tree import cpu_s
from benchmarks.ingest.receivers import ENVIRONMENT
from benchmarks.latency import node as latency_node
from benchmarks.latency.node import NODE, SENDER, Node, missing, running, wait_until
from benchmarks.latency.trace import last_stored
from domain.states import StudyState
from inference.bare_environment import ONE_THREAD
from storage.tables import studies

__all__ = ["Burst", "bursts", "make_weights", "missing"]

DONE_WITHIN_S = 300.0
IMAGES = 4
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
    """per_s: studies. loops: that ran the stages alone at the same time. alone_ms: (wall, CPU) a study in each of them,
    by stage. node_cpu_ms: a study, by what the process does.
    """

    studies: int
    per_s: float
    loops: int
    alone_ms: dict[str, tuple[float, float]]
    node_cpu_ms: dict[str, float]

    @property
    def alone_per_s(self) -> float:
        return self.loops * 1e3 / sum(wall for wall, _ in self.alone_ms.values())


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
            _send(node, _made(place, 2, rows, columns))
            for _ in range(count):
                yield _burst(node, _made(place, studies, rows, columns))
    except latency_node.Failed as error:
        raise Failed(f"the node: {error}") from error


def _burst(node: Node, made: dict[str, Path]) -> Burst:
    before = _cpu_s(node)
    stored = _send(node, made)
    node.tree.settle(at_most_s=10.0)
    after = _cpu_s(node)
    loops = len(os.sched_getaffinity(0))
    return Burst(
        studies=len(made),
        per_s=rate(stored),
        loops=loops,
        alone_ms=_alone(node, loops, times=max(4, len(made) // 2)),
        node_cpu_ms={work: (after[work] - before[work]) * 1e3 / len(made) for work in before},
    )


def rate(stored: list[float]) -> float:
    """Studies a second: the slope by least squares, from when a quarter of them was done."""
    moments = np.array(sorted(stored)[len(stored) // 4 :])
    return float(np.polyfit(moments - moments[0], np.arange(len(moments)), 1)[0])


def _made(place: Path, count: int, rows: int, columns: int) -> dict[str, Path]:
    """So many studies, by Study Instance UID. A few images are shared by all of them."""
    images = [radiographs.radiograph(number, rows=rows, columns=columns) for number in range(min(count, IMAGES))]
    made = {}
    for number in range(count):
        image = images[number % len(images)]
        image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        path = place / f"{number}.dcm"
        image.save_as(path, enforce_file_format=True)
        made[str(image.StudyInstanceUID)] = path
    return made


def _send(node: Node, made: dict[str, Path]) -> list[float]:
    """When the last result of each study was stored. DCMTK sends: the node is to have the processors."""
    to = ["-R", "-aet", SENDER, "-aec", NODE, node.address.host, str(node.address.port)]
    done = _done(node)
    for path in made.values():
        subprocess.run(["storescu", *to, str(path)], check=True, capture_output=True, env=ENVIRONMENT)
    wait_until(lambda: _done(node) == done + len(made), DONE_WITHIN_S, "all results are stored", look_every_s=0.25)
    return [last_stored(node, uid) or 0.0 for uid in made]


def _done(node: Node) -> int:
    with node.database.read() as connection:
        is_done = studies.c.state == StudyState.DONE
        return connection.scalar(sa.select(sa.func.count()).select_from(studies).where(is_done)) or 0


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


def _alone(node: Node, loops: int, *, times: int) -> dict[str, tuple[float, float]]:
    command = [sys.executable, "-m", "benchmarks.latency.stages", str(node.config), str(times + 1), str(node.pacs.port)]
    running = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
        )
        for _ in range(loops)
    ]
    spent: dict[str, list[tuple[float, float]]] = {}
    for process in running:
        said, failed = process.communicate()
        if process.returncode:
            raise Failed(f"the stages alone: {(failed.strip().splitlines() or ['no word'])[-1]}")
        for stage, pairs in json.loads(said).items():
            spent.setdefault(stage, []).extend(pairs[1:])  # the first one loads the network
    # CPU is counted in ticks of 10 ms: only its mean says something.
    return {
        stage: (statistics.median(wall for wall, _ in pairs), statistics.mean(cpu for _, cpu in pairs))
        for stage, pairs in spent.items()
    }
