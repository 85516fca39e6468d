"""A step's rows and the memory of it are committed together or not at all, and what is remembered is not done again."""

from collections.abc import Callable, Iterator
from types import NoneType

import pytest
import sqlalchemy as sa
from dbos import DBOS

from domain.errors import Away, Refuse
from storage.database import Database
from storage.events import add_event
from storage.jobs import DESTINATION_QUEUE, DRAIN, JobQueue, drain_job_id, migrate_jobs
from storage.tables import study_events
from tests.journeys.house import wait_until
from tests.workflow.test_engine import put_studies
from workflow.durable import Durable, Entry, remember
from workflow.engine import Engine
from workflow.memory import Memory, OtherSteps

Job = Callable[[Durable, int], object]


@pytest.fixture
def database(each_database: Database) -> Database:
    migrate_jobs(each_database)
    return each_database


class House:
    """Runs a test's job on one study, and knows how it ended."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self.database = database
        self.engine = engine
        self.jobs = JobQueue(database)
        self.job: Job = lambda durable, study_id: None
        self.bugs: list[object] = []
        (self.study_id,) = put_studies(database, self.jobs, 1)
        with database.write() as connection:
            connection.execute(sa.delete(study_events))

    def run(self, job: Job) -> None:
        ended: list[bool] = []

        def and_say_so(durable: Durable, study_id: int) -> None:
            try:
                job(durable, study_id)
            finally:
                ended.append(True)

        self.job = and_say_so
        with self.database.write() as connection:
            self.jobs.put_drain(connection, clinic="st-mary", destination="pacs", number=1)
        self.engine.look(DESTINATION_QUEUE)
        wait_until(lambda: ended, "the job has ended")

    def drain(self, *_: object) -> None:
        self.job(self.engine, self.study_id)

    def change_job(self, change: str) -> None:
        table = "workflow_status" if self.database.is_sqlite else "dbos.workflow_status"
        with self.database.write() as connection:
            connection.execute(sa.text(f"UPDATE {table} SET {change} WHERE name = '{DRAIN}'"))

    def events(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.scalars(sa.select(study_events.c.event).order_by(study_events.c.id)))


@pytest.fixture
def house(database: Database) -> Iterator[House]:
    engine = Engine(database, executor_id="test/1/a", studies_at_once=1)
    house = House(database, engine)
    engine.register(DRAIN, house.drain, on_bug=lambda connection, arguments: house.bugs.append(arguments))
    engine.start()
    yield house
    engine.stop(grace_s=10)


def entering(study_id: int, event: str) -> Entry[str]:
    def enter(connection: sa.Connection) -> str:
        add_event(connection, study_id, event)
        return event

    return enter


def remembered(house: House) -> Memory:
    """What the job that runs here would remember if it were run again."""
    return Memory(house.database, str(DBOS.workflow_id))


def test_what_a_step_has_entered_is_there_with_its_memory(house: House) -> None:
    seen: list[object] = []

    def job(durable: Durable, study_id: int) -> None:
        seen.append(durable.enter("first", str, entering, study_id, "routed"))
        memory = remembered(house)
        seen.append(memory.recall(memory.next_step("first")))
        seen.append(memory.recall(memory.next_step("second")))

    house.run(job)
    assert house.events() == ["routed"]
    assert seen == ["routed", {"value": "routed"}, None]


def test_the_engine_reads_what_was_kept_as_its_own(house: House) -> None:
    def job(durable: Durable, study_id: int) -> None:
        durable.enter("first", str, entering, study_id, "routed")
        durable.transaction("second", lambda connection: add_event(connection, study_id, "held"))

    house.run(job)
    steps = DBOS.list_workflow_steps(drain_job_id("st-mary", "pacs", 1))
    assert [(step["function_id"], step["function_name"], step["output"], step["error"]) for step in steps] == [
        (1, "first", {"value": "routed"}, None),
        (2, "second", {"value": None}, None),
    ]


@pytest.mark.parametrize("error", [Refuse("no", reason="unroutable", hint="ask"), Away("it is not there", hint="wait")])
def test_an_expected_error_undoes_the_rows_and_is_remembered_in_their_place(house: House, error: Refuse | Away) -> None:
    seen: list[object] = []

    def rows(connection: sa.Connection, study_id: int) -> None:
        add_event(connection, study_id, "routed")
        raise error

    def job(durable: Durable, study_id: int) -> None:
        with pytest.raises(type(error), match=error.message):
            durable.transaction("first", rows, study_id)
        memory = remembered(house)
        seen.append(memory.recall(memory.next_step("first")))
        durable.transaction("second", lambda connection: add_event(connection, study_id, "held"))

    house.run(job)
    assert house.events() == ["held"]
    (outcome,) = seen
    assert error.message in str(outcome)
    assert house.bugs == []


def test_a_job_that_another_worker_has_taken_over_enters_nothing(house: House) -> None:
    def prepare(study_id: int) -> Entry[str]:
        house.change_job("owner_xid = 'of another worker'")
        return entering(study_id, "routed")

    house.run(lambda durable, study_id: durable.enter("first", str, prepare, study_id))
    house.change_job("status = 'CANCELLED'")  # what it waits for, here, is the outcome of that other one
    assert house.events() == []
    assert house.bugs == []


def test_other_steps_in_the_memory_are_noticed(house: House) -> None:
    def job(durable: Durable, study_id: int) -> None:
        durable.enter("first", NoneType, remember, None)
        memory = remembered(house)
        with pytest.raises(OtherSteps, match="'first' as its step 1, not 'another'"):
            memory.recall(memory.next_step("another"))
        durable.transaction("second", lambda connection: add_event(connection, study_id, "held"))

    house.run(job)
    assert house.events() == ["held"]


def test_an_error_of_the_database_has_the_memory_read_anew(house: House) -> None:
    """It may have come after the commit: what was entered then must not be entered twice."""

    def committed_and_lost(durable: Durable, study_id: int) -> None:
        alone = house.database.alone
        tries: list[object] = []

        def lost_after_commit(work: Callable[[sa.Connection], object]) -> object:
            done = alone(work)
            tries.append(done)
            if len(tries) == 1:
                raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection is gone"))
            return done

        house.database.alone = lost_after_commit  # type: ignore[assignment,method-assign]
        assert durable.enter("first", str, entering, study_id, "routed") == "routed"
        assert len(tries) == 1

    house.run(committed_and_lost)
    assert house.events() == ["routed"]
    assert house.bugs == []
