"""A network that kills the process which runs it parks its study, and the next one is analysed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from domain.completion import CompletionRules
from domain.plans import Tier
from domain.queueing import StatRules
from storage.database import Database
from storage.intake import record_instances, record_release
from storage.jobs import DRAIN, PROCESS_STUDY, JobQueue, migrate_jobs
from storage.overview import StudyFilter, read_history
from storage.queueing import queue_study
from storage.studies import OpenStudy, close_study
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.networks import hungry
from tests.factories.packages import build_package, filter_network
from tests.factories.sources import radiograph
from tests.journeys.house import wait_until
from tests.workflow.models import with_models
from workflow.engine import Engine
from workflow.process_study import process_study
from workflow.rooms import Rooms


@pytest.fixture
def house(database: Database, rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rooms]:
    """An engine that runs, with a `chest` that answers and a `pediatric_chest` whose network is hungry."""
    monkeypatch.setattr("workflow.steps.RETRY_DELAY_S", 0.1)
    migrate_jobs(database)
    build_package(
        tmp_path / "models" / "pediatric_chest" / "9.0.0",
        name="pediatric_chest",
        version="9.0.0",
        age_max_years=5,
        network=hungry(filter_network(2), size_bytes=8 << 30),
        is_golden_right=False,
    )
    with with_models(rooms, tmp_path, active="1.0.0") as rooms:
        rooms = replace(rooms, jobs=JobQueue(database))
        engine = Engine(database, executor_id="test/1/a", studies_at_once=1, poll_s=0.1)
        engine.register(PROCESS_STUDY, partial(process_study, rooms=rooms, durable=engine), on_bug=lambda *_: None)
        engine.register(DRAIN, lambda *_: None, on_bug=lambda *_: None)
        rooms.jobs.on_put(engine.look)
        engine.start()
        yield rooms
        engine.stop(grace_s=10)


def put(rooms: Rooms, dataset: Dataset) -> None:
    """The study is complete and waits for the engine."""
    database, stored = rooms.database, read_back(rooms.spool, spooled(rooms.spool, dataset, how=provenance()))
    study_id = record_instances(database, rooms.spool, [stored])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert close_study(connection, study, CompletionRules(after_release_s=0.0))
        queue_study(
            connection, rooms.jobs, study_id=study_id, clinic="st-mary", tier=Tier.PROFESSIONAL, stat=StatRules()
        )


def test_a_study_whose_network_needs_too_much_memory_is_parked_and_the_next_one_is_analysed(house: Rooms) -> None:
    child = radiograph(1)
    child.PatientAge, child.PatientBirthDate = "003Y", "20231101"
    put(house, child)
    put(house, radiograph(2))

    def states() -> dict[str, str]:
        histories = read_history(house.database, StudyFilter())
        return {history.study_instance_uid[-1]: history.state for history in histories}

    wait_until(lambda: states() == {"1": "failed", "2": "delivering"}, "one is given up, the other analysed")
    given_up, _ = sorted(read_history(house.database, StudyFilter()), key=lambda history: history.study_instance_uid)
    assert [event.event for event in given_up.events].count("retry") == 2
    assert given_up.events[-1].detail.startswith("gave up after 3 attempts: the analysis process died")
