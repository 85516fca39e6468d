"""The version that was chosen is the one that answers, and everybody who reads the results can tell why."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from domain.versions import Role
from storage.database import Database
from storage.overview import StudyFilter, StudyHistory, read_history
from tests.factories.packages import build_package
from tests.workflow.conftest import Direct, Puts
from tests.workflow.models import closed_chest, with_models
from workflow.process_study import process_study
from workflow.rooms import Rooms


def analysed(database: Database, rooms: Rooms, study_id: int) -> StudyHistory:
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    return read_history(database, StudyFilter())[-1]


def texts(rooms: Rooms, history: StudyHistory) -> str:
    """What the readable report says."""
    (uid,) = [result.sop_instance_uid for result in history.results if result.kind == "text_sr"]
    with rooms.results.open(uid) as file:
        return " ".join(str(element.value) for element in pydicom.dcmread(file).iterall() if element.VR == "UT")


@pytest.mark.parametrize(
    ("share", "version", "role", "why"),
    [
        (0.0, "1.0.0", Role.ACTIVE, "chest: version 1.0.0, the active one of this clinic: drawn 0."),
        (1.0, "1.1.0", Role.CANARY, "chest: version 1.1.0 as canary: drawn 0."),
    ],
)
def test_the_chosen_version_answers_and_history_and_report_say_why(
    database: Database, rooms: Rooms, tmp_path: Path, share: float, version: str, role: Role, why: str
) -> None:
    with with_models(rooms, tmp_path, active="1.0.0", canary="1.1.0", canary_share=share) as rooms:
        history = analysed(database, rooms, closed_chest(database, rooms.spool))
        assert history.state == "delivering"
        assert {(finding.model_version, finding.role) for finding in history.findings} == {(version, role)}
        assert history.explanation[-1].startswith(why)
        is_told = "Version 1.1.0 is tried on a share of this clinic's studies" in texts(rooms, history)
        assert is_told == (role is Role.CANARY)


def test_a_version_that_is_installed_meanwhile_leaves_the_decision_as_it_was(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    """Between the routing of a study and its analysis; of the next study it is the one that answers."""

    class Installing(Direct):
        def enter(self, name, returns, prepare, *args, **kwargs):  # type: ignore[no-untyped-def]
            if name == "hand over":
                build_package(tmp_path / "models" / "chest" / "1.2.0", version="1.2.0")
            return super().enter(name, returns, prepare, *args, **kwargs)

    with with_models(rooms, tmp_path) as rooms:
        process_study(closed_chest(database, rooms.spool, 1), 1, rooms=rooms, durable=Installing(database))
        process_study(closed_chest(database, rooms.spool, 2), 1, rooms=rooms, durable=Direct(database))
    versions = [
        {finding.model_version for finding in history.findings} for history in read_history(database, StudyFilter())
    ]
    assert versions == [{"1.1.0"}, {"1.2.0"}]


def test_a_study_whose_model_cannot_answer_says_what_is_wrong_with_it(
    database: Database, rooms: Rooms, puts: Puts, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path, active="1.0.0") as rooms:
        study_id = closed_chest(database, rooms.spool)
        (weights,) = (tmp_path / "models" / "chest" / "1.0.0").glob("*.onnx")
        weights.write_bytes(weights.read_bytes() + b"changed")
        for attempt in (1, 2, 3):
            process_study(study_id, attempt, rooms=rooms, durable=Direct(database))
    (history,) = read_history(database, StudyFilter())
    assert [job[2] for job in puts.jobs] == [2, 3]
    assert (history.state, history.reason) == ("failed", "keeps_failing")
    size = weights.stat().st_size
    assert f"{weights}: {size} bytes; the manifest says {size - 7}" in history.events[-1].detail


class Meanwhile(Direct):
    """Does something before the step of this name."""

    def __init__(self, database: Database, step: str, done: Callable[[], object]) -> None:
        super().__init__(database)
        self._step, self._done = step, done

    def enter(self, name, returns, prepare, *args, **kwargs):  # type: ignore[no-untyped-def]
        if name == self._step:
            self._done()
        return super().enter(name, returns, prepare, *args, **kwargs)


@pytest.mark.parametrize("step", ["admit", "hand over"])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (shutil.rmtree, "there is no version '1.1.0' of the model package chest"),
        (lambda folder: (folder / "manifest.toml").write_text("x = 1"), "manifest.toml: name: missing"),
        (lambda folder: (folder / "model.onnx").unlink(), "Its weights are missing: "),
    ],
    ids=["removed", "manifest", "weights"],
)
def test_a_version_that_goes_while_the_worker_serves_it_holds_its_studies_and_says_what_is_missing(
    database: Database, rooms: Rooms, tmp_path: Path, step: str, damage: Callable[[Path], object], why: str
) -> None:
    with with_models(rooms, tmp_path, active="1.1.0") as rooms:
        study_id = closed_chest(database, rooms.spool)
        folder = tmp_path / "models" / "chest" / "1.1.0"
        process_study(study_id, 1, rooms=rooms, durable=Meanwhile(database, step, lambda: damage(folder)))
    (history,) = read_history(database, StudyFilter())
    assert (history.state, history.reason) == ("held", "not_configured")
    assert why in history.events[-1].detail
