"""Takes over from workers that died, parks what kills workers, and wakes what waited for quota.

Every worker beats in the table `executors` by the database's clock. A beat older than the lease means a dead worker; a
worker of this very machine whose process is gone is dead at once. Taking over is safe even from one that only froze:
the engine lets the former owner of a job commit nothing more.
"""

import os
import secrets
import threading
from pathlib import Path

import sqlalchemy as sa
import structlog

from domain.errors import Refuse
from domain.states import Reason, StudyState
from metering.quota import reserve
from storage import studies
from storage.database import Database, database_clock, utc_now
from storage.jobs import PROCESS_STUDY, priority_of
from storage.tables import executors
from storage.tables import studies as study_rows
from workflow.engine import Engine
from workflow.rooms import Rooms

log = structlog.get_logger()

BEAT_S = 1.0
QUOTA_CHECK_BEATS = 30


def new_executor_id() -> str:
    """A name that no other process ever has: this machine's process table, the process in it, a random part."""
    return f"{_process_table()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_gone(executor_id: str) -> bool:
    """Whether the executor ran on this machine and its process is no more."""
    table, process_id, _ = executor_id.rsplit("/", 2)
    return table == _process_table() and not Path(f"/proc/{process_id}").exists()


class Recovery:
    """One background thread in each worker."""

    def __init__(self, engine: Engine, rooms: Rooms, *, executor_id: str, lease_s: float) -> None:
        self._engine = engine
        self._rooms = rooms
        self._executor_id = executor_id
        self._lease_s = lease_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)

    def start(self) -> None:
        beat(self._rooms.database, self._executor_id)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. The row stays until another worker has seen that nothing unfinished is left."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        beats = 0
        while True:
            try:
                beat(self._rooms.database, self._executor_id)
                self._take_over()
                self._park_abandoned()
                if beats % QUOTA_CHECK_BEATS == 0:
                    wake_held_for_quota(self._rooms)
            except Exception:
                log.exception("recovery_failed")
            beats += 1
            if self._stopping.wait(BEAT_S):
                return

    def _take_over(self) -> None:
        for executor_id in dead_executors(self._rooms.database, self._executor_id, self._lease_s):
            recovered = self._engine.recover(executor_id)
            log.warning("worker_taken_over", executor=executor_id, jobs=recovered)
            if not self._engine.has_unfinished(executor_id):
                with self._rooms.database.write() as connection:
                    connection.execute(sa.delete(executors).where(executors.c.executor_id == executor_id))

    def _park_abandoned(self) -> None:
        for name, arguments in self._engine.abandoned_jobs():
            if name == PROCESS_STUDY and arguments:
                park(self._rooms, int(arguments[0]))


def beat(database: Database, executor_id: str) -> None:
    with database.write() as connection:
        now = database_clock(connection)
        changed = connection.execute(
            sa.update(executors).where(executors.c.executor_id == executor_id).values(seen_at=now)
        )
        if not changed.rowcount:
            connection.execute(sa.insert(executors).values(executor_id=executor_id, seen_at=now))


def dead_executors(database: Database, own_id: str, lease_s: float) -> list[str]:
    """Workers whose lease ran out, and those of this machine whose process is gone."""
    with database.read() as connection:
        now = database_clock(connection)
        others = connection.execute(sa.select(executors).where(executors.c.executor_id != own_id)).all()
    return [row.executor_id for row in others if now - row.seen_at > lease_s or is_gone(row.executor_id)]


def park(rooms: Rooms, study_id: int) -> None:
    """Put aside a study whose job took its worker down again and again."""
    refusal = Refuse(
        "its processing took the worker down again and again",
        reason=Reason.KEEPS_FAILING,
        hint="keep the study for the vendor; the other studies go on",
    )
    with rooms.database.write() as connection:
        state = connection.scalar(sa.select(study_rows.c.state).where(study_rows.c.id == study_id))
        if state == StudyState.QUEUED:
            studies.put_aside(connection, study_id, refusal)


def wake_held_for_quota(rooms: Rooms) -> int:
    """Queue the studies that waited for a new period or a larger plan, as far as there is quota; how many went."""
    woken = 0
    for study_id, clinic in studies.held_for_quota(rooms.database):
        with rooms.database.write() as connection:
            row = connection.execute(sa.select(study_rows).where(study_rows.c.id == study_id)).one()
            if row.state != StudyState.HELD or not reserve(
                connection, clinic=clinic, study_instance_uid=row.study_instance_uid, now=utc_now()
            ):
                continue
            studies.requeue(connection, study_id)
            tier = rooms.clinic(clinic).tier
            rooms.jobs.put_study(connection, study_id=study_id, attempt=1, priority=priority_of(tier))
            woken += 1
    return woken


def _process_table() -> str:
    """This boot and this process namespace: what a process id means something in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown-{secrets.token_hex(8)}"
