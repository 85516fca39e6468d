"""Files go out as they are; every answer of a peer has one meaning; a peer that is away is tried again."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

import scu.p_data
from domain.errors import Misconfigured, Refuse, Retry
from scp import associate
from scu.echo import echo
from scu.negotiation import refused_contexts
from scu.p_data import write_straight
from scu.store import Address, Answer, OutgoingFile, SendOutcome, answer_of, describe, send_files, store_association
from tests.factories.ports import free_port
from tests.factories.sources import CR, DX, radiograph
from tests.scu.conftest import TIMEOUT_S, Peer, accepting_peer, deaf_peer


def sent(files: list[OutgoingFile], to: Address, *, calling_ae_title: str = "COLLIMATOR") -> list[SendOutcome]:
    return send_files(files, to, calling_ae_title=calling_ae_title, timeout_s=TIMEOUT_S)


def outgoing(folder: Path, number: int, *, syntax: str = ExplicitVRLittleEndian) -> OutgoingFile:
    dataset = radiograph(number)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    path = folder / f"{number}.dcm"
    dataset.save_as(path, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return describe(path)


def data_set(path: Path) -> bytes:
    """The bytes behind the File Meta Information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def data_sets(folder: Path) -> list[bytes]:
    return sorted(data_set(path) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (0x0000, "stored"),
        (0xB000, "stored"),  # Coercion of Data Elements
        (0xB006, "stored"),  # Elements Discarded
        (0xB007, "stored"),  # Data Set does not match SOP Class, as a warning
        (0x0001, "stored"),
        (0x0107, "stored"),  # Attribute List Error
        (0x0116, "stored"),  # Attribute Value Out of Range
        (0xA700, "retry"),  # Refused: Out of Resources
        (0xA702, "retry"),
        (0xA7FF, "retry"),
        (0x0110, "retry"),  # Processing Failure
        (0x0213, "retry"),  # Resource Limitation
        (0xA900, "refused"),  # Data Set does not match SOP Class
        (0xA800, "refused"),
        (0xC000, "refused"),  # Cannot understand
        (0xC123, "refused"),
        (0x0111, "refused"),  # Duplicate SOP Instance
        (0x0117, "refused"),  # Invalid SOP Instance
        (0x0122, "not_taken"),  # SOP Class not supported
        (0x0124, "refused"),  # Not authorized
        (0xFFFF, "refused"),
    ],
)
def test_each_status_asks_one_thing_of_the_sender(status: int, answer: str) -> None:
    assert answer_of(status) == answer


def test_files_arrive_at_dcmtk_byte_for_byte(storescp: Callable[..., Peer], tmp_path: Path) -> None:
    peer = storescp()
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, syntax=ImplicitVRLittleEndian)]
    outcomes = sent(files, peer.address)
    assert [(outcome.answer, outcome.status, outcome.detail) for outcome in outcomes] == [("stored", 0, "")] * 2
    assert [outcome.sop_instance_uid for outcome in outcomes] == ["2.25.4711.1.1.1", "2.25.4711.2.1.1"]
    assert data_sets(peer.folder) == sorted(data_set(file.path) for file in files)


def test_files_arrive_at_a_node_byte_for_byte_in_the_transfer_syntax_they_are_in(node: Peer, tmp_path: Path) -> None:
    compressed = describe(Path(str(get_testdata_file("RG1_J2KR.dcm"))))
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, syntax=ImplicitVRLittleEndian), compressed]
    assert [outcome.answer for outcome in sent(files, node.address)] == [Answer.STORED] * 3
    assert data_sets(node.folder) == sorted(data_set(file.path) for file in files)
    syntaxes = {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in node.folder.rglob("*.dcm")}
    assert syntaxes == {ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless}


def test_a_context_that_the_peer_refuses_is_refused_for_its_file_alone(
    storescp: Callable[..., Peer], tmp_path: Path
) -> None:
    peer = storescp("--prefer-uncompr")
    compressed = describe(Path(str(get_testdata_file("RG1_J2KR.dcm"))))
    plain = outgoing(tmp_path, 1)
    first, second = sent([compressed, plain], peer.address)
    assert (first.answer, first.status) == (Answer.NOT_TAKEN, None)
    assert first.detail == (
        "the peer does not take SOP class 1.2.840.10008.5.1.4.1.1.1 in transfer syntax 1.2.840.10008.1.2.4.90"
    )
    assert second.answer is Answer.STORED


def test_a_peer_that_aborts_leaves_what_it_did_not_take_for_later(
    storescp: Callable[..., Peer], tmp_path: Path
) -> None:
    peer = storescp("--abort-after")
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2)]
    outcomes = sent(files, peer.address)
    assert [outcome.answer for outcome in outcomes] == [Answer.RETRY, Answer.RETRY]
    assert all(outcome.detail for outcome in outcomes)


