"""300 clinics on one node, and the rows that its receiver would have written for what they send."""

import itertools
import json
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from domain.study import InstanceFacts
from storage.arrivals.indexer import BATCH_LIMIT, GATHER_S
from storage.database import Database
from storage.file_meta import Provenance
from storage.headers import StoredInstance
from storage.instances import Spool
from storage.intake import record_instances, record_release

CLINICS = 300
BIG = "clinic-000"
TIER = "professional"
AFTER_RELEASE_S = 0.5
CR = "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
NO_SPOOL = cast(Spool, None)  # nothing comes twice, so no file is looked at
NAMES = tuple(f"clinic-{number:03}" for number in range(CLINICS))
DUMP_PER_S = 15.0  # radiographs of 8 MB, all that a line of 1 Gbit/s carries


def configuration(data_dir: Path, database_url: str, *, at_once: int) -> str:
    clinics = "".join(f'[[clinics]]\nname = "{name}"\ntier = "{TIER}"\n' for name in NAMES)
    return (
        f"[node]\ndata_dir = {json.dumps(str(data_dir))}\ndatabase_url = {json.dumps(database_url)}\n"
        f"[completion]\nafter_release_s = {AFTER_RELEASE_S}\n[worker]\nconcurrency = {at_once}\n"
        f'[logging]\nlevel = "warning"\n{clinics}'
    )


class Receiver:
    """Writes rows for what comes, as the indexer does it: one thread, and all at once what has come meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._come: queue.SimpleQueue[StoredInstance | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, stored: StoredInstance) -> None:
        self._come.put(stored)

    def stop(self) -> None:
        """It still writes what has come."""
        self._come.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_over = False
        while not is_over:
            come = [self._come.get()]
            time.sleep(GATHER_S)
            while len(come) < BATCH_LIMIT and not self._come.empty():
                come.append(self._come.get())
            stored = [one for one in come if one is not None]
            is_over = len(stored) < len(come)
            recorded = record_instances(self._database, NO_SPOOL, stored)
            record_release(self._database, [one.study_id for one in recorded if one.study_id is not None])


@dataclass(frozen=True, slots=True)
class Senders:
    """All of them, each in a thread of its own, from `start` until `stop`."""

    receiver: Receiver
    others_per_s: float
    dump: int
    stat_every_s: float
    chance: random.Random
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for work in (self._others, self._stat, self._big):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _others(self) -> None:
        """A Poisson process: each clinic sends when it likes, and none knows of another."""
        at = time.monotonic()
        for number in itertools.count():
            at += self.chance.expovariate(self.others_per_s)
            if self.stopping.wait(max(0.0, at - time.monotonic())):
                return
            self.receiver.take(study(self.chance.choice(NAMES[1:]), f"1.{number}"))

    def _stat(self) -> None:
        """By turns of another clinic and of the big one."""
        for number, clinic in enumerate(itertools.cycle((NAMES[1], BIG))):
            if self.stopping.wait(self.stat_every_s):
                return
            self.receiver.take(study(clinic, f"2.{number}", priority="STAT"))

    def _big(self) -> None:
        at = time.monotonic()
        for number in range(self.dump):
            at += 1 / DUMP_PER_S
            if self.stopping.wait(max(0.0, at - time.monotonic())):
                return
            self.receiver.take(study(BIG, f"3.{number}"))


def study(clinic: str, number: str, *, priority: str = "") -> StoredInstance:
    """A radiograph that is a study of its own, without its file."""
    uid = f"1.2.{number}"
    return StoredInstance(
        spool_key=f"{clinic}-{number}",
        provenance=Provenance(
            clinic=clinic,
            calling_ae_title="MODALITY1",
            called_ae_title="COLLIMATOR",
            peer_address="192.0.2.10",
            association=number,
            received_at=datetime.now(UTC),
        ),
        sop_instance_uid=f"{uid}.1.1",
        sop_class_uid=CR,
        series_instance_uid=f"{uid}.1",
        study_instance_uid=uid,
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        accession_number="",
        size_bytes=1000,
        is_own_result=False,
        facts=InstanceFacts(
            modality="CR",
            body_part_examined="CHEST",
            has_pixels=True,
            rows=10,
            columns=10,
            requested_procedure_priority=priority,
        ),
        problem="",
    )
