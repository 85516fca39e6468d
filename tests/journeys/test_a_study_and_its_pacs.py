"""The main job: a radiograph goes in by C-STORE; its results are found in the PACS; nothing is done twice."""

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
import pydicom
from pydicom.uid import UID

from reports.html import sr_as_html
from tests.journeys.house import LOOPBACK, PACS, Node, Orthanc, wait_until

STUDY = "1.3.6.1.4.1.5962.1.2.9.20040826185059.5457"
LIMB_STUDY = "1.3.6.1.4.1.5962.1.2.11.20040826185059.5457"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RESULT_CLASSES = [SECONDARY_CAPTURE, ENHANCED_SR, COMPREHENSIVE_SR]


def test_results_reach_the_pacs_and_nothing_is_done_twice(
    node: Node, orthanc: Orthanc, chest: Path, require_program: Callable[[str], str]
) -> None:
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    storescu(require_program("storescu"), node, chest)
    history = node.wait_for("done")

    assert history.study_instance_uid == STUDY
    assert [result.kind for result in history.results] == ["overlay", "measurement_sr", "text_sr"]
    assert found_by_c_find(require_program("findscu"), orthanc, node.folder) == RESULT_CLASSES
    assert found_by_qido(orthanc) == RESULT_CLASSES
    for instance in orthanc.instances():
        assert errors_of(require_program("dciodvfy"), orthanc.file(instance), node.folder) == []
    assert [(row.clinic, row.study_instance_uid, row.packages) for row in node.ledger()] == [
        ("st-mary", STUDY, ("chest",))
    ]
    before = node.histories(), orthanc.instances(), node.ledger()

    storescu(require_program("storescu"), node, chest)
    wait_until(lambda: node.counts().sent_again[0].value == 1, "the re-send is recognised")
    orthanc.send_to_node(orthanc.instances())
    wait_until(lambda: node.counts().sent_back[0].value == 3, "the results are recognised")

    after = node.histories(), orthanc.instances(), node.ledger()
    assert [history.events for history in after[0]] == [history.events for history in before[0]]
    assert after[1:] == before[1:]
    assert node.processes[-1].stop() == 0


def test_a_study_without_a_model_is_kept_explained_and_free(sqlite_node: Node, orthanc: Orthanc, limb: Path) -> None:
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("serve")
    sqlite_node.send(limb)
    history = sqlite_node.wait_for("held")

    assert (history.study_instance_uid, history.reason, history.is_charged) == (LIMB_STUDY, "not_configured", False)
    assert sqlite_node.ledger() == []
    (instance,) = orthanc.instances()
    content = orthanc.file(instance)
    note = pydicom.dcmread(BytesIO(content))
    assert (note.SOPClassUID, note.StudyInstanceUID) == (ENHANCED_SR, LIMB_STUDY)
    assert "The bone fracture model is not configured on this node." in sr_as_html(content)


def test_a_pacs_that_is_away_gets_its_results_later_and_only_then_is_the_study_charged(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    sqlite_node.start("serve")
    sqlite_node.send(chest)
    wait_until(lambda: attempts(sqlite_node) >= 2, "two attempts have failed")
    assert sqlite_node.ledger() == []

    orthanc.start(node_port=sqlite_node.receiver_port)
    history = sqlite_node.wait_for("done")
    assert history.is_charged
    assert len(orthanc.instances()) == 3
    assert len(sqlite_node.ledger()) == 1


def test_an_image_that_comes_late_gives_a_revised_result_and_no_second_charge(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("serve")
    sqlite_node.send(chest)
    sqlite_node.wait_for("done")

    late = pydicom.dcmread(chest)
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1234567890")
    late.save_as(tmp_path / "late.dcm")
    sqlite_node.send(tmp_path / "late.dcm")
    wait_until(lambda: len(sqlite_node.histories(STUDY)) == 2, "the next generation is open")
    wait_until(lambda: sqlite_node.histories(STUDY)[1].state == "done", "the next generation is done")

    first, second = sqlite_node.histories(STUDY)
    assert len(sqlite_node.ledger()) == 1
    revised = next(result for result in second.results if result.kind == "measurement_sr")
    file = next(
        dataset
        for dataset in (pydicom.dcmread(BytesIO(orthanc.file(i))) for i in orthanc.instances())
        if dataset.SOPInstanceUID == revised.sop_instance_uid
    )
    predecessors = {
        item.ReferencedSOPInstanceUID
        for study in file.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert {result.sop_instance_uid for result in first.results if result.kind == "measurement_sr"} <= predecessors


def storescu(program: str, node: Node, path: Path) -> None:
    """Send one file with DCMTK, as a modality."""
    sent = subprocess.run(
        [program, "-aet", "MODALITY1", "-aec", "COLLIMATOR", LOOPBACK, str(node.receiver_port), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (sent.returncode, sent.stderr) == (0, "")


def found_by_c_find(program: str, orthanc: Orthanc, folder: Path) -> list[str]:
    """SOP Class UIDs of what a C-FIND at image level (PS3.4 C.4.1) finds under the study, asked by DCMTK."""
    series = _find(program, orthanc, folder / "series", "SERIES", "SeriesInstanceUID")
    return sorted(
        sop_class
        for uid in series
        for sop_class in _find(program, orthanc, folder / uid, "IMAGE", "SOPClassUID", f"SeriesInstanceUID={uid}")
    )


def _find(program: str, orthanc: Orthanc, folder: Path, level: str, wanted: str, *more: str) -> list[str]:
    """The wanted attribute of every response; findscu -X writes each into a file."""
    folder.mkdir()
    command = [program, "-S", "-X", "-aet", "FINDSCU", "-aec", PACS, LOOPBACK, str(orthanc.port)]
    for key in (f"QueryRetrieveLevel={level}", f"StudyInstanceUID={STUDY}", *more, wanted):
        command += ["-k", key]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=True)
    return [str(pydicom.dcmread(path, force=True)[wanted].value) for path in folder.glob("rsp*.dcm")]


def found_by_qido(orthanc: Orthanc) -> list[str]:
    """SOP Class UIDs of what QIDO-RS (PS3.18 10.6) finds under the study."""
    url = f"http://{LOOPBACK}:{orthanc.http_port}/dicom-web/studies/{STUDY}/instances"
    found = httpx.get(url, headers={"Accept": "application/dicom+json"}, timeout=30.0)
    return sorted(instance["00080016"]["Value"][0] for instance in found.json())


def errors_of(dciodvfy: str, content: bytes, folder: Path) -> list[str]:
    """The lines in which dciodvfy finds an error."""
    path = folder / "checked.dcm"
    path.write_bytes(content)
    said = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, timeout=60)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def attempts(node: Node) -> int:
    return max(
        (d.attempts for history in node.histories() for result in history.results for d in result.deliveries),
        default=0,
    )
