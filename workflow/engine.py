"""Runs durable jobs on DBOS; with memory.py and storage/jobs.py the only place that knows its name (docs/adr/0002).

DBOS keeps the jobs in the node's own database, and memory.py their steps. What is ours: results and expected errors are
kept as plain JSON, a step's name is told to `on_step` when it is done, and a bug in a job ends that attempt, not the
worker.

    every POLL_S        ┐
    a job has ended     ┴─>  is there a job?  ──yes──┐
    this process has put a job                       ┴─>  look into that queue  ->  start what fits

DBOS only looks every so often, and each look costs as much as ten statements of ours. So we run its queues' threads
ourselves, each with an event on which it waits to be woken.

What DBOS itself writes, how a job begins and ends, is durable a moment later than it says, on SQLite: after a power
failure a job may be run again, and finds its steps done.
"""

import threading
from collections.abc import Callable, Collection
from datetime import datetime
from types import NoneType
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSConfig
from dbos._core import ActiveWorkflowById
from dbos._queue import Queue, queue_worker_thread

from domain.errors import Away, Refuse, Retry
from storage.alarm import Alarm
from storage.database import Database, is_away
from storage.jobs import (
    APPLICATION_NAME,
    APPLICATION_VERSION,
    DESTINATION_QUEUE,
    PROCESS_STUDY,
    SCHEMA,
    SHADOW_QUEUE,
    STUDY_QUEUE,
    SUSPECT_QUEUE,
    WITHDRAWAL_QUEUE,
    jobs_claimed,
    queues_with_jobs,
    serializer,
)
from storage.periodic import Periodic
from storage.plain import from_plain, to_plain
from workflow.durable import Entry, remember
from workflow.memory import Memory, OtherSteps, Step

log = structlog.get_logger()

T = TypeVar("T")
P = ParamSpec("P")

# Between two questions whether there is a job that another process has put.
POLL_S = 0.25
# Between two looks of DBOS's own, which find nothing new. It keeps this number in the database, and a worker of an
# earlier version, which has no other looks, goes by it.
UNASKED_S = 10.0
# A job that took its worker down with it this often is left alone (workflow/recovery.py parks its study).
MAXIMUM_RUNS = 3
# Who dies takes all down that run beside it. So the last of a study's runs is one among suspects, who take turns.
RUNS_IN_COMPANY = MAXIMUM_RUNS - 1
SUSPECTS_AT_ONCE = 1
# Jobs that are deleted at once: some milliseconds.
FORGOTTEN_AT_ONCE = 500
# One job holds one destination. A destination that hangs keeps its thread until it times out, and a thread that waits
# for a socket costs next to nothing: there have to be more of them than destinations that hang at the same time.
DESTINATIONS_AT_ONCE = 64
# What only watches takes turns, and nobody waits for it.
SHADOWS_AT_ONCE = 1
# Some milliseconds each, and rarely one.
WITHDRAWALS_AT_ONCE = 1
# For the queues, checkpoints and notifications of one worker, on a server.
CONNECTIONS = 20
RUN_TOO_OFTEN = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
GIVEN_UP = [RUN_TOO_OFTEN, "ERROR"]

OnBug = Callable[[sa.Connection, tuple[Any, ...]], None]
# What is remembered of a step: its value or its expected error, as plain JSON.
Outcome = dict[str, Any]


