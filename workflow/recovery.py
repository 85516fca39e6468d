"""Takes over from workers that died, parks what kills workers, wakes what waited for quota, removes what is old, and
closes billing periods that are over.

Every worker beats in the table `executors` by the database's clock. A beat older than the lease means a dead worker; a
worker of this very machine whose process is gone is dead at once. Taking over is safe even from one that only froze:
the engine lets the former owner of a job commit nothing more.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path

import sqlalchemy as sa
import structlog

from domain.errors import Away, Refuse
from domain.states import Reason
from metering.billing import close_ended_periods
from metering.quota import release, reserve
from storage import outboxes, studies
from storage.answers.runs import forget_runs
from storage.clinic_lock import lock_clinic
from storage.database import Database, database_clock, utc_now
from storage.events import add_event
from storage.periodic import Periodic
from storage.queueing import queue_study
from storage.retention import remove_delivered_pixels
from storage.tables import executors
from workflow.deliver import after_bug
from workflow.engine import MAXIMUM_RUNS, Engine
from workflow.grown_plans import GrownPlans
from workflow.rooms import Rooms
from workflow.withdraw import tell_abandoned

log = structlog.get_logger()

BEAT_S = 1.0
CARE_BEATS = 10
BILLING_BEATS = 300
# Studies in one round: a worker that does not beat meanwhile must not be taken for dead.
WOKEN_AT_ONCE = 200
_BEAT = sa.update(executors).where(executors.c.executor_id == sa.bindparam("of"))
_OTHERS = sa.select(executors).where(executors.c.executor_id != sa.bindparam("own"))


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
        self._grown_plans = GrownPlans(rooms)
        self._out_of_sight: set[str] = set()
        self._beats = 0
        self._thread = Periodic("recovery", self._round, period_s=BEAT_S)

    def show_itself(self) -> None:
        """Before the engine starts: there is no moment with a job and without a row."""
        beat(self._rooms.database, self._executor_id)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. The row stays until another worker has seen that nothing unfinished is left."""
        self._thread.stop()

    def _round(self) -> None:
        beats, self._beats = self._beats, self._beats + 1
        beat(self._rooms.database, self._executor_id)
        self._take_over()
        if beats % CARE_BEATS == 0:
            self._care()
        if beats % BILLING_BEATS == 0:
            close_periods(self._rooms)

    def _care(self) -> None:
        enter_missing(self._rooms.database, self._engine.executors_at_work())
        self._put_back_lost()
        abandoned = set(self._engine.abandoned_jobs())
        suspected = self._engine.suspected_jobs()  # asked for last: none of them is to be parked
        park_abandoned(self._rooms, abandoned - suspected)
        try_alone(self._rooms, suspected)
        wake_abandoned(self._rooms, abandoned)
        tell_abandoned(self._rooms, abandoned)
        self._grown_plans.let_in()
        wake_held_for_quota(self._rooms)
        clear_away(self._rooms)
        forget_jobs(self._engine, self._rooms)

    def _take_over(self) -> None:
        for executor_id in dead_executors(self._rooms.database, self._executor_id, self._lease_s):
            recovered = self._engine.recover(executor_id)
            log.warning("worker_taken_over", executor=executor_id, jobs=recovered)
            if not self._engine.has_unfinished(executor_id):
                with self._rooms.database.write() as connection:
                    connection.execute(sa.delete(executors).where(executors.c.executor_id == executor_id))

    def _put_back_lost(self) -> None:
        """A job of this very worker that twice in a row does not run: an error of the database took it away."""
        out_of_sight = self._engine.jobs_out_of_sight()
        for job_id in out_of_sight & self._out_of_sight:
            self._engine.put_back(job_id)
            log.error("job_was_lost", job=job_id)
        self._out_of_sight = out_of_sight


def beat(database: Database, executor_id: str) -> None:
    with database.write() as connection:
        now = database_clock(connection)
        changed = connection.execute(_BEAT, {"of": executor_id, "seen_at": now})
        if not changed.rowcount:
            connection.execute(sa.insert(executors).values(executor_id=executor_id, seen_at=now))


def enter_missing(database: Database, at_work: Collection[str]) -> None:
    """Whoever has a job has a row. One that was silent for too long has lost its own with its jobs; when it then takes
    another job and dies before its next beat, nobody would know of it. Now its lease runs.
    """
    with database.write() as connection:
        now = database_clock(connection)
        known = set(connection.scalars(sa.select(executors.c.executor_id)))
        for executor_id in set(at_work) - known:
            connection.execute(sa.insert(executors).values(executor_id=executor_id, seen_at=now))


def dead_executors(database: Database, own_id: str, lease_s: float) -> list[str]:
    """Workers whose lease ran out, and those of this machine whose process is gone."""
    with database.read() as connection:
        now = database_clock(connection)
        others = connection.execute(_OTHERS, {"own": own_id}).all()
    return [row.executor_id for row in others if now - row.seen_at > lease_s or is_gone(row.executor_id)]