def test_every_outcome_is_told_as_it_comes(node: Peer, tmp_path: Path) -> None:
    told: list[SendOutcome] = []
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2)]
    outcomes = send_files(
        files, node.address, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S, on_outcome=told.append
    )
    assert told == outcomes


def test_a_file_that_is_gone_is_tried_again_and_the_others_go(node: Peer, tmp_path: Path) -> None:
    gone, there = outgoing(tmp_path, 1), outgoing(tmp_path, 2)
    gone.path.unlink()
    assert [outcome.answer for outcome in sent([gone, there], node.address)] == [Answer.RETRY, Answer.STORED]


def test_a_peer_that_is_away_is_tried_again(tmp_path: Path) -> None:
    nobody = Address(ae_title="NOBODY", host="127.0.0.1", port=free_port())
    with pytest.raises(Retry, match=r"NOBODY at 127\.0\.0\.1"):
        sent([outgoing(tmp_path, 1)], nobody)
    with pytest.raises(Retry, match=r"NOBODY at 127\.0\.0\.1"):
        echo(nobody, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S)


def test_a_peer_that_says_nothing_is_given_up_and_tried_again(tmp_path: Path) -> None:
    with deaf_peer() as peer, pytest.raises(Retry, match=r"DEAF at 127\.0\.0\.1"):
        send_files([outgoing(tmp_path, 1)], peer, calling_ae_title="COLLIMATOR", timeout_s=0.5)


def large(folder: Path) -> OutgoingFile:
    """More than what lies between two sockets."""
    dataset = radiograph(1)
    dataset.PixelData = bytes(32_000_000)
    path = folder / "large.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return describe(path)


def test_a_peer_that_takes_nothing_more_is_given_up_and_tried_again(tmp_path: Path) -> None:
    over = threading.Event()
    with accepting_peer(lambda connection: over.wait(TIMEOUT_S)) as peer:
        (outcome,) = send_files([large(tmp_path)], peer, calling_ae_title="COLLIMATOR", timeout_s=2.0)
        over.set()
    assert (outcome.answer, outcome.status) == (Answer.RETRY, None)


def test_a_peer_that_breaks_off_in_the_middle_is_tried_again(tmp_path: Path) -> None:
    def read_some(connection: socket.socket) -> None:
        connection.recv(1_000_000, socket.MSG_WAITALL)

    with accepting_peer(read_some) as peer:
        (outcome,) = sent([large(tmp_path)], peer)
    assert (outcome.answer, outcome.status) == (Answer.RETRY, None)


def test_a_peer_that_aborts_in_the_middle_is_tried_again(tmp_path: Path) -> None:
    def abort(connection: socket.socket) -> None:
        connection.recv(1_000_000, socket.MSG_WAITALL)
        connection.sendall(associate.encode_abort(2, 0))
        while connection.recv(1_000_000):
            pass

    with accepting_peer(abort) as peer:
        (outcome,) = sent([large(tmp_path)], peer)
    assert (outcome.answer, outcome.status) == (Answer.RETRY, None)


def test_a_file_that_cannot_be_read_to_its_end_is_tried_again(
    tmp_path: Path, node: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> Iterator[bytes]:
        raise OSError(errno.EIO, "the disk is broken")
        yield b""

    file = outgoing(tmp_path, 1)
    monkeypatch.setattr(scu.p_data, "pdus", broken)
    (outcome,) = sent([file], node.address)
    assert (outcome.answer, outcome.status) == (Answer.RETRY, None)


def test_a_peer_that_does_not_know_the_caller_says_so(node: Peer, tmp_path: Path) -> None:
    with pytest.raises(Retry, match="rejected the association: Calling AE title not recognised"):
        sent([outgoing(tmp_path, 1)], node.address, calling_ae_title="STRANGER")


def test_nothing_to_send_needs_no_peer() -> None:
    assert sent([], Address(ae_title="NOBODY", host="127.0.0.1", port=free_port())) == []


@pytest.mark.parametrize("title", ["SEVENTEEN_LETTERS", "A\\B", ""])
def test_what_is_not_an_ae_title_is_said_to_be_so(tmp_path: Path, title: str) -> None:
    file = outgoing(tmp_path, 1)
    for to, caller in (("PACS", title), (title, "COLLIMATOR")):
        with pytest.raises(Misconfigured, match="is not an AE title"):
            sent([file], Address(ae_title=to, host="127.0.0.1", port=free_port()), calling_ae_title=caller)


def test_an_association_has_room_for_128_contexts(tmp_path: Path) -> None:
    file = outgoing(tmp_path, 1)
    many = [
        OutgoingFile(
            path=file.path, sop_instance_uid=f"1.2.{number}", sop_class_uid=f"1.2.3.{number}", transfer_syntax_uid="1.2"
        )
        for number in range(129)
    ]
    with pytest.raises(Refuse, match="the files need 129 presentation contexts and an association has 128"):
        sent(many, Address(ae_title="NOBODY", host="127.0.0.1", port=free_port()))


def test_a_file_is_described_by_its_file_meta(tmp_path: Path) -> None:
    file = outgoing(tmp_path, 7)
    assert (file.sop_instance_uid, file.sop_class_uid) == ("2.25.4711.7.1.1", DX)
    assert file.transfer_syntax_uid == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    "content",
    [b"", b"not DICOM", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 40, None],
    ids=["empty", "text", "nothing behind the prefix", "noise behind the prefix", "missing"],
)
def test_what_is_not_a_dicom_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "thing.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refuse, match=r"thing\.dcm is not a DICOM file") as caught:
        describe(path)
    assert caught.value.reason == "not_dicom"


