"""What a job remembers of its steps: DBOS's own row for each, written on whatever connection the step has its rows on.

DBOS would write a step's rows, its memory of them and its memory of the step in three commits. The node's tables and
DBOS's are in one database, so one will do. A job that has lost its ownership meanwhile, to a worker that took it over,
is stopped by the row that it cannot write, and nothing of the step stays.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from dbos._context import current_owner_xid
from dbos._error import DBOSWorkflowConflictIDError

from storage.database import Database
from storage.jobs import APPLICATION_NAME, schema_of, serializer

FORMAT = serializer()
_COLUMNS = (
    "workflow_uuid",
    "function_id",
    "function_name",
    "output",
    "serialization",
    "started_at_epoch_ms",
    "completed_at_epoch_ms",
    "retention_timestamp",
    "application_name",
)


class OtherSteps(Exception):
    """The job began under a version of the software that had other steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """`number` counts a job's steps from 1. `began`: milliseconds since 1970."""

    number: int
    name: str
    began: int


class Memory:
    """Of one job, as long as it runs here."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._rows = _rows_in(schema_of(database))
        self._job_id = job_id
        self._last = 0
        self._outcomes: dict[int, tuple[str, Any]] | None = None

    def next_step(self, name: str) -> Step:
        self._last += 1
        return Step(number=self._last, name=name, began=_now_ms())

    def recall(self, step: Step) -> Any | None:
        """The step's outcome; None: it has not been done.

        Raises:
            OtherSteps: something else was done in its place.
        """
        if self._outcomes is None:
            self._outcomes = dict(self._read())
        name, outcome = self._outcomes.get(step.number, (step.name, None))
        if name != step.name:
            raise OtherSteps(f"{self._job_id} has done {name!r} as its step {step.number}, not {step.name!r}")
        return outcome

    def keep(self, connection: sa.Connection, step: Step, outcome: Any) -> None:
        """Remember the outcome, if `connection` commits. Nobody takes the job over before that.

        Raises:
            DBOSWorkflowConflictIDError: somebody has. DBOS knows what to do then.
        """
        owner = connection.scalar(self._rows.owner, {"job": self._job_id})
        if owner != current_owner_xid(self._job_id):
            raise DBOSWorkflowConflictIDError(self._job_id)
        now = _now_ms()
        connection.execute(
            self._rows.keep,
            {
                "workflow_uuid": self._job_id,
                "function_id": step.number,
                "function_name": step.name,
                "output": FORMAT.serialize(outcome),
                "serialization": FORMAT.name(),
                "started_at_epoch_ms": step.began,
                "completed_at_epoch_ms": now,
                "retention_timestamp": now,
                "application_name": APPLICATION_NAME,
            },
        )

    @contextmanager
    def unsure_after_errors(self) -> Iterator[None]:
        """An error of the database does not say whether the step was committed: ask again."""
        try:
            yield
        except sa.exc.DBAPIError:
            self._outcomes = None
            raise

    def _read(self) -> Iterator[tuple[int, tuple[str, Any]]]:
        with self._database.read() as connection:
            for number, name, output in connection.execute(self._rows.outcomes, {"job": self._job_id}):
                yield number, (name, FORMAT.deserialize(output))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """DBOS's, as far as a step has to do with them."""

    outcomes: sa.Select[*tuple[Any, ...]]
    owner: sa.Select[str]
    keep: sa.Insert


@cache
def _rows_in(schema: str | None) -> _Rows:
    """DBOS would build these anew for every step, which takes longer than all that they do."""
    jobs = sa.table("workflow_status", sa.column("workflow_uuid"), sa.column("owner_xid"), schema=schema)
    steps = sa.table("operation_outputs", *(sa.column(name) for name in _COLUMNS), schema=schema)
    this_job: sa.BindParameter[str] = sa.bindparam("job")
    return _Rows(
        outcomes=sa.select(steps.c.function_id, steps.c.function_name, steps.c.output).where(
            steps.c.workflow_uuid == this_job
        ),
        owner=sa.select(jobs.c.owner_xid).where(jobs.c.workflow_uuid == this_job).with_for_update(key_share=True),
        keep=sa.insert(steps),
    )


def _now_ms() -> int:
    return round(time.time() * 1000)