def try_alone(rooms: Rooms, suspected: Collection[str]) -> int:
    """Have every queued study whose newest job is among the suspected ones run once more, while no other suspect does;
    how many that were. Whose worker dies then as well is parked.
    """
    if not suspected:
        return 0
    tried = 0
    for study_id, job_id in studies.newest_jobs(rooms.database):
        if job_id in suspected:
            with rooms.database.write() as connection:
                if studies.is_queued(connection, study_id):
                    rooms.jobs.put_study(connection, study_id=study_id, attempt=1, is_suspect=True)
                    add_event(connection, study_id, "retry", "the worker died while this study and others were at work")
                    tried += 1
    return tried


def park_abandoned(rooms: Rooms, abandoned: Collection[str]) -> int:
    """Put aside every queued study whose newest job is among the abandoned ones; how many that were."""
    if not abandoned:  # the queue may be long
        return 0
    parked = 0
    for study_id, job_id in studies.newest_jobs(rooms.database):
        if job_id in abandoned:
            refusal = Refuse(
                f"its processing failed or took the worker down {MAXIMUM_RUNS} times",
                reason=Reason.KEEPS_FAILING,
                hint="see the worker's log; `collimator study UID --retry` tries it again",
            )
            with rooms.database.write() as connection:
                if not studies.is_queued(connection, study_id):
                    continue
                studies.put_aside(connection, study_id, refusal)
                clinic, study_instance_uid = studies.name_of(connection, study_id)
                release(connection, clinic=clinic, study_instance_uid=study_instance_uid)
            log.error("study_parked", study_id=study_id)
            parked += 1
    return parked


def wake_abandoned(rooms: Rooms, abandoned: Collection[str]) -> int:
    """Give every destination whose job is among the abandoned ones another job; how many that were."""
    woken = 0
    for outbox, job_id in outboxes.newest_drains(rooms.database):
        if job_id in abandoned:
            with rooms.database.write() as connection:
                after_bug(connection, rooms, outbox.clinic, outbox.destination, outbox.job)
            log.error("delivery_abandoned", clinic=outbox.clinic, where=outbox.destination, job=job_id)
            woken += 1
    return woken


def wake_held_for_quota(rooms: Rooms) -> int:
    """Queue the studies that waited for a new period or a larger plan, as far as there is quota, WOKEN_AT_ONCE at most;
    how many went.

    Where one of a clinic finds none, those behind it are not asked: there may be thousands.
    """
    woken = 0
    configured = {clinic.name for clinic in rooms.clinics}
    without: set[tuple[str, bool]] = set()
    for held in studies.held_for_quota(rooms.database):
        if woken == WOKEN_AT_ONCE:
            break
        if held.clinic not in configured or (held.clinic, held.is_stat) in without:
            continue
        with rooms.database.write() as connection:
            lock_clinic(connection, held.clinic)  # as everywhere, before the study's row
            if not studies.is_held(connection, held.study_id):
                continue
            if not reserve(
                connection,
                clinic=held.clinic,
                study_instance_uid=held.study_instance_uid,
                now=utc_now(),
                is_stat=held.is_stat,
            ):
                without.add((held.clinic, held.is_stat))
                continue
            studies.requeue(connection, held.study_id, "there is quota for it now")
            tier = rooms.clinic(held.clinic).tier
            queue_study(connection, rooms.jobs, study_id=held.study_id, clinic=held.clinic, tier=tier, stat=rooms.stat)
            woken += 1
    return woken


def close_periods(rooms: Rooms) -> None:
    """What cannot be billed for one clinic does not keep the others from it."""
    for clinic in rooms.clinics:
        try:
            close_ended_periods(rooms.database, [clinic], rooms.payers, now=utc_now())
        except Exception:
            log.exception("period_not_closed", clinic=clinic.name)


def clear_away(rooms: Rooms) -> None:
    """Remove what crashes left half written and, of what is kept for a time only, that whose time is over."""
    rooms.results.remove_leftovers()
    if rooms.run_retention is not None:
        forget_runs(rooms.database, after=rooms.run_retention)
    rooms.spool.trim_cache()
    try:
        rooms.results.move_out()
        if rooms.pixel_retention is not None:
            remove_delivered_pixels(rooms.database, rooms.spool, after=rooms.pixel_retention)
    except Away as away:
        log.warning("shared_store_away", error=away.message)


def forget_jobs(engine: Engine, rooms: Rooms) -> int:
    """Delete a portion of the jobs that ended long ago; how many. One that somebody still counts on is kept."""
    if rooms.job_retention is None:
        return 0

    def needed() -> set[str]:
        newest = {job_id for _, job_id in studies.newest_jobs(rooms.database)}
        return newest | {job_id for _, job_id in outboxes.newest_drains(rooms.database)}

    return engine.forget_jobs(utc_now() - rooms.job_retention, needed=needed)


def _process_table() -> str:
    """This boot and this process namespace: what a process id means something in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown-{secrets.token_hex(8)}"
