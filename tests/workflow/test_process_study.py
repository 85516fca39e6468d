"""What a study is put aside for before any model has looked at it, and what a job does that nobody waits for."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.errors import Away, Refuse, Retry
from domain.periods import PeriodRule
from domain.routing import decide
from domain.states import Reason, StudyState
from domain.study import InstanceFacts
from inference.registry import Registry
from metering.quota import reserve, used
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.overview import StudyFilter, read_history
from storage.studies import OpenStudy, close_study, read_study
from storage.tables import studies
from tests.factories.arrivals import CHEST, NO_SPOOL, REPORT, arrival
from tests.workflow.conftest import Direct, Puts
from workflow.engine import _told, _value
from workflow.process_study import process_study
from workflow.recovery import park_abandoned
from workflow.rooms import Rooms
from workflow.steps import Admission, admit, hand_over_analysis, put_aside, try_again
from workflow.written import Written


def closed(database: Database, facts: InstanceFacts, *, clinic: str = "mercy") -> int:
    study_id = record_instances(database, NO_SPOOL, [arrival("k1", facts=facts, clinic=clinic)])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic=clinic, reason="released")
        assert close_study(connection, open_study, CompletionRules(after_release_s=0.0))
    return study_id


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (REPORT, "no_image"),
        (InstanceFacts(modality="DX", has_pixels=True), "unroutable"),
        (CHEST, "unroutable"),  # of unknown age
        (InstanceFacts(modality="DX", body_part_examined="HAND", has_pixels=True), "not_in_plan"),
    ],
)
def test_a_study_that_no_model_may_look_at_is_held_with_its_reason_and_takes_no_quota(
    database: Database, rooms: Rooms, puts: Puts, facts: InstanceFacts, reason: str
) -> None:
    study_id = closed(database, facts)
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    with database.read() as connection:
        row = connection.execute(sa.select(studies)).one()
        assert (row.state, row.reason) == ("held", reason)
        assert used(connection, clinic="mercy", period=PeriodRule().period_at(utc_now()).key) == 0
    assert puts.jobs == []


def test_a_study_that_is_put_aside_gives_its_quota_back(database: Database, rooms: Rooms) -> None:
    study_id = closed(database, REPORT)
    with database.write() as connection:
        assert reserve(connection, clinic="mercy", study_instance_uid="1.2.3", now=utc_now())
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    with database.read() as connection:
        assert used(connection, clinic="mercy", period=PeriodRule().period_at(utc_now()).key) == 0


def test_the_decision_about_a_study_that_is_refused_is_kept_with_its_reasons(database: Database, rooms: Rooms) -> None:
    study_id = closed(database, CHEST)
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    assert seen(database)[2] == ["received", "complete", "routed", "held"]
    with database.read() as connection:
        assert connection.scalars(sa.select(studies.c.explanation)).one() != []


def test_a_study_that_is_admitted_again_after_a_crash_takes_its_quota_once(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    rooms = replace(rooms, registry=Registry(tmp_path))
    study_id = closed(database, replace(CHEST, patient_age_years=3.0), clinic="st-mary")
    study = read_study(database, rooms.spool, study_id)
    for _ in range(2):
        admission = Direct(database).enter("admit", Admission, admit, rooms, study_id, study)
        assert admission.granted().packages == ("pediatric_chest",)
    with database.read() as connection:
        assert used(connection, clinic="st-mary", period=PeriodRule().period_at(utc_now()).key) == 1


def test_a_study_beyond_the_plan_is_held_until_there_is_quota(
    database: Database, rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.quota.has_room", lambda plan, used: False)
    study_id = closed(database, replace(CHEST, patient_age_years=3.0), clinic="st-mary")
    process_study(study_id, 1, rooms=replace(rooms, registry=Registry(tmp_path)), durable=Direct(database))
    assert seen(database)[:2] == ("held", "over_quota")


def cancelled(database: Database) -> int:
    study_id = closed(database, CHEST)
    with database.write() as connection:
        connection.execute(sa.update(studies).values(state=StudyState.CANCELLED, reason=Reason.CANCELLED))
    return study_id


def seen(database: Database) -> tuple[str, str, list[str]]:
    (history,) = read_history(database, StudyFilter())
    return history.state, history.reason, [event.event for event in history.events]


UNTOUCHED = ("cancelled", "cancelled", ["received", "complete"])


def test_the_job_of_a_cancelled_study_does_nothing(database: Database, rooms: Rooms, puts: Puts) -> None:
    study_id = cancelled(database)
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    assert seen(database) == UNTOUCHED
    assert puts.jobs == []


def test_a_study_that_is_cancelled_while_its_job_runs_gets_no_further_row(
    database: Database, rooms: Rooms, puts: Puts
) -> None:
    """Whichever of the steps that write rows comes next."""
    study_id = cancelled(database)
    study = read_study(database, rooms.spool, study_id)
    durable, decision = Direct(database), decide(study, rooms.rulebook)
    with pytest.raises(Refuse, match="does not wait for its analysis any more"):
        durable.enter("admit", Admission, admit, rooms, study_id, study)
    with pytest.raises(Refuse, match="does not wait for its analysis any more"):
        durable.transaction("hand over", hand_over_analysis, rooms, study_id, study, decision, [], Written(rows=()))
    refusal = Refuse("cannot be read", reason=Reason.UNREADABLE_PIXELS)
    durable.transaction("put aside", put_aside, rooms, study_id, study, refusal, Written(rows=()))
    durable.transaction("try again", try_again, rooms, study_id, study, 1, Retry("away"))
    assert seen(database) == UNTOUCHED
    assert puts.jobs == []
    with database.read() as connection:
        assert used(connection, clinic="mercy", period=PeriodRule().period_at(utc_now()).key) == 0


def test_a_study_that_keeps_failing_is_parked_after_three_tries_with_its_reason(
    database: Database, rooms: Rooms, puts: Puts
) -> None:
    study_id = closed(database, CHEST)
    study = read_study(database, rooms.spool, study_id)
    for attempt in (1, 2, 3):
        Direct(database).transaction("try again", try_again, rooms, study_id, study, attempt, Retry("an error"))
    assert [job[2] for job in puts.jobs] == [2, 3]
    assert seen(database)[:2] == ("failed", "keeps_failing")


def test_a_study_waits_for_the_shared_store_however_often_it_is_tried(
    database: Database, rooms: Rooms, puts: Puts
) -> None:
    study_id = closed(database, CHEST)
    study = read_study(database, rooms.spool, study_id)
    for _ in range(10):
        Direct(database).transaction("try again", try_again, rooms, study_id, study, 3, Away("it is not there"))
    assert puts.jobs == [("study", study_id, 3, 30.0)] * 10
    assert seen(database)[0] == "queued"


def test_a_job_that_goes_on_remembers_that_it_was_the_store() -> None:
    with pytest.raises(Away) as remembered:
        _value(_told(Away("it is not there", hint="mount it")))
    assert (remembered.value.message, remembered.value.hint) == ("it is not there", "mount it")


def test_what_was_abandoned_is_parked_unless_it_was_cancelled_meanwhile(database: Database, rooms: Rooms) -> None:
    study_id = closed(database, CHEST)
    with database.write() as connection:
        assert reserve(connection, clinic="mercy", study_instance_uid="1.2.3", now=utc_now())
    assert park_abandoned(rooms, {f"study:{study_id}:0"}) == 1
    assert seen(database)[:2] == ("failed", "keeps_failing")
    assert park_abandoned(rooms, {f"study:{study_id}:0"}) == 0
    with database.read() as connection:
        assert used(connection, clinic="mercy", period=PeriodRule().period_at(utc_now()).key) == 0
