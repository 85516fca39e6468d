"""A frontal and a lateral film in one study: the lateral is left out, and whoever reads the results is told why."""

from pathlib import Path

import pydicom

from domain.completion import CompletionRules
from storage.database import Database
from storage.instances import Spool
from storage.intake import record_instances, record_release
from storage.overview import StudyFilter, read_history
from storage.studies import OpenStudy, close_study
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.packages import build_package
from tests.factories.sources import radiograph
from tests.workflow.conftest import Direct
from tests.workflow.models import with_models
from workflow.process_study import process_study
from workflow.rooms import Rooms

WHY = "view LL where AP or PA, or absent is accepted"


def closed_study(database: Database, spool: Spool, *views: str) -> int:
    """A study of st-mary with an image for each view; their SOP Instance UIDs end in 1, 2, …"""
    stored = []
    for number, view in enumerate(views, start=1):
        dataset = radiograph(1)
        dataset.ViewPosition = view
        dataset.SOPInstanceUID = f"2.25.4711.9.{number}"
        stored.append(read_back(spool, spooled(spool, dataset, how=provenance())))
    study_id = record_instances(database, spool, stored)[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert close_study(connection, study, CompletionRules(after_release_s=0.0))
    return study_id


def frontal_models(folder: Path) -> None:
    build_package(folder / "models" / "chest" / "2.0.0", version="2.0.0", views=("AP", "PA"))


def test_the_image_that_a_gate_keeps_from_the_model_is_named_with_the_reason(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        frontal_models(tmp_path)
        study_id = closed_study(database, rooms.spool, "PA", "LL")
        process_study(study_id, 1, rooms=rooms, durable=Direct(database))
        (history,) = read_history(database, StudyFilter())
        assert history.state == "delivering"
        assert [event.detail for event in history.events if event.event == "left_out"] == [
            f"chest, 2.25.4711.9.2: {WHY}"
        ]
        frontal, lateral = (line for line in history.explanation if line.startswith("2.25.4711.9."))
        assert frontal.endswith("sends it to chest")
        assert lateral.endswith(f"sends it to chest, which refuses it: {WHY}")
        assert "  gate of chest: view wants AP or PA, or absent, saw PA: yes" in history.explanation
        assert "  gate of chest: view wants AP or PA, or absent, saw LL: no" in history.explanation
        (uid,) = [result.sop_instance_uid for result in history.results if result.kind == "text_sr"]
        with rooms.results.open(uid) as file:
            said = [str(element.value) for element in pydicom.dcmread(file).iterall() if element.VR == "UT"]
        assert f"Image 2 (DX, LL): not analysed, {WHY}." in said


def test_a_study_of_which_every_image_is_kept_from_the_model_is_held_and_its_decision_says_so(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path) as rooms:
        frontal_models(tmp_path)
        study_id = closed_study(database, rooms.spool, "LL")
        process_study(study_id, 1, rooms=rooms, durable=Direct(database))
        (history,) = read_history(database, StudyFilter())
        assert (history.state, history.reason) == ("held", "outside_population")
        assert history.explanation[0].endswith(f"sends it to chest, which refuses it: {WHY}")
        assert [event.detail for event in history.events if event.event == "routed"] == [
            "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest, "
            f"which refuses it: {WHY}"
        ]
