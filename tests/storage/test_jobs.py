"""Jobs are in the queue with the rows they are about, or not at all, and none replaces another."""

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.intake import record_instances
from storage.jobs import DESTINATION_QUEUE, STUDY_QUEUE, JobQueue, migrate_jobs, queues_with_jobs
from tests.factories.arrivals import NO_SPOOL, arrival


@pytest.fixture
def queue(database: Database) -> JobQueue:
    migrate_jobs(database)
    return JobQueue(database)


def queued(database: Database) -> list[str]:
    table = "workflow_status" if database.is_sqlite else "dbos.workflow_status"
    with database.read() as connection:
        return list(connection.scalars(sa.text(f"SELECT name FROM {table} ORDER BY created_at")))


def test_each_job_for_a_destination_is_one_of_its_own(database: Database, queue: JobQueue) -> None:
    for number in (1, 2):
        with database.write() as connection:
            queue.put_drain(connection, clinic="st-mary", destination="pacs", number=number)
    assert queued(database) == ["drain", "drain"]


def test_each_run_of_a_study_is_a_job_of_its_own(database: Database, queue: JobQueue) -> None:
    study_id = record_instances(database, NO_SPOOL, [arrival("k1")])[0].study_id or 0
    for attempt in (1, 2, 1):
        with database.write() as connection:
            queue.put_study(connection, study_id=study_id, attempt=attempt)
    assert queued(database) == ["process_study"] * 3


def test_a_job_is_not_there_when_its_rows_are_not(database: Database, queue: JobQueue) -> None:
    def cut_short() -> None:
        with database.write() as connection:
            queue.put_drain(connection, clinic="st-mary", destination="pacs", number=1)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut_short()
    assert queued(database) == []


def test_a_queue_has_jobs_when_one_of_them_may_run_now(database: Database, queue: JobQueue) -> None:
    def asked() -> list[str]:
        return queues_with_jobs(database, [STUDY_QUEUE, DESTINATION_QUEUE])

    assert asked() == []
    with database.write() as connection:
        queue.put_drain(connection, clinic="st-mary", destination="pacs", number=1, delay_s=600.0)
    assert asked() == []
    with database.write() as connection:
        queue.put_drain(connection, clinic="st-mary", destination="pacs", number=2)
    assert asked() == [DESTINATION_QUEUE]
