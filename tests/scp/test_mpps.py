"""MPPS: a step begins in progress, ends once, and everything that is answered with success is on disk."""

from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.events import EVT_DIMSE_RECV

import storage.requests.files
from scp.mpps import ProcedureStepService
from scp.peer import Peer
from scp.requests import CommandField, Request, Response, Services
from storage.requests.step_folder import StepFolder
from tests.factories.arrivals import encoded
from tests.factories.services import MODALITY, PATHS, associated, request, serving

MPPS = "1.2.840.10008.3.1.2.3.3"
STUDY = "1.2.3"
STEP = "2.25.5"


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    return StepFolder(tmp_path)


def services(folder: StepFolder) -> Services:
    service = ProcedureStepService(folder)
    return {
        (CommandField.N_CREATE_RQ, MPPS): service.handle_create,
        (CommandField.N_SET_RQ, MPPS): service.handle_set,
    }


def begun(status: str | None = "IN PROGRESS", study: str | None = STUDY) -> Dataset:
    """What a modality sends when it begins (PS3.4 Table F.7.2-1), as far as the node looks at it, and a patient."""
    attributes = Dataset()
    attributes.PatientName = "DOE^JANE"
    attributes.ScheduledStepAttributesSequence = [Dataset()]
    if study is not None:
        attributes.ScheduledStepAttributesSequence[0].StudyInstanceUID = study
    if status is not None:
        attributes.PerformedProcedureStepStatus = status
    attributes.PerformedSeriesSequence = []
    return attributes


def ended(*images: str, status: str = "COMPLETED", others: tuple[str, ...] = ()) -> Dataset:
    attributes = Dataset()
    attributes.PerformedProcedureStepStatus = status
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.100"
    series.ReferencedImageSequence = [referenced(uid) for uid in images]
    series.ReferencedNonImageCompositeSOPInstanceSequence = [referenced(uid) for uid in others]
    attributes.PerformedSeriesSequence = [series]
    return attributes


def referenced(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    return item


def create(folder: StepFolder, attributes: Dataset | bytes, *, uid: str = STEP, peer: Peer = MODALITY) -> Response:
    return ProcedureStepService(folder).handle_create(request(CommandField.N_CREATE_RQ, MPPS, uid, attributes), peer)


def change(folder: StepFolder, attributes: Dataset | bytes, *, uid: str = STEP, peer: Peer = MODALITY) -> int:
    asked: Request = request(CommandField.N_SET_RQ, MPPS, uid, attributes)
    return ProcedureStepService(folder).handle_set(asked, peer).status


def state(folder: StepFolder, uid: str = STEP, clinic: str = "st-mary") -> tuple[str, str, tuple[str, ...]] | None:
    step = folder.read(clinic, uid)
    return None if step is None else (step.study_instance_uid, step.status, step.performed)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_step_begins_and_ends(tmp_path: Path, folder: StepFolder, path: str, syntax: str) -> None:
    with (
        serving(tmp_path, path, services(folder)) as port,
        associated(port, MPPS, syntax, ae_title="MODALITY1") as association,
    ):
        status, _ = association.send_n_create(begun(), MPPS, STEP)
        assert (status.Status, state(folder)) == (0x0000, (STUDY, "IN PROGRESS", ()))
        status, _ = association.send_n_set(ended("1.2.3.1", "1.2.3.2", others=("1.2.3.9",)), MPPS, STEP)
        assert (status.Status, state(folder)) == (0x0000, (STUDY, "COMPLETED", ("1.2.3.1", "1.2.3.2", "1.2.3.9")))
        status, _ = association.send_n_create(begun(), MPPS, STEP)
        assert status.Status == 0x0111
        status, _ = association.send_n_set(ended(), MPPS, "2.25.404")
        assert status.Status == 0x0112
        assert "ErrorID" not in status
    assert len(folder.changes.waiting()) == 2


@pytest.mark.parametrize("path", PATHS)
def test_a_change_that_comes_too_late_is_told_so_in_the_standards_words(
    tmp_path: Path, folder: StepFolder, path: str
) -> None:
    """PS3.4 Table F.7.2-2: it is how a modality tells a step that has ended from one that failed."""
    with (
        serving(tmp_path, path, services(folder)) as port,
        associated(port, MPPS, ExplicitVRLittleEndian, ae_title="MODALITY1") as association,
    ):
        association.send_n_create(begun(), MPPS, STEP)
        association.send_n_set(ended("1.2.3.1"), MPPS, STEP)
        status, _ = association.send_n_set(ended("1.2.3.2"), MPPS, STEP)
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    assert status.ErrorComment == "Performed Procedure Step Object may no longer be updated"


def test_a_step_without_a_uid_gets_one_and_its_modality_is_told(tmp_path: Path, folder: StepFolder) -> None:
    told: list[str] = []
    with (
        serving(tmp_path, "fast", services(folder)) as port,
        associated(port, MPPS, ExplicitVRLittleEndian, ae_title="MODALITY1") as association,
    ):
        association.bind(EVT_DIMSE_RECV, lambda event: told.append(event.message.command_set.AffectedSOPInstanceUID))
        status, _ = association.send_n_create(begun(), MPPS)
        assert (status.Status, told[0][:5]) == (0x0000, "2.25.")
        status, _ = association.send_n_set(ended("1.2.3.1"), MPPS, told[0])
        assert status.Status == 0x0000
    assert state(folder, told[0]) == (STUDY, "COMPLETED", ("1.2.3.1",))


@pytest.mark.parametrize(
    ("attributes", "uid", "status"),
    [
        (begun(status=None), STEP, 0x0120),
        (begun(status="COMPLETED"), STEP, 0x0106),
        (begun(status="ON A BREAK"), STEP, 0x0106),
        (begun(study=None), STEP, 0x0120),
        (begun(study=""), STEP, 0x0120),
        (begun(study="1.2.x"), STEP, 0x0106),
        (ended("1.2.3.1", status="IN PROGRESS"), STEP, 0x0120),
        (b"", STEP, 0x0120),
        (b"\0" * 7, STEP, 0x0106),
        (begun(), "../../x", 0x0117),
        (begun(), "1." * 33, 0x0117),
        (b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000, STEP, 0x0213),
        (b"\x10\0\0\0LO\0\0" * 200_000, STEP, 0x0213),
    ],
)
def test_a_step_that_does_not_begin_as_it_must_is_refused(
    folder: StepFolder, attributes: Dataset | bytes, uid: str, status: int
) -> None:
    assert (create(folder, attributes, uid=uid).status, state(folder, uid)) == (status, None)
    assert folder.changes.waiting() == []


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        (ended("1.2.3.1", status="ON A BREAK"), 0x0106),
        (ended("1.2.3.1", ""), 0x0106),
        (ended("no uid"), 0x0106),
        (b"\0" * 7, 0x0106),
        (encoded(ended("1.2.3.1", "1.2.3.2"))[:-20], 0x0106),
        (b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000, 0x0213),
    ],
)
def test_a_change_that_cannot_be_understood_is_refused_and_changes_nothing(
    folder: StepFolder, attributes: Dataset | bytes, status: int
) -> None:
    create(folder, begun())
    assert (change(folder, attributes), state(folder)) == (status, (STUDY, "IN PROGRESS", ()))


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_step_that_has_ended_is_not_changed_any_more(folder: StepFolder, status: str) -> None:
    create(folder, begun())
    assert change(folder, ended("1.2.3.1", status=status)) == 0x0000
    assert change(folder, ended("1.2.3.2", status="COMPLETED")) == 0x0110
    assert state(folder) == (STUDY, status, ("1.2.3.1",))