class Engine:
    """One worker's engine: register the jobs, start, stop. It is also the `Durable` that jobs are given."""

    def __init__(
        self,
        database: Database,
        *,
        executor_id: str,
        studies_at_once: int,
        on_step: Callable[[str], None] = lambda name: None,
        poll_s: float = POLL_S,
    ) -> None:
        self._database = database
        self._executor_id = executor_id
        self._at_work: set[str | None] = set()
        self._here = threading.local()  # the memory of the job that runs in this thread
        self._library_engine = database.library_engine(connections=CONNECTIONS)
        self._on_step = on_step
        self._watch = Periodic("watch", self._look_where_jobs_are, period_s=poll_s)
        self._unasked_s = max(poll_s, UNASKED_S)
        self._jobs_at_once = {
            STUDY_QUEUE: studies_at_once,
            SUSPECT_QUEUE: SUSPECTS_AT_ONCE,
            DESTINATION_QUEUE: DESTINATIONS_AT_ONCE,
            SHADOW_QUEUE: SHADOWS_AT_ONCE,
            WITHDRAWAL_QUEUE: WITHDRAWALS_AT_ONCE,
        }
        self._alarms = {queue: Alarm() for queue in self._jobs_at_once}
        self._running = _Running(lambda queue: jobs_claimed(database, queue, executor_id), self._watch.wake)
        self._dbos = DBOS(
            config=DBOSConfig(
                name=APPLICATION_NAME,
                system_database_url=database.url,
                system_database_engine=self._library_engine,
                dbos_system_schema=SCHEMA,
                application_version=APPLICATION_VERSION,
                executor_id=executor_id,
                serializer=serializer(),
                log_level="WARNING",
                use_listen_notify=False,  # jobs tell each other nothing; its thread would wake a hundred times a second
            )
        )
        self._dbos._active_workflows_set = self._running

    def register(self, name: str, job: Callable[..., None], *, on_bug: OnBug, runs: int = MAXIMUM_RUNS) -> None:
        """Make `job` known under `name`. An unexpected error in it is logged, and `on_bug` decides what comes next.
        It is given up when it took its worker down with it in so many `runs`.
        """

        def run(*arguments: Any) -> None:
            log.debug("job_begins", job=name)
            job_id = str(DBOS.workflow_id)
            self._at_work.add(job_id)
            self._here.memory = Memory(self._database, job_id)
            try:
                job(*arguments)
            except Exception:
                log.exception("job_failed", job=name)
                self._after_bug(on_bug, arguments)
            finally:
                self._at_work.discard(job_id)

        DBOS.workflow(name=name, max_recovery_attempts=runs - 1)(run)

    def start(self) -> None:
        DBOS.listen_queues([])  # DBOS's own threads would look into them as well, each as if it were the only one
        DBOS.launch()
        for name, at_once in self._jobs_at_once.items():
            queue = DBOS.register_queue(
                name, worker_concurrency=at_once, polling_interval_sec=self._unasked_s, on_conflict="always_update"
            )
            # Else it would ask the database for it before each look, and go by what the last worker has written there.
            queue.database_backed_queue = False
            alarm = self._alarms[name]
            # What is registered so is stopped and waited for with DBOS's own threads.
            self._dbos._registry.register_poller(alarm, _follow, alarm, self._dbos, queue)
        self._watch.start()

    def look(self, queue: str) -> None:
        """There is something new in the queue, or room for it: look there now, rather than when it is time to.

        Where there is no room, the next job that ends has it looked into.
        """
        if self._running.begun_of(queue) < self._jobs_at_once[queue]:
            self._alarms[queue].wake()

    def stop(self, *, grace_s: int) -> int:
        """Start nothing more and let running jobs finish for `grace_s`. How many are left: they go on elsewhere or
        later, and their threads stay until this process ends.
        """
        self._watch.stop()
        DBOS.destroy(workflow_completion_timeout_sec=grace_s)
        self._library_engine.dispose()
        return len(self._at_work)

    def recover(self, executor_id: str) -> int:
        """Put the unfinished jobs of a dead worker back in the queue; return how many there were.

        DBOS sells this as a service and keeps the call private; it re-queues only what is still that executor's.
        """
        return len(DBOS._recover_pending_workflows([executor_id]))

    def has_unfinished(self, executor_id: str) -> bool:
        return bool(DBOS.list_workflows(status="PENDING", executor_id=[executor_id], limit=1, load_input=False))

    def executors_at_work(self) -> set[str]:
        """Whose jobs have begun and not ended, whether they still live or not."""
        return {str(job.executor_id) for job in DBOS.list_workflows(status="PENDING", load_input=False)}

    def jobs_out_of_sight(self) -> set[str]:
        """Jobs of this worker that do not run in it: they begin or end just now, or ended and could not say so."""
        own = DBOS.list_workflows(status="PENDING", executor_id=[self._executor_id], load_input=False)
        return {job.workflow_id for job in own} - self._at_work

    def put_back(self, job_id: str) -> None:
        """Run it again, behind its last finished step."""
        DBOS.resume_workflow(job_id)

    def abandoned_jobs(self) -> list[str]:
        """The names of jobs that nobody will run again: they failed for good, or took too many workers down."""
        given_up = DBOS.list_workflows(status=GIVEN_UP, load_input=False, load_output=False)
        return [job.workflow_id for job in given_up]

    def suspected_jobs(self) -> set[str]:
        """Those of the abandoned jobs whose workers died while they ran beside others, which may have done it."""
        given_up = DBOS.list_workflows(status=RUN_TOO_OFTEN, name=PROCESS_STUDY, load_input=False, load_output=False)
        return {job.workflow_id for job in given_up}

    def forget_jobs(self, ended_before: datetime, *, needed: Callable[[], Collection[str]]) -> int:
        """Delete some of the jobs that ended before then, the oldest first; how many.

        needed: names of jobs that must stay although they were given up; asked for only when some were.
        What has not ended stays whatever its age.
        """
        names = _ended(["SUCCESS", "CANCELLED"], ended_before, limit=FORGOTTEN_AT_ONCE)
        if given_up := _ended(GIVEN_UP, ended_before):
            kept = needed()
            names += [name for name in given_up if name not in kept]
        names = names[:FORGOTTEN_AT_ONCE]
        if names:
            DBOS.delete_workflows(names)
        return len(names)

    def transaction(
        self, name: str, work: Callable[Concatenate[sa.Connection, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """See workflow.durable.Durable."""

        def entry(connection: sa.Connection) -> None:
            work(connection, *args, **kwargs)

        self.enter(name, NoneType, lambda: entry)

    def enter(
        self, name: str, returns: type[T], prepare: Callable[P, Entry[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See workflow.durable.Durable."""
        memory: Memory = self._here.memory
        step = memory.next_step(name)
        outcome = self._database.patiently(lambda: memory.recall(step))
        if outcome is None:
            try:
                entry = self._database.patiently(lambda: prepare(*args, **kwargs))
                outcome = self._entered(memory, step, lambda rows: {"value": to_plain(entry(rows), returns)})
            except (Refuse, Retry) as error:
                outcome = self._entered(memory, step, remember(_told(error)))
        self._on_step(name)
        return from_plain(returns, _value(outcome))

    def _entered(self, memory: Memory, step: Step, outcome_of: Entry[Outcome]) -> Outcome:
        def enter(connection: sa.Connection) -> Outcome:
            outcome = outcome_of(connection)
            memory.keep(connection, step, outcome)
            return outcome

        def enter_unless_it_is() -> Outcome:
            with memory.unsure_after_errors():
                return memory.recall(step) or self._database.alone(enter)

        return self._database.patiently(enter_unless_it_is)

    def _look_where_jobs_are(self) -> None:
        """Those that had no room yet, that other processes have put, that were to run later, or that were left over."""
        for queue in queues_with_jobs(self._database, list(self._jobs_at_once)):
            self.look(queue)

    def _after_bug(self, on_bug: OnBug, arguments: tuple[Any, ...]) -> None:
        """What is done is remembered by the job, unless that began under other steps: it cannot remember any more."""
        try:
            self.transaction("after a bug", on_bug, arguments)
        except OtherSteps:
            with self._database.write() as connection:
                on_bug(connection, arguments)


class _Running(ActiveWorkflowById):
    """DBOS's list of the jobs that run in this process; tells when one of them has ended.

    A job enters the list in a thread of its own, which on a busy machine comes to it late. So that the next look does
    not take its place for room, a job counts from when it is claimed.
    """

    def __init__(self, claimed: Callable[[str], int], on_end: Callable[[], None]) -> None:
        super().__init__()
        self._claimed = claimed
        self._on_end = on_end

    def count_for_queue(self, queue_name: str) -> int:
        # One that another worker has taken over is no longer claimed by this one, and still runs here until it notices.
        return max(super().count_for_queue(queue_name), self._claimed(queue_name))

    def begun_of(self, queue_name: str) -> int:
        return super().count_for_queue(queue_name)

    def _remove(self, key: str, bucket: tuple[str, str | None] | None) -> None:
        super()._remove(key, bucket)
        if bucket is not None:
            self._on_end()


def _follow(alarm: Alarm, dbos: DBOS, queue: Queue) -> None:
    """Start what is in the queue, as far as there is room, until the alarm is set."""
    while not alarm.is_set():
        try:
            queue_worker_thread(alarm, dbos, queue)
        except Exception as error:
            if is_away(error):
                log.warning("database_away", job=queue.name, error=type(error).__name__)
            else:
                log.exception("queue_failed", job=queue.name)
        alarm.wait(POLL_S)


def _ended(statuses: list[str], before: datetime, limit: int | None = None) -> list[str]:
    """Names of jobs with these statuses, the oldest first. They were also put before then: that column has an index."""
    jobs = DBOS.list_workflows(
        status=statuses,
        end_time=before.isoformat(),
        completed_before=before.isoformat(),
        limit=limit,
        load_input=False,
        load_output=False,
    )
    return [job.workflow_id for job in jobs]


def _told(error: Refuse | Retry) -> Outcome:
    """An expected error as an outcome, so that it is remembered like a value."""
    match error:
        case Refuse():
            return {"refuse": {"message": error.message, "reason": str(error.reason), "hint": error.hint}}
        case Away():
            return {"away": {"message": error.message, "hint": error.hint}}
        case Retry():
            return {"retry": {"message": error.message, "hint": error.hint}}


def _value(outcome: Outcome) -> Any:
    match outcome:
        case {"refuse": {"message": message, "reason": reason, "hint": hint}}:
            raise Refuse(message, reason=reason, hint=hint)
        case {"away": {"message": message, "hint": hint}}:
            raise Away(message, hint=hint)
        case {"retry": {"message": message, "hint": hint}}:
            raise Retry(message, hint=hint)
        case _:
            return outcome["value"]
