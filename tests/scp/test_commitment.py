"""N-ACTION of storage commitment: what is answered with success is on disk, and everything else says why not."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import storage.requests.files
from domain.clinics import Caller
from domain.commitment import CommitmentRequest, Reference
from scp.commitment import CommitmentService
from scp.peer import Peer
from scp.requests import CommandField, Request, Services
from storage.plain import from_plain
from storage.requests.files import RequestBox
from tests.factories.arrivals import encoded
from tests.factories.services import CLINIC, MODALITY, PATHS, associated, request, serving

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"


@pytest.fixture
def box(tmp_path: Path) -> RequestBox:
    return RequestBox(tmp_path, "commitments")


def action_information(*uids: str, transaction_uid: str | None = "2.25.9", sop_class_uid: str | None = CR) -> Dataset:
    """PS3.4 Table J.3-2."""
    information = Dataset()
    if transaction_uid is not None:
        information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [Dataset() for _ in uids]
    for item, uid in zip(information.ReferencedSOPSequence, uids, strict=True):
        item.ReferencedSOPInstanceUID = uid
        if sop_class_uid is not None:
            item.ReferencedSOPClassUID = sop_class_uid
    return information


def n_action(information: Dataset | bytes, *, instance: str = WELL_KNOWN_INSTANCE, action: int | None = 1) -> Request:
    return request(CommandField.N_ACTION_RQ, PUSH_MODEL, instance, information, action_type_id=action)


def services(box: RequestBox) -> Services:
    return {(CommandField.N_ACTION_RQ, PUSH_MODEL): CommitmentService(box, [CLINIC]).handle}


def answer(box: RequestBox, asked: Request, peer: Peer = MODALITY) -> int:
    return CommitmentService(box, [CLINIC]).handle(asked, peer).status


def kept(box: RequestBox) -> list[CommitmentRequest]:
    return [from_plain(CommitmentRequest, json.loads(box.read(key) or b"")) for key in box.waiting()]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_request_is_on_disk_when_it_is_answered(tmp_path: Path, box: RequestBox, path: str, syntax: str) -> None:
    with (
        serving(tmp_path, path, services(box)) as port,
        associated(port, PUSH_MODEL, syntax, ae_title="MODALITY1") as association,
    ):
        information = action_information("1.2.3.1", "1.2.3.2")
        status, _ = association.send_n_action(information, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
        (commitment,) = kept(box)
    assert status.Status == 0x0000
    assert (commitment.clinic, commitment.calling_ae_title, commitment.peer_address, commitment.transaction_uid) == (
        "st-mary",
        "MODALITY1",
        "127.0.0.1",
        "2.25.9",
    )
    assert commitment.asked == (
        Reference(sop_class_uid=CR, sop_instance_uid="1.2.3.1"),
        Reference(sop_class_uid=CR, sop_instance_uid="1.2.3.2"),
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_caller_without_a_port_for_reports_is_refused_at_once(tmp_path: Path, box: RequestBox, path: str) -> None:
    with (
        serving(tmp_path, path, services(box)) as port,
        associated(port, PUSH_MODEL, ExplicitVRLittleEndian, ae_title="MODALITY2") as association,
    ):
        status, _ = association.send_n_action(action_information("1.2.3.1"), 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    assert (status.Status, kept(box)) == (0x0110, [])


UID_ELEMENT_CUT_SHORT = b"\x08\x00\x95\x11UI\x40\x002.25.9"
SEQUENCE_THAT_IS_TEXT = b"\x08\x00\x95\x11UI\x06\x002.25.9\x08\x00\x99\x11LO\x04\x00text"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (n_action(action_information("1.2.3.1"), instance="1.2.3"), 0x0112),
        (n_action(action_information("1.2.3.1"), instance=""), 0x0112),
        (n_action(action_information("1.2.3.1"), action=2), 0x0123),
        (n_action(action_information("1.2.3.1"), action=None), 0x0123),
        (n_action(b""), 0x0115),
        (n_action(b"\0" * 7), 0x0115),
        (n_action(UID_ELEMENT_CUT_SHORT), 0x0115),
        (n_action(encoded(action_information("1.2.3.1", "1.2.3.2"))[:-40]), 0x0115),
        (n_action(SEQUENCE_THAT_IS_TEXT), 0x0115),
        (n_action(action_information("1.2.3.1", transaction_uid=None)), 0x0115),
        (n_action(action_information("1.2.3.1", transaction_uid="")), 0x0115),
        (n_action(action_information("1.2.3.1", transaction_uid="../../x")), 0x0115),
        (n_action(action_information("1.2.3.1", transaction_uid="1." * 33)), 0x0115),
        (n_action(action_information()), 0x0115),
        (n_action(action_information("1.2.3.1", "")), 0x0115),
        (n_action(action_information("1.2.3.1", sop_class_uid=None)), 0x0115),
        (n_action(action_information("1.2.3.1\\1.2.3.2")), 0x0115),
        (n_action(action_information(*(f"1.2.{number}" for number in range(10_001)))), 0x0213),
        (n_action(b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000), 0x0213),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused(box: RequestBox, asked: Request, status: int) -> None:
    assert (answer(box, asked), kept(box)) == (status, [])


def test_ten_thousand_instances_may_be_asked_for_at_once(box: RequestBox) -> None:
    assert answer(box, n_action(action_information(*(f"1.2.{number}" for number in range(10_000))))) == 0x0000
    assert len(kept(box)[0].asked) == 10_000


def test_an_instance_that_is_named_twice_is_answered_for_once(box: RequestBox) -> None:
    assert answer(box, n_action(action_information("1.2.3.1", "1.2.3.1"))) == 0x0000
    assert len(kept(box)[0].asked) == 1


# The same Transaction UID again (PS3.4 J.3.2.1.2)


def test_a_request_that_is_repeated_is_kept_again_as_a_newer_one(box: RequestBox) -> None:
    assert answer(box, n_action(action_information("1.2.3.1", "1.2.3.2"))) == 0x0000
    assert answer(box, n_action(action_information("1.2.3.2", "1.2.3.1"))) == 0x0000
    first, again = kept(box)
    assert first.requested_at < again.requested_at


@pytest.mark.parametrize("path", PATHS)
def test_a_transaction_uid_that_stands_for_other_instances_is_refused(
    tmp_path: Path, box: RequestBox, path: str
) -> None:
    with (
        serving(tmp_path, path, services(box)) as port,
        associated(port, PUSH_MODEL, ExplicitVRLittleEndian, ae_title="MODALITY1") as association,
    ):
        statuses = [
            association.send_n_action(action_information(*uids), 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)[0].Status
            for uids in (["1.2.3.1"], ["1.2.3.1", "1.2.3.2"], ["1.2.3.1"])
        ]
    assert statuses == [0x0000, 0x0115, 0x0000]
    assert {len(one.asked) for one in kept(box)} == {1}


def test_it_is_refused_long_after_the_first_request_was_brought_in_and_by_another_process(box: RequestBox) -> None:
    assert answer(box, n_action(action_information("1.2.3.1"))) == 0x0000
    box.remove(*box.waiting())
    again = RequestBox(box.data_dir, "commitments")
    assert answer(again, n_action(action_information("1.2.3.2"))) == 0x0115
    assert kept(box) == []


def test_two_modalities_may_choose_the_same_transaction_uid(box: RequestBox) -> None:
    caller = Caller(ae_title="MODALITY3", host="127.0.0.1", commitment_port=4711)
    service = CommitmentService(box, [replace(CLINIC, callers=(*CLINIC.callers, caller))])
    peers = (MODALITY, replace(MODALITY, ae_title="MODALITY3"))
    requests = (n_action(action_information("1.2.3.1")), n_action(action_information("1.2.3.2")))
    assert [service.handle(asked, peer).status for asked, peer in zip(requests, peers, strict=True)] == [0x0000] * 2


def test_of_many_that_ask_under_one_transaction_uid_at_once_one_is_heard(box: RequestBox) -> None:
    statuses: list[int] = []
    requests = [n_action(action_information(f"1.2.3.{number}")) for number in range(8)]
    threads = [Thread(target=lambda asked=asked: statuses.append(answer(box, asked))) for asked in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(statuses) == [0x0000] + [0x0115] * 7
    assert len(kept(box)) == 1


def test_a_request_that_could_not_be_kept_may_be_made_again(box: RequestBox, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(storage.requests.files, "MOST_WAITING", 0)
        assert answer(box, n_action(action_information("1.2.3.1"))) == 0x0213
    assert answer(box, n_action(action_information("1.2.3.1"))) == 0x0000
    assert len(kept(box)) == 1


def test_a_caller_of_no_clinic_gets_no_commitment(box: RequestBox) -> None:
    assert answer(box, n_action(action_information("1.2.3.1")), replace(MODALITY, clinic="")) == 0x0124
    assert kept(box) == []


def test_a_request_that_cannot_be_written_is_not_answered_with_success(
    box: RequestBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.files, "MOST_WAITING", 0)
    assert answer(box, n_action(action_information("1.2.3.1"))) == 0x0213
    assert kept(box) == []
