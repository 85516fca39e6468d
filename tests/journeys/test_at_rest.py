"""A node that encrypts at rest does all that another does, and what lies on its disk tells nothing."""

from pathlib import Path

import pydicom

from tests.factories.arrivals import files_in
from tests.journeys.house import Node, Orthanc, wait_until

STUDY = "1.3.6.1.4.1.5962.1.2.9.20040826185059.5457"
OLD_KEY, NEW_KEY = "6f" * 32, "6e" * 32


def test_a_study_goes_its_way_encrypted_survives_a_new_key_and_is_erased(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    node, key_file = sqlite_node, sqlite_node.folder / "keys"
    key_file.write_text(OLD_KEY)
    with open(node.config, "a") as config:
        config.write(f'\n[storage]\nencryption_key_file = "{key_file}"\n')
    orthanc.start(node_port=node.receiver_port)
    running = node.start("serve")
    node.send(chest)
    node.wait_for("done", STUDY)
    assert len(orthanc.instances()) == 3
    patient_id = str(pydicom.dcmread(chest).PatientID).encode()
    assert patient_id in chest.read_bytes()
    assert len(on_disk(node)) == 4
    for content in on_disk(node):
        assert b"DICM" not in content
        assert patient_id not in content

    assert running.stop() == 0
    key_file.write_text(f"{NEW_KEY}\n{OLD_KEY}\n")
    assert node.run("storage", "rotate-keys").stdout == "1 study keys were wrapped with the first key, 0 already were\n"
    key_file.write_text(NEW_KEY)
    node.start("serve")
    node.send(chest)
    wait_until(lambda: node.counts().sent_again[0].value == 1, "the re-send is recognised")

    erased = node.run("storage", "erase", "--clinic", "st-mary", STUDY)
    assert (erased.stdout, erased.stderr) == ("erased: 1 instances and 3 results\n", "")
    assert on_disk(node) == []
    assert [row.study_instance_uid for row in node.ledger()] == [STUDY]
    assert "erased" in node.run("study", STUDY).stdout


def on_disk(node: Node) -> list[bytes]:
    """What received instances and results look like there."""
    paths = files_in(node.data_dir / "spool") + files_in(node.data_dir / "results")
    return [path.read_bytes() for path in paths if path.suffix == ".dcm"]
