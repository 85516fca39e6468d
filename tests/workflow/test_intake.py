"""A complete study gets one job, whoever looks how often."""

import threading
from typing import Any, cast

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from domain.completion import CompletionRules
from domain.plans import Tier
from domain.queueing import STAT_PRIORITY, StatRules
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.tables import studies, study_events
from tests.factories.arrivals import NO_SPOOL, arrival
from tests.journeys.house import wait_until
from tests.workflow.conftest import Puts
from workflow import intake as intake_module
from workflow.intake import Intake

TIERS = {"st-mary": Tier.PROFESSIONAL}
BOTH = {**TIERS, "mercy": Tier.BASIC}


def intake(
    database: Database,
    puts: Puts,
    *,
    after_release_s: float = 0.0,
    quiet_s: float = 3600.0,
    tiers: dict[str, Tier] = TIERS,
) -> Intake:
    rules = CompletionRules(after_release_s=after_release_s, quiet_s=quiet_s)
    return Intake(database, cast(Any, puts), rules=rules, tiers=tiers, stat=StatRules())


def thirty_of_one_and_one_of_another(database: Database) -> int:
    """The id of the other clinic's study, which came last."""
    ids = [received(database, f"k{number}", f"1.2.{number}") for number in range(30)]
    ids.append(received(database, "k30", "1.2.30", clinic="mercy"))
    record_release(database, ids)
    return ids[-1]


def received(
    database: Database,
    key: str = "k1",
    uid: str = "1.2.3",
    *,
    clinic: str = "st-mary",
    calling_ae_title: str = "MODALITY1",
) -> int:
    stored = arrival(key, f"{uid}.1", study_instance_uid=uid, clinic=clinic, calling_ae_title=calling_ae_title)
    return record_instances(database, NO_SPOOL, [stored])[0].study_id or 0


def state_of(database: Database, study_id: int) -> tuple[str, str]:
    with database.read() as connection:
        row = connection.execute(sa.select(studies).where(studies.c.id == study_id)).one()
    return row.state, row.completion_reason


def test_a_study_that_is_still_coming_gets_no_job(database: Database, puts: Puts) -> None:
    study_id = received(database)
    assert intake(database, puts).close_complete_studies() == 0
    assert (puts.jobs, state_of(database, study_id)) == ([], ("receiving", ""))


def test_a_released_study_gets_one_job_and_no_second(database: Database, puts: Puts) -> None:
    study_id = received(database)
    record_release(database, [study_id])
    closing = intake(database, puts)
    assert [closing.close_complete_studies(), closing.close_complete_studies()] == [1, 0]
    assert puts.jobs == [("study", study_id, 1, 0.0)]
    assert state_of(database, study_id) == ("queued", "released")


def test_the_time_after_the_release_is_waited_for(database: Database, puts: Puts) -> None:
    record_release(database, [received(database)])
    assert intake(database, puts, after_release_s=3600.0).close_complete_studies() == 0


def test_a_caller_with_a_time_of_its_own_is_waited_for_so_long(database: Database, puts: Puts) -> None:
    record_release(database, [received(database)])
    patient = {("st-mary", "MODALITY1"): CompletionRules(after_release_s=3600.0)}
    rules = CompletionRules(after_release_s=0.0, callers=patient)
    closing = Intake(database, cast(Any, puts), rules=rules, tiers=TIERS, stat=StatRules())
    assert closing.close_complete_studies() == 0
    record_release(database, [received(database, "k2", "1.2.4", calling_ae_title="CT1")])
    assert closing.close_complete_studies() == 1


def test_a_quiet_study_is_complete_though_its_association_never_ended(database: Database, puts: Puts) -> None:
    study_id = received(database)
    assert intake(database, puts, quiet_s=0.0).close_complete_studies() == 1
    assert state_of(database, study_id) == ("queued", "quiet")