def test_what_a_peer_would_take_is_found_out_without_sending(storescp: Callable[..., Peer], node: Peer) -> None:
    wanted = [(CR, ExplicitVRLittleEndian), (CR, JPEG2000Lossless), ("1.2.3.4", ExplicitVRLittleEndian)]
    asked = {"calling_ae_title": "COLLIMATOR", "timeout_s": TIMEOUT_S}
    assert refused_contexts(node.address, wanted, **asked) == [("1.2.3.4", ExplicitVRLittleEndian)]  # type: ignore[arg-type]
    assert (CR, JPEG2000Lossless) in refused_contexts(storescp().address, wanted, **asked)  # type: ignore[arg-type]
    assert list(node.folder.rglob("*.dcm")) == []


def test_an_association_that_was_at_rest_goes_on(storescp: Callable[..., Peer], tmp_path: Path) -> None:
    peer, files = storescp(), [outgoing(tmp_path, number) for number in (1, 2)]
    contexts = list({(file.sop_class_uid, file.transfer_syntax_uid) for file in files})
    with store_association(peer.address, contexts, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S) as association:
        answers = [association.send(files[0]).answer]
        with association.at_rest():
            time.sleep(0.3)
        answers.append(association.send(files[1]).answer)
    assert answers == [Answer.STORED] * 2
    assert data_sets(peer.folder) == sorted(data_set(file.path) for file in files)


@pytest.mark.parametrize("after_s", [0.0, 0.15], ids=["at once", "later"])
def test_a_peer_that_goes_away_after_it_has_accepted_is_noticed_with_the_next_file(
    tmp_path: Path, after_s: float
) -> None:
    """Not before pynetdicom knows of the acceptance: a peer that is gone by then is one that never accepted."""
    file, is_known = outgoing(tmp_path, 3), threading.Event()

    def go_away(_connection: socket.socket) -> None:
        is_known.wait(TIMEOUT_S)
        time.sleep(after_s)

    with accepting_peer(go_away) as address:
        pair = (file.sop_class_uid, file.transfer_syntax_uid)
        with store_association(address, [pair], calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S) as association:
            is_known.set()
            with association.at_rest():
                time.sleep(0.3)
            assert association.send(file).answer is Answer.RETRY


def test_a_peer_that_is_gone_before_the_association_can_be_used_is_no_error(tmp_path: Path) -> None:
    file = outgoing(tmp_path, 3)
    pair = (file.sop_class_uid, file.transfer_syntax_uid)
    with (
        accepting_peer(lambda _connection: time.sleep(1.0)) as address,
        store_association(address, [pair], calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S) as association,
    ):
        beneath = cast(Any, association._association.dul.socket)
        beneath.socket.close()
        write_straight(association._association)
        beneath.socket = None
        write_straight(association._association)
        assert association.send(file).answer is Answer.RETRY


@pytest.mark.parametrize("answer", [b"\x04\x00\x00", b"\x04\x00\x00\x00\x01\x00half"], ids=["header", "PDU"])
def test_a_peer_that_stops_in_the_middle_of_its_answer_costs_no_longer_than_the_timeout(
    tmp_path: Path, answer: bytes
) -> None:
    gone = threading.Event()

    def stop_in_the_middle(connection: socket.socket) -> None:
        connection.sendall(answer)
        gone.wait(30)

    file = outgoing(tmp_path, 3)
    begun = time.monotonic()
    with accepting_peer(stop_in_the_middle) as address:
        (outcome,) = send_files([file], address, calling_ae_title="COLLIMATOR", timeout_s=2.0)
        took_s = time.monotonic() - begun
        gone.set()
    assert outcome.answer is Answer.RETRY
    assert took_s < 20
