"""A study of which one model has nothing to say: what the others found goes out, and says what nobody has looked at."""

from pathlib import Path

import pydicom
import pytest

from domain.completion import CompletionRules
from domain.errors import Away
from domain.findings import Analysis
from domain.routing import Decision
from domain.study import Study
from storage.database import Database
from storage.instances import Spool
from storage.intake import record_instances, record_release
from storage.overview import StudyFilter, StudyHistory, read_history
from storage.studies import OpenStudy, close_study
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.packages import build_package
from tests.factories.sources import radiograph
from tests.workflow.conftest import Direct
from tests.workflow.models import with_models
from workflow.process_study import process_study
from workflow.rooms import Rooms
from workflow.steps import analyse

NOT_CONFIGURED = "the bone fracture model is not configured on this node"


def closed_study(database: Database, spool: Spool, *body_parts: str, age: str = "056Y", clinic: str = "st-mary") -> int:
    """A study with an image for each body part; their SOP Instance UIDs end in 1, 2, …"""
    stored = []
    for number, body_part in enumerate(body_parts, start=1):
        dataset = radiograph(1)
        dataset.BodyPartExamined, dataset.StudyDescription = body_part, "Trauma"
        dataset.PatientAge, dataset.PatientBirthDate = age, ""
        dataset.SOPInstanceUID = f"2.25.4711.9.{number}"
        stored.append(read_back(spool, spooled(spool, dataset, how=provenance(clinic=clinic))))
    study_id = record_instances(database, spool, stored)[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        study = OpenStudy(study_id=study_id, clinic=clinic, reason="released")
        assert close_study(connection, study, CompletionRules(after_release_s=0.0))
    return study_id


def processed(database: Database, rooms: Rooms, study_id: int, attempt: int = 1) -> StudyHistory:
    process_study(study_id, attempt, rooms=rooms, durable=Direct(database))
    (history,) = read_history(database, StudyFilter())
    return history


def events(history: StudyHistory, kind: str) -> list[str]:
    return [event.detail for event in history.events if event.event == kind]


def lines_of_report(rooms: Rooms, history: StudyHistory) -> list[str]:
    (lines,) = lines_of_reports(rooms, history)
    return lines


def lines_of_reports(rooms: Rooms, history: StudyHistory) -> list[list[str]]:
    """Of each model's, in the order in which they answered."""
    reports = []
    for result in history.results:
        if result.kind == "text_sr":
            with rooms.results.open(result.sop_instance_uid) as file:
                reports.append([str(one.value) for one in pydicom.dcmread(file).iterall() if one.VR == "UT"])
    return reports


def test_a_model_that_is_not_configured_keeps_back_no_other_models_results(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    """The hand came first: the order of the images decides nothing, and reports name the analysed ones first."""
    with with_models(rooms, tmp_path) as rooms:
        history = processed(database, rooms, closed_study(database, rooms.spool, "HAND", "CHEST"))
        assert (history.state, history.reason) == ("delivering", "")
        assert events(history, "analysed") == ["chest 1.1.0"]
        assert events(history, "left_out") == [f"2.25.4711.9.1: {NOT_CONFIGURED}"]
        assert f"bone_fracture: does not answer: {NOT_CONFIGURED}" in history.explanation
        assert f"Image 2 (DX, PA): not analysed, {NOT_CONFIGURED}." in lines_of_report(rooms, history)


def test_a_model_that_accepts_none_of_its_images_keeps_back_no_other_models_results(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        bone = tmp_path / "models" / "bone_fracture" / "2.0.0"
        build_package(bone, name="bone_fracture", version="2.0.0", body_parts=("WRIST",))
        history = processed(database, rooms, closed_study(database, rooms.spool, "HAND", "CHEST"))
        why = "the bone fracture model refuses it: body part HAND where WRIST, or unknown is accepted"
        assert (history.state, events(history, "analysed")) == ("delivering", ["chest 1.1.0"])
        assert events(history, "left_out") == [f"2.25.4711.9.1: {why}"]
        assert f"Image 2 (DX, PA): not analysed, {why}." in lines_of_report(rooms, history)


def test_a_model_that_fails_is_tried_again_and_on_the_last_try_keeps_back_no_other_models_results(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        bone = tmp_path / "models" / "bone_fracture" / "2.0.0"
        weights = build_package(bone, name="bone_fracture", version="2.0.0", body_parts=("HAND",)) / "model.onnx"
        weights.write_bytes(b"changed since it was installed")
        study_id = closed_study(database, rooms.spool, "HAND", "CHEST")
        history = processed(database, rooms, study_id, attempt=2)
        assert (history.state, len(events(history, "retry")), history.results) == ("queued", 1, ())
        history = processed(database, rooms, study_id, attempt=3)
        assert (history.state, events(history, "analysed")) == ("delivering", ["chest 1.1.0"])
        assert events(history, "left_out") == ["2.25.4711.9.1: the bone fracture model keeps failing"]
        assert "Image 2 (DX, PA): not analysed, the bone fracture model keeps failing." in lines_of_report(
            rooms, history
        )


def test_what_has_to_wait_for_the_shared_store_has_not_had_its_last_try(
    database: Database, rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away_for_the_hand(rooms: Rooms, study: Study, decision: Decision, package: str) -> Analysis:
        if package == "bone_fracture":
            raise Away("the shared store does not answer")
        return analyse(rooms, study, decision, package)

    monkeypatch.setattr("workflow.steps.analyse", away_for_the_hand)
    with with_models(rooms, tmp_path) as rooms:
        bone = tmp_path / "models" / "bone_fracture" / "2.0.0"
        build_package(bone, name="bone_fracture", version="2.0.0", body_parts=("HAND",))
        study_id = closed_study(database, rooms.spool, "CHEST", "HAND")
        history = processed(database, rooms, study_id, attempt=3)
        assert (history.state, history.results) == ("queued", ())


def test_an_image_that_no_rule_takes_is_named_with_the_reason_in_the_report_about_the_others(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        history = processed(database, rooms, closed_study(database, rooms.spool, "CHEST", "ABDOMEN", ""))
        assert events(history, "left_out") == [
            "2.25.4711.9.2: Body Part Examined (0018,0015) 'ABDOMEN' says abdomen, and no rule takes it: "
            "no rule is about this body part",
            "2.25.4711.9.3: no attribute tells the body part",
        ]
        assert "Image 3 (DX, PA): not analysed, no attribute tells the body part." in lines_of_report(rooms, history)


def test_of_two_models_that_answer_each_report_tells_its_own_reasons_and_of_every_image_what_became_of_it(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    """The hip was the other model's to see: the report about the chest names it all the same."""
    with with_models(rooms, tmp_path) as rooms:
        bone = tmp_path / "models" / "bone_fracture" / "2.0.0"
        build_package(bone, name="bone_fracture", version="2.0.0", body_parts=("HAND",))
        history = processed(database, rooms, closed_study(database, rooms.spool, "CHEST", "HAND", "HIP", "ABDOMEN"))
        refused = "body part HIP where HAND, or unknown is accepted"
        chest, hand = lines_of_reports(rooms, history)
        assert [line for line in chest if "sends it to" in line] == [
            "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest."
        ]
        assert [line for line in hand if "sends it to" in line] == [
            "Body Part Examined (0018,0015) 'HAND' says bone, so rule 'bones of the limbs, shoulder and pelvis' sends "
            "it to bone_fracture."
        ]
        assert [line for line in chest if "another model" in line] == [
            "Image 2 (DX, PA): analysed by another model, in a report of its own, SOP Instance UID 2.25.4711.9.2."
        ]
        assert f"Image 3 (DX, PA): not analysed, the bone fracture model has not seen it: {refused}." in chest
        assert f"Image 3 (DX, PA): not analysed, {refused}." in hand
        for report in (chest, hand):
            (not_looked_for,) = [line for line in report if line.startswith("Not looked for")]
            assert not_looked_for.endswith("Not analysed: Image 3 (DX, PA), Image 4 (DX, PA).")
        assert [detail for detail in events(history, "left_out") if "HIP" in detail] == [
            f"bone_fracture, 2.25.4711.9.3: {refused}"
        ]


@pytest.mark.parametrize(
    ("clinic", "body_parts", "reason", "said"),
    [
        ("st-mary", ("HAND", "LSPINE"), "not_configured", NOT_CONFIGURED),
        ("mercy", ("LSPINE", "HAND"), "not_in_plan", "the basic plan does not include the spine model"),
    ],
)
def test_a_study_of_which_no_model_answers_is_held_for_what_the_first_one_lacks(
    database: Database, rooms: Rooms, tmp_path: Path, clinic: str, body_parts: tuple[str, ...], reason: str, said: str
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        history = processed(database, rooms, closed_study(database, rooms.spool, *body_parts, clinic=clinic))
        assert (history.state, history.reason) == ("held", reason)
        assert events(history, "held")[0].startswith(said)
        assert events(history, "left_out") == []
