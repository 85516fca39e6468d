"""Procedure steps: the file of each is the truth, its row follows, and studies that are open listen to it."""

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.procedure_step import ProcedureStep, StepStatus
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.requests.files import RequestBox
from storage.requests.procedure_steps import record_steps
from storage.requests.step_folder import FORGOTTEN_AFTER_S, StepFolder
from storage.studies import OpenStudy, close_study, open_studies
from storage.tables import procedure_steps
from tests.factories.arrivals import NO_SPOOL, arrival

IN_PROGRESS, COMPLETED, DISCONTINUED = StepStatus
NEVER_BY_SILENCE = CompletionRules(after_release_s=3600.0, quiet_s=3600.0)
AT_ONCE = CompletionRules(after_release_s=0.0, quiet_s=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    return StepFolder(tmp_path)


def step(
    status: StepStatus = IN_PROGRESS, *performed: str, uid: str = "2.25.1", clinic: str = "st-mary"
) -> ProcedureStep:
    return ProcedureStep(
        clinic=clinic,
        sop_instance_uid=uid,
        study_instance_uid="1.2.3",
        status=status,
        performed=performed,
        updated_at=utc_now(),
    )


def write(folder: StepFolder, *steps: ProcedureStep) -> None:
    for one in steps:
        with folder.locked():
            folder.write(one)


def rows(database: Database) -> list[tuple[str, str, str, list[str]]]:
    with database.read() as connection:
        found = connection.execute(sa.select(procedure_steps).order_by(procedure_steps.c.id)).all()
    return [(row.clinic, row.sop_instance_uid, row.status, row.performed) for row in found]


def test_the_row_follows_the_step(database: Database, folder: StepFolder) -> None:
    write(folder, step())
    assert record_steps(database, folder.changes) == 1
    assert rows(database) == [("st-mary", "2.25.1", "IN PROGRESS", [])]
    write(folder, step(COMPLETED, "1.2.3.1"))
    assert record_steps(database, folder.changes) == 1
    assert rows(database) == [("st-mary", "2.25.1", "COMPLETED", ["1.2.3.1"])]
    assert folder.changes.waiting() == []


def test_changes_that_come_in_the_wrong_order_or_twice_change_nothing(database: Database, folder: StepFolder) -> None:
    write(folder, step(), step(COMPLETED, "1.2.3.1"))
    begin, end = (folder.changes.read(key) or b"" for key in folder.changes.waiting())
    box = RequestBox(folder.root, "again")
    for change in (end, begin, end, begin):
        box.put(change)
        record_steps(database, box)
    assert rows(database) == [("st-mary", "2.25.1", "COMPLETED", ["1.2.3.1"])]


def test_a_clock_that_is_put_back_does_not_undo_a_change(sqlite: Database, folder: StepFolder) -> None:
    first = step()
    write(folder, first, replace(first, status=COMPLETED, updated_at=first.updated_at - timedelta(hours=1)))
    record_steps(sqlite, folder.changes)
    assert rows(sqlite) == [("st-mary", "2.25.1", "COMPLETED", [])]


def test_the_same_uid_at_another_clinic_is_another_step(sqlite: Database, folder: StepFolder) -> None:
    write(folder, step(COMPLETED), step(clinic="mercy"))
    record_steps(sqlite, folder.changes)
    assert rows(sqlite) == [("st-mary", "2.25.1", "COMPLETED", []), ("mercy", "2.25.1", "IN PROGRESS", [])]
    assert (folder.read("mercy", "2.25.1") or step(COMPLETED)).status is IN_PROGRESS
    assert folder.read("mercy", "2.25.2") is None


def test_the_step_of_a_clinic_without_a_row_waits_for_it(sqlite: Database, folder: StepFolder) -> None:
    write(folder, step(clinic="new"), step())
    assert record_steps(sqlite, folder.changes) == 1
    assert rows(sqlite) == [("st-mary", "2.25.1", "IN PROGRESS", [])]
    assert len(folder.changes.waiting()) == 1


def test_workers_that_bring_in_the_same_changes_make_one_row(database: Database, folder: StepFolder) -> None:
    write(folder, *(step(uid=f"2.25.{number}") for number in range(10)), *(step(COMPLETED) for _ in range(10)))
    workers = [threading.Thread(target=record_steps, args=(database, folder.changes)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(rows(database)) == 10
    assert {status for _, uid, status, _ in rows(database) if uid == "2.25.1"} == {"COMPLETED"}
    assert folder.changes.waiting() == []


def test_a_step_is_forgotten_ninety_days_after_its_last_change(folder: StepFolder) -> None:
    write(folder, step(COMPLETED), step(uid="2.25.2"))
    (old,) = {folder.root / path.name for path in folder.root.glob("*.json") if b"2.25.1" in path.read_bytes()}
    long_ago = datetime.now(UTC).timestamp() - FORGOTTEN_AFTER_S - 1
    os.utime(old, (long_ago, long_ago))
    assert folder.forget_old_steps() == 1
    assert (folder.read("st-mary", "2.25.1"), folder.read("st-mary", "2.25.2") is None) == (None, False)


def test_all_that_was_said_of_a_study_is_forgotten_and_nothing_else(folder: StepFolder) -> None:
    other = replace(step(uid="2.25.2"), study_instance_uid="1.2.4")
    write(folder, step(), step(COMPLETED), other, step(clinic="mercy"))
    damaged = folder.root / "damaged.json"
    damaged.write_bytes(b"{")
    assert folder.forget_study("st-mary", "1.2.3") == 3
    assert folder.read("st-mary", "2.25.1") is None
    assert (folder.read("st-mary", "2.25.2") is None, folder.read("mercy", "2.25.1") is None) == (False, False)
    assert (len(folder.changes.waiting()), damaged.exists()) == (2, True)


# What an open study hears of it


def received(database: Database, *numbers: int) -> int:
    stored = [arrival(f"k{number}", f"1.2.3.{number}") for number in numbers]
    return record_instances(database, NO_SPOOL, stored)[0].study_id or 0


def said(database: Database, folder: StepFolder, *steps: ProcedureStep) -> None:
    write(folder, *steps)
    record_steps(database, folder.changes)


def reasons(database: Database, rules: CompletionRules) -> list[str]:
    return [study.reason for study in open_studies(database, rules).complete]


def test_a_study_in_progress_is_not_complete_however_quiet_it_is(database: Database, folder: StepFolder) -> None:
    record_release(database, [received(database, 1)])
    said(database, folder, step())
    assert reasons(database, AT_ONCE) == []


def test_a_study_is_complete_as_soon_as_all_that_its_steps_list_is_here(database: Database, folder: StepFolder) -> None:
    received(database, 1)
    said(database, folder, step(COMPLETED, "1.2.3.1", "1.2.3.2"), step(DISCONTINUED, uid="2.25.2"))
    assert reasons(database, NEVER_BY_SILENCE) == []
    study_id = received(database, 2)
    assert reasons(database, NEVER_BY_SILENCE) == ["mpps"]
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic="st-mary", reason="mpps")
        assert close_study(connection, open_study, NEVER_BY_SILENCE)


def test_a_step_that_begins_while_the_study_is_being_closed_keeps_it_open(sqlite: Database, folder: StepFolder) -> None:
    study_id = received(sqlite, 1)
    record_release(sqlite, [study_id])
    assert reasons(sqlite, AT_ONCE) == ["released"]
    said(sqlite, folder, step())
    with sqlite.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert not close_study(connection, open_study, AT_ONCE)


def test_the_steps_of_another_clinic_say_nothing_of_this_ones_study(sqlite: Database, folder: StepFolder) -> None:
    received(sqlite, 1)
    said(sqlite, folder, step(clinic="mercy"))
    assert reasons(sqlite, AT_ONCE) == ["quiet"]
    said(sqlite, folder, step(COMPLETED, "1.2.3.1", clinic="mercy"))
    assert reasons(sqlite, NEVER_BY_SILENCE) == []


def test_an_image_after_the_study_was_closed_does_not_close_the_next_generation_at_once(
    sqlite: Database, folder: StepFolder
) -> None:
    said(sqlite, folder, step(COMPLETED, "1.2.3.1"))
    study_id = received(sqlite, 1)
    with sqlite.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic="st-mary", reason="mpps")
        assert close_study(connection, open_study, NEVER_BY_SILENCE)
    received(sqlite, 2)
    assert reasons(sqlite, NEVER_BY_SILENCE) == []
    assert reasons(sqlite, AT_ONCE) == ["quiet"]
