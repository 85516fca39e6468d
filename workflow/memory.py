"""What a job remembers of its steps: DBOS's own row for each, written on whatever connection the step has its rows on.

DBOS would write a step's rows, its memory of them and its memory of the step in three commits. The node's tables and
DBOS's are in one database, so one will do. A job that has lost its ownership meanwhile, to a worker that took it over,
is stopped by the row that it cannot write, and nothing of the step stays.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS
from dbos._sys_db import OperationResultInternal

from storage.jobs import serializer

FORMAT = serializer()


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

    def __init__(self, dbos: DBOS, job_id: str) -> None:
        self._rows = dbos._sys_db
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
        """Remember the outcome, if `connection` commits."""
        row = OperationResultInternal(
            workflow_uuid=self._job_id,
            function_id=step.number,
            function_name=step.name,
            output=FORMAT.serialize(outcome),
            error=None,
            serialization=FORMAT.name(),
            started_at_epoch_ms=step.began,
            child_workflow_id=None,
        )
        # It names the schema of its tables only while a statement runs.
        names = self._rows.engine.get_execution_options()["schema_translate_map"]
        self._rows._record_operation_result_txn(
            row, _now_ms(), connection.execution_options(schema_translate_map=names)
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
        steps = self._rows.tables.operation_outputs.c
        of_this_job = sa.select(steps.function_id, steps.function_name, steps.output)
        with self._rows.engine.connect() as connection:
            for number, name, output in connection.execute(of_this_job.where(steps.workflow_uuid == self._job_id)):
                yield number, (name, FORMAT.deserialize(output))


def _now_ms() -> int:
    return round(time.time() * 1000)
