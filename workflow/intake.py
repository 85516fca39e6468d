"""Sees that a study is complete and starts its one durable job."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import structlog

from domain.completion import CompletionRules
from domain.plans import Tier
from domain.queueing import StatRules
from storage.database import Database, utc_now
from storage.jobs import JobQueue
from storage.periodic import Periodic
from storage.queueing import queue_study
from storage.studies import OpenStudy, close_study, open_studies

log = structlog.get_logger()

# So often it looks for what has come to the database; a study is closed when its time has come.
POLL_S = 0.25
# But not more often than this: what comes in a stream is closed together.
LEAST_PAUSE_S = 0.05
# In one transaction: a disk makes some hundred of them durable each second, for all who write.
TOGETHER = 5


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
        self._not_configured: set[str] = set()  # clinics of which it was said
        self._thread = Periodic("intake", self.close_complete_studies, period_s=self._pause_s)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def close_complete_studies(self) -> int:
        """Start a job for every study that is complete now, as far as that goes in the time of one look; how many.

        The clinics take turns: whoever sends thousands at once must not keep the others' studies from the queue.
        """
        started = 0
        self._next_moment = None  # nor does it look again at once when this fails
        studies = open_studies(self._database, self._rules)
        self._next_moment = studies.next_moment
        ends_at = utc_now() + timedelta(seconds=POLL_S)
        turns = _in_turns(self._of_known_clinics(studies.complete))
        for first in range(0, len(turns), TOGETHER):
            started += self._close(turns[first : first + TOGETHER])
            if utc_now() > ends_at:
                self._next_moment = ends_at
                break
        return started

    def _of_known_clinics(self, studies: Iterable[OpenStudy]) -> Iterator[OpenStudy]:
        for study in studies:
            if study.clinic in self._tiers:
                yield study
            elif study.clinic not in self._not_configured:
                self._not_configured.add(study.clinic)
                log.error("clinic_not_configured", clinic=study.clinic, study_id=study.study_id)

    def _close(self, studies: Iterable[OpenStudy]) -> int:
        closed = []
        with self._database.write() as connection:
            # In one order, so that two workers never wait for each other's clinics.
            for study in sorted(studies, key=lambda study: (study.clinic, study.study_id)):
                if close_study(connection, study, self._rules):
                    queue_study(
                        connection,
                        self._jobs,
                        study_id=study.study_id,
                        clinic=study.clinic,
                        tier=self._tiers[study.clinic],
                        stat=self._stat,
                    )
                    closed.append(study)
        for study in closed:
            log.info("study_complete", study_id=study.study_id, reason=study.reason)
        return len(closed)

    def _pause_s(self) -> float:
        if self._next_moment is None:
            return POLL_S
        return min(POLL_S, max(LEAST_PAUSE_S, (self._next_moment - utc_now()).total_seconds()))


def _in_turns(studies: Iterable[OpenStudy]) -> list[OpenStudy]:
    """The first study of each clinic, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for study in studies:
        turns.append((seen[study.clinic], study))
        seen[study.clinic] += 1
    return [study for _, study in sorted(turns, key=lambda turn: turn[0])]
