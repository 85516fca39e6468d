"""What is wrong is kept, reported, and never stops the node."""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from cli.__main__ import main
from scu.store import describe, send_files
from storage.overview import list_quarantine
from tests.factories.arrivals import encoded
from tests.factories.raw_store import store_raw
from tests.factories.sources import PLAIN_CASES, radiograph, stored_study
from tests.journeys.house import Node, Orthanc, wait_until
from tests.journeys.test_a_study_and_its_pacs import errors_of

CR = "1.2.840.10008.5.1.4.1.1.1"


def test_what_belongs_to_no_study_is_kept_and_reported_and_what_is_no_data_set_is_refused(sqlite_node: Node) -> None:
    node = sqlite_node
    node.start("serve")
    garbage = b"this is not a data set at all" * 40
    assert store_raw(node.receiver_port, sop_instance_uid="2.25.99", sop_class_uid=CR, data_set=garbage) == 0xC000
    lost = radiograph(1)
    lost.SOPInstanceUID, lost.SOPClassUID = UID("2.25.98"), UID(CR)
    del lost.StudyInstanceUID
    content = encoded(lost)
    assert store_raw(node.receiver_port, sop_instance_uid="2.25.98", sop_class_uid=CR, data_set=content) == 0x0000
    quarantined = wait_until(
        lambda: list_quarantine(node.database, clinics=None, reason=None, limit=10)[0], "it is in quarantine"
    )
    assert [(line.reason, line.sop_instance_uid) for line in quarantined] == [("unreadable", "2.25.98")]
    assert node.answers_echo()
    assert len(list((node.data_dir / "spool").rglob("*.dcm"))) == 1


def test_what_an_unknown_caller_sends_is_kept_in_quarantine_and_goes_no_further(
    sqlite_node: Node, tmp_path: Path
) -> None:
    """receiver.unknown_callers = "quarantine"."""
    node = sqlite_node
    serve = [sys.executable, "-m", "cli", "serve", "--config", str(node.config)]
    node.start_command(serve, "serve", COLLIMATOR_RECEIVER__UNKNOWN_CALLERS="quarantine")
    image = radiograph(1)
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    (outcome,) = send_files(
        [describe(tmp_path / "image.dcm")], node.address, calling_ae_title="STRANGER", timeout_s=30.0
    )
    assert outcome.status == 0x0000
    (kept,) = wait_until(
        lambda: list_quarantine(node.database, clinics=None, reason=None, limit=10)[0], "it is in quarantine"
    )
    assert (kept.reason, kept.sop_instance_uid) == ("unknown_caller", image.SOPInstanceUID)
    (path,) = (node.data_dir / "spool").rglob("*.dcm")
    assert pydicom.dcmread(path).PixelData == image.PixelData
    assert (node.histories(), node.counts().instances, node.ledger()) == ([], (), [])


def test_a_study_without_an_image_is_kept_and_not_analysed(sqlite_node: Node, tmp_path: Path) -> None:
    node = sqlite_node
    node.start("serve")
    report = radiograph(1)
    del report.PixelData, report.Rows, report.Columns
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    node.send(tmp_path / "report.dcm")
    history = node.wait_for("held")
    assert (history.reason, history.results) == ("no_image", ())


def test_an_image_that_cannot_be_decoded_fails_its_study_and_no_other(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    node = sqlite_node
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    broken = pydicom.dcmread(chest)
    broken.PixelData = broken.PixelData[:1000]
    broken.StudyInstanceUID = "2.25.4711"
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = UID("2.25.4711.1")
    broken.save_as(tmp_path / "broken.dcm")
    node.send(tmp_path / "broken.dcm", chest)
    assert node.wait_for("failed", "2.25.4711").reason == "unreadable_pixels"
    assert node.wait_for("done").is_charged
    assert [row.study_instance_uid for row in node.ledger()] != ["2.25.4711"]


def test_odd_studies_get_valid_results_under_the_patients_own_identity(
    sqlite_node: Node, orthanc: Orthanc, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """No Patient ID, Accession Number, Study ID or Patient Orientation; names in other scripts; hostile text; …"""
    node = sqlite_node
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    names = {}
    for case in PLAIN_CASES:
        for instance in stored_study(case.make(), tmp_path).instances:
            assert node.send(Path(instance.path)) == ["stored"]
            names[str(pydicom.dcmread(instance.path).StudyInstanceUID)] = case.patient_name
    wait_until(
        lambda: [h.state for h in node.histories()] == ["done"] * len(PLAIN_CASES), "all are done", within_s=180.0
    )

    results = [orthanc.file(instance) for instance in orthanc.instances()]
    # An overlay, a measurement report and a text for each, and a second overlay for the one study of two views.
    assert len(results) == 3 * len(PLAIN_CASES) + 1
    for content in results:
        assert errors_of(require_program("dciodvfy"), content, node.folder) == []
        dataset = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        assert dataset.get_item("PatientName").value.rstrip(b" ") == names[dataset.StudyInstanceUID]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[receiver]\nport = "eleven"', "receiver.port"),
        ("[receiver]\nprot = 11112", "receiver.prot: there is no such key"),
        ('[[clinics]]\nname = "a"\ntier = "gold"', "clinics.0.tier"),
        ('[node]\ndatabase_url = "mysql://x"', "node.database_url"),
        ("[node\n", "is not TOML"),
    ],
)
def test_a_wrong_configuration_names_its_key_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    config = tmp_path / "collimator.toml"
    config.write_text(line)
    assert main(["serve", "--config", str(config)]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
