"""Orthanc and a requester on DCMTK ask the node to answer for what was sent; modalities say by MPPS when it is all."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from tests.factories.ports import free_port
from tests.journeys.house import LOOPBACK, MODALITY, Node, Orthanc, wait_until

MPPS = "1.2.840.10008.3.1.2.3.3"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def reference(chest: Path) -> tuple[str, str]:
    """SOP Class UID and SOP Instance UID of the radiograph."""
    dataset = pydicom.dcmread(chest, stop_before_pixels=True)
    return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)


def outcome(orthanc: Orthanc, transaction: str) -> dict[str, Any]:
    """What Orthanc was told, once it was."""

    def told() -> dict[str, Any] | None:
        answer: dict[str, Any] = orthanc.get(transaction)
        return None if answer["Status"] == "Pending" else answer

    answer: dict[str, Any] = wait_until(told, f"Orthanc has its report on {transaction}")
    return answer


def committed(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["SOPClassUID"], one["SOPInstanceUID"]) for one in answer["Success"]]


def refused(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["SOPInstanceUID"], one["FailureReason"]) for one in answer["Failures"]]


def configure(node: Node, addition: str) -> None:
    node.config.write_text(f"{addition}\n{node.config.read_text()}")


def test_the_node_answers_for_what_it_holds_and_refuses_the_rest_with_reasons(
    node: Node, orthanc: Orthanc, chest: Path, reference: tuple[str, str]
) -> None:
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    orthanc.send_to_node([orthanc.put_in(chest)])
    sop_class, uid = reference

    answer = outcome(orthanc, orthanc.ask_node_for_commitment(reference))
    assert (answer["Status"], answer["RemoteAET"], committed(answer)) == ("Success", "COLLIMATOR", [reference])

    partly = orthanc.ask_node_for_commitment(reference, (sop_class, "1.2.3.404"))
    wrongly = orthanc.ask_node_for_commitment((CT, uid))
    assert refused(outcome(orthanc, wrongly)) == [(uid, 0x0119)]
    answer = outcome(orthanc, partly)
    assert (answer["Status"], committed(answer), refused(answer)) == ("Failure", [reference], [("1.2.3.404", 0x0112)])


def test_what_will_not_be_kept_long_enough_is_refused(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, reference: tuple[str, str]
) -> None:
    configure(sqlite_node, "[storage]\npixel_retention_days = 7.0\n")
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("serve")
    orthanc.send_to_node([orthanc.put_in(chest)])
    answer = outcome(orthanc, orthanc.ask_node_for_commitment(reference))
    assert (committed(answer), refused(answer)) == ([], [(reference[1], 0x0110)])


def test_a_promise_survives_the_death_of_the_receiver_and_the_absence_of_its_asker(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, reference: tuple[str, str]
) -> None:
    configure(sqlite_node, "[commitment]\nfirst_retry_s = 0.5\n")
    orthanc.start(node_port=sqlite_node.receiver_port)
    receiver = sqlite_node.start("receiver")
    orthanc.send_to_node([orthanc.put_in(chest)])
    transaction = orthanc.ask_node_for_commitment(reference)
    receiver.stop(signal.SIGKILL)
    assert orthanc.get(transaction)["Status"] == "Pending"

    # The receiver that comes after it brings in the instance, the worker the request.
    sqlite_node.start("receiver")
    sqlite_node.start("worker")
    assert committed(outcome(orthanc, transaction)) == [reference]


# DCMTK


class DcmtkModality:
    """MODALITY1 as tests/dcmtk/commitment_scu.cc is one."""

    def __init__(self, program: Path, node: Node) -> None:
        self._program, self._node = program, node
        self._port = free_port()
        without = f'ae_title = "{MODALITY}"\n'
        assert without in node.config.read_text()
        node.config.write_text(node.config.read_text().replace(without, f"{without}commitment_port = {self._port}\n"))

    def ask(self, transaction_uid: str, *references: tuple[str, str], waits_s: int = 60) -> tuple[int, list[str]]:
        """Exit status and what it was told, a line each; both are explained in the program's head."""
        peer = ["COLLIMATOR", LOOPBACK, str(self._node.receiver_port)]
        command = [str(self._program), MODALITY, str(self._port), *peer, str(waits_s), transaction_uid]
        command += [f"{sop_class}={uid}" for sop_class, uid in references]
        done = subprocess.run(command, capture_output=True, text=True, timeout=waits_s + 60)
        return done.returncode, done.stdout.splitlines()


