"""What must be true when all is over, read from the PACS's own notes, the database and the disk."""

import json
import os
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage.instances import ResultFolder, Spool
from storage.tables import executors, instances, ledger, outboxes, quarantine, reservations, results, studies
from tests.chaos.pacs import JOURNAL, Answer
from tests.journeys.house import Node

KINDS = ["overlay", "measurement_sr", "text_sr"]
AN_HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`sent`: Study Instance UIDs that were answered 0x0000. `alive`: executor ids of the workers that run."""

    node: Node
    pacs_folder: Path
    sent: list[str]
    alive: frozenset[str]

    def rows(self, *what: sa.ColumnElement[object] | sa.Table) -> list[sa.Row[tuple[object, ...]]]:
        with self.node.database.read() as connection:
            return list(connection.execute(sa.select(*what)).all())

    def arrivals(self) -> list[dict[str, str]]:
        """Every C-STORE that reached the PACS, whatever it answered."""
        return [note for note in journal(self.pacs_folder) if "sop_instance_uid" in note]


def journal(pacs_folder: Path) -> list[dict[str, str]]:
    """What the PACS noted, as far as it has come with its newest line."""
    written, _, _ = (pacs_folder / JOURNAL).read_text().rpartition("\n")
    return [json.loads(line) for line in written.splitlines()]


def misfortunes(pacs_folder: Path) -> Counter[str]:
    """What the PACS did instead of storing and saying so, and how often."""
    answers = Counter(note["answer"] for note in journal(pacs_folder))
    del answers[Answer.STORED]
    return answers


def not_done(scene: Scene) -> list[str]:
    states = {row.study_instance_uid: f"{row.state} {row.reason}" for row in scene.rows(studies)}
    return [f"{uid} is {states.get(uid, 'lost')}" for uid in scene.sent if states.get(uid) != "done "]


def not_in_one_generation(scene: Scene) -> list[str]:
    return [row.study_instance_uid for row in scene.rows(studies) if row.generation != 1]


def without_their_results(scene: Scene) -> list[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    rows = scene.rows(studies.c.id, studies.c.study_instance_uid)
    names = {row.id: str(row.study_instance_uid) for row in rows}
    for row in scene.rows(results):
        kinds[names[row.study_id]].append(row.kind)
    return [f"{uid}: {kinds[uid]}" for uid in scene.sent if sorted(kinds[uid]) != sorted(KINDS)]


def not_delivered(scene: Scene) -> list[str]:
    """Results that the PACS does not hold, or with other bytes than those that the node holds."""
    folder = ResultFolder(scene.node.data_dir)
    broken = []
    for row in scene.rows(results.c.sop_instance_uid):
        uid = str(row.sop_instance_uid)
        path = scene.pacs_folder / f"{uid}.dcm"
        if not path.exists():
            broken.append(f"{uid} is not there")
        elif path.read_bytes() != data_set_of(folder, uid):
            broken.append(f"{uid} differs")
    return broken


def data_set_of(folder: ResultFolder, sop_instance_uid: str) -> bytes:
    """Behind the preamble, the prefix and the File Meta, whose first element says how long it is (PS3.10 7.1)."""
    with folder.open(sop_instance_uid) as file:
        content = file.read()
    (length,) = struct.unpack_from("<L", content, 140)
    return content[144 + length :]


def sent_with_other_bytes(scene: Scene) -> list[str]:
    digests: dict[str, set[str]] = defaultdict(set)
    for arrival in scene.arrivals():
        digests[arrival["sop_instance_uid"]].add(arrival["sha256"])
    return [uid for uid, several in digests.items() if len(several) > 1]


def sent_and_unknown(scene: Scene) -> list[str]:
    known = {row.sop_instance_uid for row in scene.rows(results.c.sop_instance_uid)}
    return sorted({arrival["sop_instance_uid"] for arrival in scene.arrivals()} - known)


def not_charged_once(scene: Scene) -> list[str]:
    rows = Counter(str(row.study_instance_uid) for row in scene.rows(ledger.c.study_instance_uid))
    return [f"{uid}: {rows[uid]}" for uid in sorted({*scene.sent, *rows}) if rows[uid] != 1]


def quota_that_is_still_reserved(scene: Scene) -> list[str]:
    return [str(row.study_instance_uid) for row in scene.rows(reservations)]


def jobs_not_ended(scene: Scene) -> list[str]:
    statement = f"SELECT workflow_uuid, status FROM {jobs_table(scene.node)} WHERE status NOT IN ({ENDED})"
    with scene.node.database.read() as connection:
        return [f"{row.workflow_uuid} is {row.status}" for row in connection.execute(sa.text(statement))]


ENDED = "'SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'"


def jobs_table(node: Node) -> str:
    return "workflow_status" if node.database.is_sqlite else "dbos.workflow_status"


def destinations_at_work(scene: Scene) -> list[str]:
    return [str(row.destination) for row in scene.rows(outboxes) if row.is_busy or row.failures]


def rows_of_dead_workers(scene: Scene) -> list[str]:
    return [str(row.executor_id) for row in scene.rows(executors) if row.executor_id not in scene.alive]


def in_quarantine(scene: Scene) -> list[str]:
    return [f"{row.sop_instance_uid} {row.reason}" for row in scene.rows(quarantine)]


def files_half_received(scene: Scene) -> list[str]:
    return [path.name for path in Spool(scene.node.data_dir).unfinished()]


def files_without_row(scene: Scene) -> list[str]:
    """And rows without their file: in the spool, and among the results."""
    received = set(Spool(scene.node.data_dir).stored_keys())
    written = {path.stem for path in (scene.node.data_dir / "results").glob("??/*")}
    expected_received = {row.spool_key for row in scene.rows(instances.c.spool_key)}
    expected_written = {row.sop_instance_uid for row in scene.rows(results.c.sop_instance_uid)}
    return sorted(map(str, (received ^ expected_received) | (written ^ expected_written)))


def files_half_written(scene: Scene) -> list[str]:
    return [path.name for path in (scene.node.data_dir / "results" / "incoming").iterdir()]


def let_an_hour_pass(node: Node) -> None:
    """For what a worker had half written when it died, which is removed after an hour. Nobody must be writing now."""
    for path in (node.data_dir / "results" / "incoming").iterdir():
        with suppress(FileNotFoundError):  # removed at this moment
            os.utime(path, (time.time() - 2 * AN_HOUR_S,) * 2)


# Those that need some time after the last misfortune; then those of which nothing changes any more.
IN_THE_END: dict[str, Callable[[Scene], list[str]]] = {
    "studies that are not done": not_done,
    "jobs that have not ended": jobs_not_ended,
    "destinations at work": destinations_at_work,
    "rows of dead workers": rows_of_dead_workers,
}
ALWAYS: dict[str, Callable[[Scene], list[str]]] = {
    "studies in several generations": not_in_one_generation,
    "studies without their three results": without_their_results,
    "results that the PACS has not, or with other bytes": not_delivered,
    "results that were sent with other bytes": sent_with_other_bytes,
    "objects that were sent and that the node does not know": sent_and_unknown,
    "studies not charged exactly once": not_charged_once,
    "studies with quota that is still reserved": quota_that_is_still_reserved,
    "instances in quarantine": in_quarantine,
    "files half received": files_half_received,
    "files half written": files_half_written,
    "files without a row, rows without a file": files_without_row,
}


def broken(scene: Scene, promises: dict[str, Callable[[Scene], list[str]]]) -> dict[str, list[str]]:
    return {promise: look(scene) for promise, look in promises.items()}
