"""The engine looks when there is something to see. What of DBOS is private would fail here if it changed.

It asks every ten minutes what others have put, so whatever is started was not found that way, unless a test says so.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dbos import DBOS
from dbos._core import ActiveWorkflowById, ActiveWorkflowEntry

import workflow.engine
from domain.plans import Tier
from domain.queueing import StatRules
from storage.database import Database
from storage.intake import record_instances
from storage.jobs import DRAIN, PROCESS_STUDY, STUDY_QUEUE, JobQueue, migrate_jobs
from storage.queueing import queue_study
from tests.factories.arrivals import NO_SPOOL, arrival
from tests.journeys.house import wait_until
from workflow.engine import Engine

SELDOM_S = 600.0
AT_ONCE = 2


@pytest.fixture
def database(each_database: Database) -> Database:
    migrate_jobs(each_database)
    return each_database


class Work:
    """What jobs do here: they say that they began, and stay until they may end."""

    def __init__(self) -> None:
        self.begun: list[tuple[object, ...]] = []
        self.may_end = threading.Semaphore(0)

    def __call__(self, *arguments: object) -> None:
        self.begun.append(arguments)
        self.may_end.acquire(timeout=60)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def poll_s() -> float:
    return SELDOM_S


@pytest.fixture
def jobs(database: Database, work: Work, poll_s: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobQueue]:
    """The queue of an engine that runs."""
    monkeypatch.setattr(workflow.engine, "UNASKED_S", SELDOM_S)
    engine = Engine(database, executor_id="test/1/a", studies_at_once=AT_ONCE, poll_s=poll_s)
    for name in (PROCESS_STUDY, DRAIN):
        engine.register(name, work, on_bug=lambda connection, arguments: None)
    jobs = JobQueue(database)
    jobs.on_put(engine.look)
    engine.start()
    yield jobs
    work.may_end.release(100)
    engine.stop(grace_s=10)


def put_drain(database: Database, jobs: JobQueue, number: int, delay_s: float = 0.0) -> None:
    with database.write() as connection:
        jobs.put_drain(connection, clinic="st-mary", destination="pacs", number=number, delay_s=delay_s)


def put_studies(database: Database, jobs: JobQueue, count: int) -> list[int]:
    ids = []
    for number in range(count):
        stored = arrival(f"k{number}", f"1.2.{number}.1", study_instance_uid=f"1.2.{number}")
        study_id = record_instances(database, NO_SPOOL, [stored])[0].study_id or 0
        with database.write() as connection:
            queue_study(connection, jobs, study_id=study_id, clinic="st-mary", tier=Tier.BASIC, stat=StatRules())
        ids.append(study_id)
    return ids


def begun(work: Work, count: int) -> Callable[[], bool]:
    return lambda: len(work.begun) >= count


def of_studies(work: Work) -> set[object]:
    """Which jobs have begun. Two that were claimed together have threads of their own, and either may come first."""
    return {study_id for study_id, _ in work.begun}


def test_a_job_that_this_process_has_put_begins_without_waiting_for_a_look(
    database: Database, jobs: JobQueue, work: Work
) -> None:
    for number in (1, 2, 3):
        put_drain(database, jobs, number)
        wait_until(begun(work, number), "the job begins")
    assert work.begun == [("st-mary", "pacs", number) for number in (1, 2, 3)]


def test_what_was_not_committed_is_not_begun(database: Database, jobs: JobQueue, work: Work) -> None:
    def cut_short() -> None:
        with database.write() as connection:
            jobs.put_drain(connection, clinic="st-mary", destination="pacs", number=1)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut_short()
    put_drain(database, jobs, 2)
    wait_until(begun(work, 1), "the job that was committed begins")
    assert work.begun == [("st-mary", "pacs", 2)]


def test_a_job_for_later_is_not_begun_now(database: Database, jobs: JobQueue, work: Work) -> None:
    put_drain(database, jobs, 1, delay_s=SELDOM_S)
    put_drain(database, jobs, 2)
    wait_until(begun(work, 1), "the job for now begins")
    assert work.begun == [("st-mary", "pacs", 2)]


@pytest.mark.parametrize("poll_s", [0.1])
def test_a_job_that_another_process_has_put_begins_at_the_next_question(
    database: Database, jobs: JobQueue, work: Work
) -> None:
    others = Database(database.url)  # its connections are not those that tell this engine of a job
    put_drain(others, JobQueue(others), 1)
    wait_until(begun(work, 1), "the job begins")
    put_studies(others, JobQueue(others), 2)
    wait_until(begun(work, 3), "the jobs of another queue begin")
    others.close()


@pytest.mark.parametrize("poll_s", [0.1])
def test_a_job_for_later_begins_when_its_time_has_come(database: Database, jobs: JobQueue, work: Work) -> None:
    put_drain(database, jobs, 1, delay_s=0.5)
    wait_until(begun(work, 1), "the job begins")


def test_the_next_one_begins_when_one_has_ended_and_never_more_than_may_run_at_once(
    database: Database, jobs: JobQueue, work: Work
) -> None:
    ids = put_studies(database, jobs, 5)
    for ended in range(3):
        wait_until(begun(work, AT_ONCE + ended), "there are as many as may be")
        threading.Event().wait(0.2)
        assert of_studies(work) == set(ids[: AT_ONCE + ended])
        assert [study_id for study_id, _ in work.begun][AT_ONCE:] == ids[AT_ONCE : AT_ONCE + ended]
        work.may_end.release()
    wait_until(begun(work, 5), "all have begun")


def test_what_was_claimed_counts_although_its_thread_has_not_come_to_it(
    database: Database, jobs: JobQueue, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a job's thread is late, and the engine has looked again meanwhile."""
    begin = ActiveWorkflowById.add

    def begin_late(*arguments: Any) -> ActiveWorkflowEntry:
        threading.Event().wait(0.5)
        return begin(*arguments)

    monkeypatch.setattr(ActiveWorkflowById, "add", begin_late)
    ids = put_studies(database, jobs, AT_ONCE + 2)
    wait_until(begun(work, AT_ONCE), "there are as many as may be")
    threading.Event().wait(0.7)
    assert of_studies(work) == set(ids[:AT_ONCE])


def test_how_many_may_run_at_once_is_each_workers_own(database: Database, jobs: JobQueue, work: Work) -> None:
    """Another worker may have more processors, and says so to the same database."""
    DBOS.register_queue(STUDY_QUEUE, worker_concurrency=AT_ONCE + 1, on_conflict="always_update")
    ids = put_studies(database, jobs, AT_ONCE + 1)
    wait_until(begun(work, AT_ONCE), "there are as many as may be")
    threading.Event().wait(0.2)
    assert of_studies(work) == set(ids[:AT_ONCE])
