"""Everything that a destination can ask for, in a real PACS, and taken back from there again."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from tests.journeys.house import Node, Orthanc, wait_until

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
TITLE = "113037"


def held(orthanc: Orthanc) -> Iterator[Dataset]:
    for instance in orthanc.instances():
        yield pydicom.dcmread(BytesIO(orthanc.file(instance)), stop_before_pixels=True)


def notes(orthanc: Orthanc) -> list[Dataset]:
    selections = (dataset for dataset in held(orthanc) if dataset.SOPClassUID == KEY_OBJECTS)
    return [one for one in selections if one.ConceptNameCodeSequence[0].CodeValue == TITLE]


def test_all_of_a_studys_results_are_taken_back_by_a_note_that_names_them(
    node: Node, orthanc: Orthanc, chest: Path
) -> None:
    with node.config.open("a") as configuration:
        configuration.write('profile = "air"\nextras = ["kos", "gsps", "seg", "pdf"]\n')
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    node.start("worker")
    node.send(chest)
    before = node.wait_for("done")
    assert {"overlay", "air_sr", "text_sr", "pdf"} <= {result.kind for result in before.results}
    sent = {result.sop_instance_uid for result in before.results}
    assert {str(dataset.SOPInstanceUID) for dataset in held(orthanc)} == sent

    uid = before.study_instance_uid
    told = node.run("study", uid, "--withdraw", "safety", "--why", "the detector was upside down")
    assert (told.returncode, "is withdrawn" in told.stdout) == (0, True), told.stderr
    (note,) = wait_until(lambda: notes(orthanc), "the note is in the PACS")
    (evidence,) = note.CurrentRequestedProcedureEvidenceSequence
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert named == sent
    after = node.wait_for("withdrawn")
    assert [event.detail for event in after.events if event.event == "withdrawn"] == [
        "for patient safety, asked for from the command line: the detector was upside down"
    ]
    assert len(node.ledger()) == 1

    orthanc.send_to_node(orthanc.instances())
    wait_until(
        lambda: node.counts().sent_back[0].value == len(sent) + 1,
        "all of it, with the note, is known as the node's own",
    )
    assert [history.state for history in node.histories()] == ["withdrawn"]
