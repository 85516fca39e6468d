"""The same work alone: each stage called directly, one after the other, nothing else in the way.

    python -m benchmarks.latency.stages CONFIGURATION TIMES PACS_PORT  ->  JSON: by stage, for each
    time, milliseconds of wall clock and of processor (with the analysis process; in ticks of 10 ms)

It uses the study that the node has processed last, and leaves the node's rows and results as they are.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from benchmarks.ingest.process_tree import ProcessTree
from benchmarks.latency.node import LOOPBACK, NODE, PACS
from cli import log
from cli.parts import open_database
from cli.worker import build_rooms
from config.settings import load
from domain.routing import decide
from inference import pixels
from inference.network import Network
from scu.store import Address, describe, send_files
from storage.instances import ResultFolder
from storage.studies import read_study
from storage.tables import studies
from workflow.rooms import Rooms
from workflow.steps import write_results

T = TypeVar("T")


def main(config: Path, times: int, pacs_port: int) -> dict[str, list[tuple[float, float]]]:
    settings = load(config)
    log.configure(output_format="json", level="warning")
    database = open_database(settings)
    rooms = build_rooms(settings, database)
    with database.read() as connection:
        study_id = connection.scalars(sa.select(studies.c.id).order_by(studies.c.id.desc()).limit(1)).one()
    study = read_study(database, rooms.spool, study_id)
    (package,) = decide(study, rooms.rulebook).packages
    stages = Stages(rooms, study_id, Network(rooms.registry.get(package)), pacs_port)
    for _ in range(times):
        with tempfile.TemporaryDirectory(dir=settings.node.data_dir) as folder:
            stages.once(Path(folder))
    rooms.analyst.close()
    database.close()
    return stages.spent_ms


class Stages:
    def __init__(self, rooms: Rooms, study_id: int, network: Network, pacs_port: int) -> None:
        self._rooms = rooms
        self._study_id = study_id
        self._network = network
        self._pacs = Address(ae_title=PACS, host=LOOPBACK, port=pacs_port)
        self._tree = ProcessTree(os.getpid())
        self.spent_ms: dict[str, list[tuple[float, float]]] = {}

    def once(self, folder: Path) -> None:
        """`folder`: where the results go."""
        rooms = replace(self._rooms, results=ResultFolder(folder))
        study = self._timed("read", lambda: read_study(rooms.database, rooms.spool, self._study_id))
        decision = decide(study, rooms.rulebook)
        radiograph = self._timed("decode", lambda: pixels.read(study.instances[0].path))
        self._timed("infer", lambda: self._network.answer(radiograph))
        # It leaves the image decoded in the analysis process, as it does in a job.
        analysis = rooms.analyst.analyse(self._network.package.name, study.instances)
        self._timed("write", lambda: write_results(rooms, study, decision, [analysis]))
        files = [describe(path) for path in folder.rglob("*.dcm")]
        self._timed("send", lambda: send_files(files, self._pacs, calling_ae_title=NODE, timeout_s=30.0))

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        cpu, began = self._tree.cpu_s(), time.perf_counter()
        answer = work()
        wall = time.perf_counter() - began
        self.spent_ms.setdefault(stage, []).append((wall * 1e3, (self._tree.cpu_s() - cpu) * 1e3))
        return answer


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