def test_two_workers_start_one_job(database: Database, puts: Puts) -> None:
    record_release(database, [received(database)])
    workers = [threading.Thread(target=intake(database, puts).close_complete_studies) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert len(puts.jobs) == 1


def test_a_clinic_that_left_the_configuration_holds_up_nobody(database: Database, puts: Puts) -> None:
    gone, here = received(database, "k1", "1.2.3", clinic="mercy"), received(database, "k2", "1.2.4")
    record_release(database, [gone, here])
    assert intake(database, puts).close_complete_studies() == 1
    assert puts.jobs == [("study", here, 1, 0.0)]
    assert state_of(database, gone) == ("receiving", "")


def test_what_is_stat_is_put_before_all_others_and_the_study_says_why(database: Database, puts: Puts) -> None:
    first, urgent = received(database), received(database, "k2", "1.2.4")
    record_release(database, [first, urgent])
    with database.write() as connection:
        connection.execute(sa.update(studies).where(studies.c.id == urgent).values(calling_ae_title="EMERGENCY"))
    rules = CompletionRules(after_release_s=0.0)
    stat = StatRules(callers=frozenset({("st-mary", "EMERGENCY")}))
    Intake(database, cast(Any, puts), rules=rules, tiers=TIERS, stat=stat).close_complete_studies()
    with database.read() as connection:
        priority = {row.id: row.priority for row in connection.execute(sa.select(studies))}
        said = connection.execute(sa.select(study_events).where(study_events.c.event == "stat")).one()
    assert priority[urgent] == STAT_PRIORITY < priority[first]
    assert (said.study_id, said.detail) == (urgent, "the caller EMERGENCY")


def test_a_study_is_closed_when_its_time_has_come_not_at_the_next_look(
    database: Database, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "POLL_S", 600.0)
    study_id = received(database)
    record_release(database, [study_id])
    closing = intake(database, puts, after_release_s=0.5)
    closing.start()
    wait_until(lambda: puts.jobs, "it is closed")
    closing.stop()
    assert state_of(database, study_id) == ("queued", "released")


def test_a_database_that_fails_is_not_asked_again_before_the_next_look(
    database: Database, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "POLL_S", 600.0)
    study_id, before = received(database), utc_now()
    record_release(database, [study_id])
    closing = intake(database, puts, after_release_s=0.5)
    with monkeypatch.context() as a_moment_ago:
        a_moment_ago.setattr("storage.studies.utc_now", lambda: before)
        assert closing.close_complete_studies() == 0
    with database.write() as connection:
        connection.execute(sa.text("ALTER TABLE studies RENAME TO no_studies"))
    with capture_logs() as lines:
        closing.start()
        wait_until(lambda: lines, "it has failed")
        threading.Event().wait(1.0)
        closing.stop()
    assert [line["event"] for line in lines] == ["periodic_work_failed"]


def test_of_a_clinic_that_is_not_configured_the_log_says_so_once(database: Database, puts: Puts) -> None:
    record_release(
        database, [received(database, "k1", clinic="mercy"), received(database, "k2", "1.2.4", clinic="mercy")]
    )
    closing = intake(database, puts)
    with capture_logs() as lines:
        assert [closing.close_complete_studies() for _ in range(3)] == [0, 0, 0]
    assert [(line["event"], line["clinic"]) for line in lines] == [("clinic_not_configured", "mercy")]


def test_a_clinic_that_sends_one_study_does_not_wait_for_the_thirty_of_another(
    database: Database, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "POLL_S", 600.0)
    one = thirty_of_one_and_one_of_another(database)
    assert intake(database, puts, tiers=BOTH).close_complete_studies() == 31
    assert ("study", one, 1, 0.0) in puts.jobs[:5]


def test_who_sends_more_than_can_be_closed_in_a_look_keeps_nobody_from_being_seen(
    database: Database, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "POLL_S", 0.0)
    one = thirty_of_one_and_one_of_another(database)
    closing = intake(database, puts, tiers=BOTH)
    assert [closing.close_complete_studies() for _ in range(8)] == [5, 5, 5, 5, 5, 5, 1, 0]
    assert ("study", one, 1, 0.0) in puts.jobs[:5]
    assert len({job[1] for job in puts.jobs}) == 31
