"""Puts durable jobs in the queue. The engine behind it is DBOS, whose name only this file and workflow/ know.

A job is put in the same transaction as the rows it is about: either both are there or neither is.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions

from domain.queueing import ORDINARY_PRIORITY
from storage.database import Database
from storage.tables import studies

APPLICATION_NAME = "collimator"
# Work in flight belongs to this version. Raise it only with a plan for what is in flight (docs/adr/0002).
APPLICATION_VERSION = "1"
SCHEMA = "dbos"
STUDY_QUEUE = "studies"
# Studies in whose company workers died: one at a time.
SUSPECT_QUEUE = "suspects"
DESTINATION_QUEUE = "destinations"
SHADOW_QUEUE = "shadows"
WITHDRAWAL_QUEUE = "withdrawals"
PROCESS_STUDY = "process_study"
PROCESS_SUSPECT = "process_suspect"  # the same, in the other queue
DRAIN = "drain"
SHADOW = "shadow"
WITHDRAW = "withdraw"
# In a connection's `info`, until it goes back to its pool: the queues into which its transaction has put something.
_PUT_IN = "collimator put jobs in"
_COUNT_JOB = (
    sa.update(studies)
    .where(studies.c.id == sa.bindparam("of"))
    .values(jobs=studies.c.jobs + 1)
    .returning(studies.c.jobs, studies.c.priority)
)


def serializer() -> DBOSPortableJSONSerializer:
    """Checkpoints are JSON: whoever can write to the database must not be able to run code through a pickle."""
    return DBOSPortableJSONSerializer()


def migrate_jobs(database: Database) -> None:
    """Bring the engine's own tables to its version. A worker on the embedded database does it by itself."""
    DBOS.migrate(database.url, schema=SCHEMA)


def queues_with_jobs(database: Database, names: Sequence[str]) -> list[str]:
    """Those of these queues in which a job waits that is to run now: one statement, where the engine's look takes three
    in two transactions.
    """
    question = _has_jobs(schema_of(database), tuple(names))
    with database.read() as connection:
        answers = connection.execute(question).one()
    return [name for name, has_jobs in zip(names, answers, strict=True) if has_jobs]


def jobs_claimed(database: Database, queue: str, executor_id: str) -> int:
    """How many jobs of the queue this worker has claimed and not ended, whether they have come to begin or not."""
    question = _claimed(schema_of(database))
    with database.read() as connection:
        return connection.execute(question, {"queue": queue, "executor": executor_id}).scalar_one()


@cache
def _has_jobs(schema: str | None, queues: tuple[str, ...]) -> sa.Select[*tuple[Any, ...]]:
    jobs = _jobs(schema)
    return sa.select(
        *(
            sa.exists().where(jobs.c.queue_name == queue, jobs.c.status == "ENQUEUED", _in_flight(jobs))
            for queue in queues
        )
    )


@cache
def _claimed(schema: str | None) -> sa.Select[int]:
    jobs = _jobs(schema)
    return (
        sa.select(sa.func.count())
        .select_from(jobs)
        .where(jobs.c.queue_name == sa.bindparam("queue"), jobs.c.status == "PENDING", _in_flight(jobs))
        .where(jobs.c.executor_id == sa.bindparam("executor"))
    )


def _jobs(schema: str | None) -> sa.TableClause:
    return sa.table(
        "workflow_status", sa.column("queue_name"), sa.column("status"), sa.column("executor_id"), schema=schema
    )


def _in_flight(jobs: sa.TableClause) -> sa.ColumnElement[bool]:
    """Written out, so that SQLite sees that its index is about these."""
    return jobs.c.status.in_([sa.literal_column("'ENQUEUED'"), sa.literal_column("'PENDING'")])


def schema_of(database: Database) -> str | None:
    """Where the engine's tables lie."""
    return None if database.is_sqlite else SCHEMA


def study_job_id(study_id: int, number: int) -> str:
    """The name of a study's job; `number` counts the jobs that were ever put for it."""
    return f"study:{study_id}:{number}"


def shadow_job_id(study_id: int, number: int, attempt: int) -> str:
    """The name of a shadow's job for what a study's job of this number has analysed."""
    return f"shadow:{study_id}:{number}:{attempt}"


