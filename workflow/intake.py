"""Sees that a study is complete and starts its one durable job."""

import threading
from datetime import datetime

import structlog

from domain.completion import CompletionRules
from domain.plans import Tier
from domain.queueing import StatRules
from storage.database import Database, utc_now
from storage.jobs import JobQueue
from storage.queueing import queue_study
from storage.studies import close_study, open_studies

log = structlog.get_logger()

# So often it looks for what has come to the database; a study is closed when its time has come.
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
        self._next_moment: datetime | None = None
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
        self._next_moment = None  # nor does it look again at once when this fails
        studies = open_studies(self._database, self._rules)
        self._next_moment = studies.next_moment
        for study in studies.complete:
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
        while True:
            try:
                self.close_complete_studies()
            except Exception:
                log.exception("intake_failed")
            if self._stopping.wait(self._pause_s()):
                return

    def _pause_s(self) -> float:
        if self._next_moment is None:
            return POLL_S
        return min(POLL_S, max(0.0, (self._next_moment - utc_now()).total_seconds()))
