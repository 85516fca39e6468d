"""A PACS is stopped while studies go on: its backlog drains completely, in order and over few associations."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.house import LOOPBACK, Node, Orthanc, Process, wait_until
from tests.journeys.test_killed_between_steps import another_study

STUDIES = [f"2.25.{number}000" for number in range(1, 13)]

DEAF = """
[[clinics.destinations]]
name = "deaf"
ae_title = "DEAF"
host = "127.0.0.1"
port = {port}
profile = "text"
"""


# A PACS that takes pictures and nothing else.
PICTURES_ONLY = """
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[Pictures]
PresentationContext1 = SecondaryCaptureImageStorage\\Plain
[[Profiles]]
[Pictures]
PresentationContexts = Pictures
"""


class Storescp:
    """DCMTK's storescp as a PACS that can be stopped; its log tells of every association and every object."""

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self._folder, self._port = folder / "storescp", port
        self._folder.mkdir()
        self._log = folder / "storescp.log"
        self._command = [program, str(port), "-v", "--output-directory", str(self._folder)]
        self._process: Process | None = None

    def start(self, *options: str) -> None:
        self._process = Process([*self._command, *options], self._log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def associations(self) -> int:
        return self._log.read_text().count("Association Received")

    def stored(self) -> list[str]:
        """SOP Instance UIDs in the order in which they came, as often as they came."""
        return re.findall(r"storing DICOM file: \S*?\.([\d.]+)", self._log.read_text())


@pytest.fixture
def storescp(require_program: Callable[[str], str], orthanc: Orthanc, tmp_path: Path) -> Iterator[Storescp]:
    """Where the node's destination is; not started yet."""
    storescp = Storescp(require_program("storescp"), tmp_path, orthanc.port)
    yield storescp
    storescp.stop()


def test_the_backlog_of_an_outage_drains_in_order_over_few_associations(
    sqlite_node: Node, storescp: Storescp, chest: Path, tmp_path: Path
) -> None:
    node = sqlite_node
    node.start("serve")
    node.send(*(another_study(chest, tmp_path, study) for study in STUDIES))
    wait_until(lambda: [h.state for h in node.histories()] == ["delivering"] * len(STUDIES), "all wait for the PACS")
    assert node.ledger() == []

    storescp.start()
    wait_until(lambda: [h.state for h in node.histories()] == ["done"] * len(STUDIES), "all are delivered")
    in_order = sorted(node.histories(), key=lambda history: history.completed_at or history.opened_at)
    assert storescp.stored() == [result.sop_instance_uid for history in in_order for result in history.results]
    assert storescp.associations() == 1
    assert len(node.ledger()) == len(STUDIES)


def test_a_pacs_that_is_stopped_in_the_middle_gets_the_rest_and_nothing_twice_but_what_it_did_not_answer(
    sqlite_node: Node, storescp: Storescp, chest: Path, tmp_path: Path
) -> None:
    node = sqlite_node
    node.start("serve")
    node.send(*(another_study(chest, tmp_path, study) for study in STUDIES))
    wait_until(lambda: [h.state for h in node.histories()] == ["delivering"] * len(STUDIES), "all wait for the PACS")
    storescp.start()
    wait_until(lambda: len(storescp.stored()) > 5, "it has some")
    storescp.stop()
    storescp.start()
    wait_until(lambda: [h.state for h in node.histories()] == ["done"] * len(STUDIES), "all are delivered")
    stored = storescp.stored()
    assert set(stored) == {result.sop_instance_uid for history in node.histories() for result in history.results}
    assert len(stored) - len(set(stored)) <= 1
    assert len(node.ledger()) == len(STUDIES)


def test_a_destination_that_never_answers_does_not_delay_another(
    sqlite_node: Node, storescp: Storescp, chest: Path, tmp_path: Path
) -> None:
    """It is waited for longer than this test waits for the other."""
    node = sqlite_node
    with socket.socket() as deaf:
        deaf.bind((LOOPBACK, 0))
        deaf.listen()
        patient = node.config.read_text().replace("timeout_s = 5.0", "timeout_s = 600.0")
        node.config.write_text(patient + DEAF.format(port=deaf.getsockname()[1]))
        storescp.start()
        node.start("serve")
        node.send(*(another_study(chest, tmp_path, study) for study in STUDIES[:4]))
        wait_until(lambda: len(set(storescp.stored())) == 12, "the PACS has everything")
        wait_until(lambda: len(node.ledger()) == 4, "all are charged")
    node.stop()


def test_a_pacs_that_takes_pictures_only_gets_the_picture_instead_of_the_text(
    sqlite_node: Node, storescp: Storescp, chest: Path, tmp_path: Path
) -> None:
    node = sqlite_node
    with open(node.config, "a") as config:
        config.write('profile = "text"\n')
    pictures = tmp_path / "pictures.cfg"
    pictures.write_text(PICTURES_ONLY)
    storescp.start("--config-file", str(pictures), "Pictures")
    node.start("serve")
    node.send(chest)
    history = node.wait_for("done")
    kinds = {result.kind: [delivery.state for delivery in result.deliveries] for result in history.results}
    assert kinds == {"text_sr": ["replaced"], "overlay": ["delivered"]}
    assert storescp.stored() == [result.sop_instance_uid for result in history.results if result.kind == "overlay"]
    (said,) = [event.detail for event in history.events if event.event == "fell back"]
    assert said.startswith("pacs gets the form sc_only: the peer does not take SOP class 1.2.840.10008.5.1.4.1.1.88.22")
    assert history.is_charged