def withdrawal_job_id(study_id: int, number: int) -> str:
    """The name of a job that takes back what was sent of a study; `number` counts as in `study_job_id`."""
    return f"{WITHDRAW}:{study_id}:{number}"


def withdrawn_by(job_id: str) -> int | None:
    """The id of the study that the job of this name takes back; None: it is another kind of job."""
    kind, study_id, *_ = f"{job_id}:".split(":")
    return int(study_id) if kind == WITHDRAW else None


def drain_job_id(clinic: str, destination: str, number: int) -> str:
    """The name of a destination's job; `number` counts the jobs that were ever put for it."""
    return f"drain:{clinic}:{destination}:{number}"


class JobQueue:
    """Enqueues jobs inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._pool = database.engine.pool
        self._client = DBOSClient(
            system_database_engine=database.engine,
            dbos_system_schema=SCHEMA,
            serializer=serializer(),
            application_name=APPLICATION_NAME,
            lazy=True,
        )

    def put_study(
        self,
        connection: sa.Connection,
        *,
        study_id: int,
        attempt: int,
        delay_s: float = 0.0,
        is_suspect: bool = False,
    ) -> None:
        """One run of `process_study`, at the study's place. `attempt` counts the runs in a row that ended in Retry,
        from 1.
        """
        study = connection.execute(_COUNT_JOB, {"of": study_id}).one()
        options = EnqueueOptions(
            workflow_name=PROCESS_SUSPECT if is_suspect else PROCESS_STUDY,
            queue_name=SUSPECT_QUEUE if is_suspect else STUDY_QUEUE,
            workflow_id=study_job_id(study_id, study.jobs),
            app_version=APPLICATION_VERSION,
            priority=study.priority,
        )
        self._put(connection, options, delay_s, study_id, attempt)

    def put_drain(
        self, connection: sa.Connection, *, clinic: str, destination: str, number: int, delay_s: float = 0.0
    ) -> None:
        """Bring what is pending to one destination. storage/outboxes.py counts these jobs and calls this."""
        options = EnqueueOptions(
            workflow_name=DRAIN,
            queue_name=DESTINATION_QUEUE,
            workflow_id=drain_job_id(clinic, destination, number),
            app_version=APPLICATION_VERSION,
            priority=ORDINARY_PRIORITY,
        )
        self._put(connection, options, delay_s, clinic, destination, number)

    def put_shadow(self, connection: sa.Connection, *, study_id: int, attempt: int, delay_s: float = 0.0) -> None:
        """Let the versions that only watch look at a study. `attempt` counts from 1."""
        number = connection.scalars(sa.select(studies.c.jobs).where(studies.c.id == study_id)).one()
        options = EnqueueOptions(
            workflow_name=SHADOW,
            queue_name=SHADOW_QUEUE,
            workflow_id=shadow_job_id(study_id, number, attempt),
            app_version=APPLICATION_VERSION,
            priority=ORDINARY_PRIORITY,
        )
        self._put(connection, options, delay_s, study_id, attempt)

    def put_withdrawal(self, connection: sa.Connection, *, study_id: int, delay_s: float = 0.0) -> None:
        """Take back what was sent of a study that is withdrawn."""
        number = connection.execute(_COUNT_JOB, {"of": study_id}).one().jobs
        options = EnqueueOptions(
            workflow_name=WITHDRAW,
            queue_name=WITHDRAWAL_QUEUE,
            workflow_id=withdrawal_job_id(study_id, number),
            app_version=APPLICATION_VERSION,
            priority=ORDINARY_PRIORITY,
        )
        self._put(connection, options, delay_s, study_id)

    def on_put(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the queue's name when this process has put a job that is to run now.

        That is when the connection goes back to its pool, and so never before the job is committed. When the
        transaction was rolled back it is told all the same.
        """

        def after_transaction(_connection: object, record: Any) -> None:
            for queue in record.info.pop(_PUT_IN, ()):
                tell(queue)

        sa.event.listen(self._pool, "checkin", after_transaction)

    def _put(self, connection: sa.Connection, options: EnqueueOptions, delay_s: float, *arguments: object) -> None:
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        else:
            connection.info.setdefault(_PUT_IN, set()).add(options["queue_name"])
        self._client.enqueue_in_transaction(connection, options, *arguments)
