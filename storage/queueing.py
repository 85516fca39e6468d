"""Puts a study into the queue, at the place that it deserves."""

import sqlalchemy as sa

from domain.plans import Tier
from domain.queueing import StatRules, why_stat
from storage import studies
from storage.events import add_event
from storage.jobs import JobQueue
from storage.queue_order import give_place


def queue_study(
    connection: sa.Connection, jobs: JobQueue, *, study_id: int, clinic: str, tier: Tier, stat: StatRules
) -> None:
    """Its first job, or the first one after it was held."""
    why = why_stat(
        stat,
        clinic=clinic,
        calling_ae_title=studies.calling_ae_title_of(connection, study_id),
        facts=studies.facts_of(connection, study_id),
    )
    if why:
        add_event(connection, study_id, "stat", why)
    give_place(connection, study_id, clinic=clinic, tier=tier, is_stat=bool(why))
    jobs.put_study(connection, study_id=study_id, attempt=1)