def test_a_requester_on_dcmtk_is_told_what_is_held_and_what_is_not(
    node: Node, commitment_scu: Path, chest: Path, reference: tuple[str, str]
) -> None:
    modality = DcmtkModality(commitment_scu, node)
    node.start("serve")
    assert node.send(chest) == ["stored"]
    sop_class, uid = reference

    assert modality.ask("2.25.1", reference) == (
        0,
        ["action 0x0000", "event 1 2.25.1", f"committed {sop_class} {uid}"],
    )
    assert modality.ask("2.25.2", reference, (sop_class, "1.2.3.404")) == (
        1,
        [
            "action 0x0000",
            "event 2 2.25.2",
            f"committed {sop_class} {uid}",
            f"failed {sop_class} 1.2.3.404 0x0112",
        ],
    )
    assert modality.ask("2.25.3", (CT, uid)) == (1, ["action 0x0000", "event 2 2.25.3", f"failed {CT} {uid} 0x0119"])


def test_a_requester_on_dcmtk_that_asks_again_is_told_again_and_may_not_mean_something_else(
    sqlite_node: Node, commitment_scu: Path, chest: Path, reference: tuple[str, str]
) -> None:
    modality = DcmtkModality(commitment_scu, sqlite_node)
    sqlite_node.start("serve")
    assert sqlite_node.send(chest) == ["stored"]
    told = ["action 0x0000", "event 1 2.25.1", f"committed {reference[0]} {reference[1]}"]
    assert modality.ask("2.25.1", reference) == (0, told)
    assert modality.ask("2.25.1", reference) == (0, told)
    assert modality.ask("2.25.1", reference, (CT, "1.2.3.404")) == (2, ["action 0x0115"])


def test_a_requester_on_dcmtk_that_the_node_cannot_report_to_is_refused_at_once(
    sqlite_node: Node, commitment_scu: Path, reference: tuple[str, str]
) -> None:
    modality = DcmtkModality(commitment_scu, sqlite_node)
    without = "\n".join(
        line for line in sqlite_node.config.read_text().splitlines() if not line.startswith("commitment_port")
    )
    sqlite_node.config.write_text(without)
    sqlite_node.start("receiver")
    assert modality.ask("2.25.1", reference) == (2, ["action 0x0110"])


# MPPS


@contextmanager
def modality(node: Node) -> Iterator[Association]:
    ae = AE(MODALITY)
    ae.add_requested_context(MPPS)
    association = ae.associate(LOOPBACK, node.receiver_port, ae_title="COLLIMATOR")
    assert association.is_established
    yield association
    association.release()


def begin(association: Association, step: str, study_instance_uid: str) -> int:
    attributes = Dataset()
    attributes.ScheduledStepAttributesSequence = [Dataset()]
    attributes.ScheduledStepAttributesSequence[0].StudyInstanceUID = study_instance_uid
    attributes.PerformedProcedureStepStatus = "IN PROGRESS"
    attributes.PerformedSeriesSequence = []
    status, _ = association.send_n_create(attributes, MPPS, step)
    return int(status.Status)


def end(association: Association, step: str, *uids: str) -> int:
    attributes = Dataset()
    attributes.PerformedProcedureStepStatus = "COMPLETED"
    series = Dataset()
    series.ReferencedImageSequence = [Dataset() for _ in uids]
    for item, uid in zip(series.ReferencedImageSequence, uids, strict=True):
        item.ReferencedSOPInstanceUID = uid
    attributes.PerformedSeriesSequence = [series]
    status, _ = association.send_n_set(attributes, MPPS, step)
    return int(status.Status)


def test_a_study_waits_for_its_procedure_step_and_closes_when_that_has_ended(node: Node, chest: Path) -> None:
    dataset = pydicom.dcmread(chest, stop_before_pixels=True)
    node.start("serve")
    with modality(node) as association:
        assert begin(association, "2.25.5", dataset.StudyInstanceUID) == 0x0000
        node.send(chest)
        wait_until(node.histories, "the image has its row")
        with pytest.raises(AssertionError):  # released long ago, by the 0.3 s of this node
            wait_until(lambda: node.histories()[0].state != "receiving", "it closes", within_s=4.0)
        assert end(association, "2.25.5", dataset.SOPInstanceUID) == 0x0000
    wait_until(lambda: node.histories()[0].state != "receiving", "the study is complete")
    assert ("complete", "mpps") in [(event.event, event.detail) for event in node.histories()[0].events]


def test_mpps_is_answered_while_nobody_follows_it_into_the_database(sqlite_node: Node, chest: Path) -> None:
    receiver = sqlite_node.start("receiver")
    with modality(sqlite_node) as association:
        assert begin(association, "2.25.5", "1.2.3") == 0x0000
    receiver.stop(signal.SIGKILL)
    sqlite_node.start("receiver")
    with modality(sqlite_node) as association:
        assert begin(association, "2.25.5", "1.2.3") == 0x0111
        assert end(association, "2.25.5", "1.2.3.1") == 0x0000
        assert end(association, "2.25.5", "1.2.3.2") == 0x0110
