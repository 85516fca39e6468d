"""Follows what modalities said by MPPS into the database, where the completion of studies looks at it."""

import structlog

from storage.database import Database
from storage.procedure_steps import record_steps
from storage.retention import forget_steps
from storage.step_folder import StepFolder
from workflow.periodic import Periodic

log = structlog.get_logger()

POLL_S = 0.5
CARE_EVERY = 7200  # polls: an hour


class ProcedureSteps:
    """Part of each worker; several workers share the work."""

    def __init__(self, database: Database, folder: StepFolder) -> None:
        self._database = database
        self._folder = folder
        self._polls = 0
        self._thread = Periodic("procedure_steps", self.work, period_s=POLL_S)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def work(self) -> None:
        """Bring in what waits; now and then, forget steps that ended long ago."""
        record_steps(self._database, self._folder.changes)
        if self._polls % CARE_EVERY == 0:
            self._folder.remove_leftovers()
            self._folder.forget_old_steps()
            forget_steps(self._database)
        self._polls += 1