def test_while_it_goes_on_a_step_says_more_and_keeps_what_it_does_not_mention(folder: StepFolder) -> None:
    create(folder, begun())
    assert change(folder, ended("1.2.3.1", status="IN PROGRESS")) == 0x0000
    assert change(folder, ended("1.2.3.1", "1.2.3.2", status="IN PROGRESS")) == 0x0000
    only_the_status = Dataset()
    only_the_status.PerformedProcedureStepStatus = "COMPLETED"
    assert change(folder, only_the_status) == 0x0000
    assert state(folder) == (STUDY, "COMPLETED", ("1.2.3.1", "1.2.3.2"))


def test_the_step_of_another_clinic_is_unknown(folder: StepFolder) -> None:
    create(folder, begun())
    mercy = replace(MODALITY, clinic="mercy")
    assert change(folder, ended("1.2.3.1"), peer=mercy) == 0x0112
    assert create(folder, begun(), peer=mercy).status == 0x0000
    assert (state(folder), state(folder, clinic="mercy")) == ((STUDY, "IN PROGRESS", ()), (STUDY, "IN PROGRESS", ()))


def test_a_caller_of_no_clinic_has_no_steps(folder: StepFolder) -> None:
    unknown = replace(MODALITY, clinic="")
    assert create(folder, begun(), peer=unknown).status == 0x0124
    assert change(folder, ended(), peer=unknown) == 0x0124


def test_of_two_that_create_the_same_step_at_once_one_is_told_that_it_is_there(folder: StepFolder) -> None:
    statuses: list[int] = []
    modalities = [Thread(target=lambda: statuses.append(create(folder, begun()).status)) for _ in range(8)]
    for modality in modalities:
        modality.start()
    for modality in modalities:
        modality.join(timeout=30)
    assert sorted(statuses) == [0x0000, *[0x0111] * 7]


def test_nothing_of_the_patient_is_kept(folder: StepFolder) -> None:
    create(folder, begun())
    files = [*folder.root.glob("*.json"), *folder.changes.root.iterdir()]
    assert len(files) == 2
    assert not any(b"DOE" in path.read_bytes() for path in files)


def test_a_step_that_cannot_be_written_is_not_answered_with_success(
    folder: StepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.files, "MOST_WAITING", 0)
    assert (create(folder, begun()).status, state(folder)) == (0x0213, None)
