"""Sees that a study is complete and starts its one durable job."""

import threading

import structlog

from domain.completion import CompletionRules
from domain.plans import Tier
from domain.queueing import StatRules
from storage.database import Database
from storage.jobs import JobQueue
from storage.queueing import queue_study
from storage.studies import close_study, complete_studies

log = structlog.get_logger()

POLL_S = 0.25


class Intake:
    """One background thread in each worker; two workers never start the same study twice."""

    def __init__(
        self, database: Database, jobs: JobQueue, *, rules: CompletionRules, tiers: dict[str, Tier], stat: StatRules
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._rules = rules
        self._tiers = tiers
        self._stat = stat
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def close_complete_studies(self) -> int:
        """Start a job for every study that is complete now; the number of jobs started."""
        started = 0
        for study in complete_studies(self._database, self._rules):
            tier = self._tiers.get(study.clinic)
            if tier is None:
                log.error("clinic_not_configured", clinic=study.clinic, study_id=study.study_id)
                continue
            with self._database.write() as connection:
                if close_study(connection, study, self._rules):
                    queue_study(
                        connection,
                        self._jobs,
                        study_id=study.study_id,
                        clinic=study.clinic,
                        tier=tier,
                        stat=self._stat,
                    )
                    started += 1
                    log.info("study_complete", study_id=study.study_id, reason=study.reason)
        return started

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                self.close_complete_studies()
            except Exception:
                log.exception("intake_failed")
