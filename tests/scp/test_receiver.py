"""What the receiver takes, what it stores, and whom it lets in; on a real port."""

import errno
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, build_context
from pynetdicom.sop_class import _STORAGE_CLASSES
from structlog.testing import capture_logs

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from scp.callers import Callers
from scp.contexts import TRANSFER_SYNTAXES
from scp.limits import Limits
from scp.server import Receiver
from scp.stock import StockReceiver
from scp.storage_sop_classes import STORAGE_SOP_CLASSES
from scp.store import StoreHandler
from scu.store import Address, Answer, describe, send_files
from storage.headers import read_stored_instance
from storage.instances import IncomingFile, Spool
from storage.shared.files import SharedFiles
from storage.shared.folder import SharedFolder
from tests.factories.hostile import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    C_ECHO_RQ,
    P_DATA,
    VERIFICATION,
    Peer,
    an_instance,
    associate_rq,
    command_pdu,
    data_pdus,
    elements,
    store,
    store_command,
    uid_value,
)
from tests.factories.raw_store import store_raw
from tests.factories.services import PATHS, associated, serving
from tests.factories.sources import radiograph
from tests.journeys.house import wait_until

LOOPBACK = "127.0.0.1"
CLINIC = Clinic(
    name="st-mary",
    tier=Tier.BASIC,
    sends_notes=False,
    callers=(Caller(ae_title="MODALITY1", host=LOOPBACK), Caller(ae_title="ELSEWHERE", host="192.0.2.0/24")),
    destinations=(),
)


class Listening:
    """A receiver, what it stored, and which associations were released."""

    def __init__(self, folder: Path, path: str) -> None:
        self.spool = Spool(folder)
        self.stored: list[str] = []
        self.released: list[str] = []
        self.receiver = {"fast": Receiver, "stock": StockReceiver}[path](
            ae_title="COLLIMATOR",
            host=LOOPBACK,
            port=0,
            callers=Callers([CLINIC]),
            store=StoreHandler(self.spool, called_ae_title="COLLIMATOR", on_stored=self.stored.append),
            on_released=self.released.append,
        )
        self.address = Address(ae_title="COLLIMATOR", host=LOOPBACK, port=self.receiver.start())

    def content(self) -> bytes:
        (key,) = self.stored
        return self.spool.path(key).read_bytes()


@pytest.fixture(params=["fast", "stock"])
def listening(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Listening]:
    """Both ways in must do the same, to the byte."""
    listening = Listening(tmp_path / "node", request.param)
    yield listening
    listening.receiver.stop(grace_s=0.0)


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_each_transfer_syntax_is_taken_as_it_comes_and_stored_bit_for_bit(
    listening: Listening, tmp_path: Path, syntax: UID
) -> None:
    path = a_file_in(syntax, tmp_path)
    outcomes = send_files([describe(path)], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0)
    assert [outcome.status for outcome in outcomes] == [0x0000]
    stored = listening.content()
    assert pydicom.dcmread(BytesIO(stored), stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    assert data_set_of(stored) == data_set_of(path.read_bytes())


@pytest.mark.parametrize(
    "sop_class",
    [
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        DigitalMammographyXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForProcessing,
        DigitalIntraOralXRayImageStorageForPresentation,
        DigitalIntraOralXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
    ],
    ids=lambda uid: UID(uid).name,
)
def test_every_radiograph_of_a_hospital_is_taken(listening: Listening, tmp_path: Path, sop_class: UID) -> None:
    dataset = radiograph(1)
    dataset.SOPClassUID = sop_class
    dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    (outcome,) = send_files(
        [describe(tmp_path / "one.dcm")], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0
    )
    assert outcome.status == 0x0000


def test_the_table_of_storage_sop_classes_is_pynetdicoms() -> None:
    assert sorted(_STORAGE_CLASSES.values()) == list(STORAGE_SOP_CLASSES)


def test_all_storage_sop_classes_are_accepted_a_hundred_at_a_time(listening: Listening) -> None:
    accepted: set[str] = set()
    for start in range(0, len(STORAGE_SOP_CLASSES), 100):
        ae = AE("MODALITY1")
        ae.requested_contexts = [build_context(uid) for uid in STORAGE_SOP_CLASSES[start : start + 100]]
        association = ae.associate(LOOPBACK, listening.address.port, ae_title="COLLIMATOR")
        accepted |= {str(context.abstract_syntax) for context in association.accepted_contexts}
        association.release()
    assert accepted == set(STORAGE_SOP_CLASSES)


def test_a_stored_file_tells_where_it_came_from(listening: Listening, tmp_path: Path) -> None:
    radiograph(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    send_files([describe(tmp_path / "one.dcm")], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0)
    (key,) = listening.stored
    stored = read_stored_instance(listening.spool, key)
    assert stored.provenance.clinic == "st-mary"
    assert stored.provenance.calling_ae_title == "MODALITY1"
    assert stored.provenance.called_ae_title == "COLLIMATOR"
    assert stored.provenance.peer_address == LOOPBACK
    assert [stored.provenance.association] == listening.released
    assert stored.problem == ""


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("NOBODY", "COLLIMATOR", 0x03),  # Calling AE Title not recognized
        ("ELSEWHERE", "COLLIMATOR", 0x03),  # known, but not from this address
        ("MODALITY1", "SOMEBODY", 0x07),  # Called AE Title not recognized
        ("NOBODY", "SOMEBODY", 0x07),
    ],
)
def test_a_stranger_is_rejected_for_good_with_the_reason(
    listening: Listening, calling: str, called: str, reason: int
) -> None:
    with Peer(listening.address.port) as peer:
        kind, content = peer.say(associate_rq(calling=calling.encode(), called=called.encode())).hear()
    assert (kind, tuple(content[1:])) == (A_ASSOCIATE_RJ, (0x01, 0x01, reason))


def test_an_instance_that_the_shared_store_must_have_first_is_refused_while_it_is_away(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    radiograph(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    shared = SharedFiles(SharedFolder(tmp_path / "mnt"), tmp_path / "cache")
    monkeypatch.setattr(listening.spool, "shared", shared)
    monkeypatch.setattr(listening.spool, "shares_before_commit", True)
    file = describe(tmp_path / "one.dcm")
    (outcome,) = send_files([file], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0)
    assert (outcome.status, outcome.answer) == (0xA700, Answer.RETRY)
    assert (list(listening.spool.unfinished()), list(listening.spool.stored_keys())) == ([], [])
    (tmp_path / "mnt").mkdir()
    (outcome,) = send_files([file], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0)
    assert outcome.status == 0x0000
    assert [key for key, _ in listening.spool.shared_keys()] == listening.stored


@pytest.mark.parametrize(
    ("sop_instance_uid", "sop_class_uid", "data_set", "status"),
    [
        ("../../etc/passwd", ComputedRadiographyImageStorage, b"x" * 64, 0x0117),
        ("2.25.1", SecondaryCaptureImageStorage, b"x" * 64, 0xA900),
        ("2.25.1", ComputedRadiographyImageStorage, b"x" * 64, 0xC000),
    ],
    ids=["path for a UID", "class of another context", "garbage"],
)
def test_a_request_is_answered_with_the_status_that_says_what_is_wrong(
    listening: Listening, sop_instance_uid: str, sop_class_uid: str, data_set: bytes, status: int
) -> None:
    answer = store_raw(
        listening.address.port, sop_instance_uid=sop_instance_uid, sop_class_uid=sop_class_uid, data_set=data_set
    )
    assert answer == status
    assert listening.stored == []
    assert list(listening.spool.unfinished()) == []


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_says_in_its_error_comment_what_is_wrong(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PS3.4 Table B.2-1; whoever looks into the modality's log finds it there."""
    dataset = radiograph(1)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    with (
        serving(tmp_path, path, {}) as port,
        associated(port, dataset.SOPClassUID, syntax, ae_title="MODALITY1") as association,
    ):
        monkeypatch.setattr(Spool, "has_room", lambda spool: False)
        refused = association.send_c_store(dataset)
        monkeypatch.setattr(Spool, "has_room", lambda spool: True)
        stored = association.send_c_store(dataset)
    assert (refused.Status, refused.ErrorComment) == (0xA700, "the spool's disk is nearly full")
    assert (stored.Status, "ErrorComment" in stored) == (0x0000, False)


def test_a_spool_that_cannot_take_more_is_told_as_out_of_resources(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    radiograph(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    monkeypatch.setattr("storage.instances.os.fdatasync", full)
    (outcome,) = send_files(
        [describe(tmp_path / "one.dcm")], listening.address, calling_ae_title="MODALITY1", timeout_s=10.0
    )
    assert (outcome.status, outcome.answer) == (0xA700, Answer.RETRY)
    assert list(listening.spool.unfinished()) == []
    assert listening.stored == []


def test_dcmtk_verifies_and_stores(listening: Listening, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    radiograph(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    to = ["-aet", "MODALITY1", "-aec", "COLLIMATOR", LOOPBACK, str(listening.address.port)]
    assert subprocess.run([require_program("echoscu"), *to], timeout=30).returncode == 0
    assert subprocess.run([require_program("storescu"), *to, str(tmp_path / "one.dcm")], timeout=30).returncode == 0
    assert len(listening.stored) == 1


def a_file_in(syntax: UID, folder: Path) -> Path:
    """A radiograph in this transfer syntax. What is inside the compressed fragment does not matter to a receiver."""
    dataset: Dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.PixelData = encapsulate([b"\xff\xd8 not really an image \xff\xd9"])
        dataset["PixelData"].VR = "OB"
    path = folder / "one.dcm"
    if syntax.is_little_endian:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return path


def data_set_of(file: bytes) -> bytes:
    """What follows the File Meta Information."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


@pytest.mark.parametrize("path", PATHS)
def test_a_spool_that_cannot_be_reached_is_told_as_out_of_resources(tmp_path: Path, path: str) -> None:
    """A network file system is away: the modality tries again, and its log says why."""
    dataset = radiograph(1)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    with (
        serving(tmp_path, path, {}) as port,
        associated(port, dataset.SOPClassUID, syntax, ae_title="MODALITY1") as association,
    ):
        (tmp_path / "spool").rename(tmp_path / "away")
        refused = association.send_c_store(dataset)
        (tmp_path / "away").rename(tmp_path / "spool")
        stored = association.send_c_store(dataset)
    assert (refused.Status, refused.ErrorComment) == (0xA700, "the spool cannot take it: No such file or directory")
    assert stored.Status == 0x0000


def test_a_disk_that_hangs_for_a_while_is_not_held_against_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the node itself takes to write does not count as the peer's silence."""
    write, limits = IncomingFile.write, Limits(artim_s=0.5)

    def hang(file: IncomingFile, *fragments: bytes) -> None:
        time.sleep(1.0)
        write(file, *fragments)

    monkeypatch.setattr(IncomingFile, "write", hang)
    monkeypatch.setattr("scp.fast.SLOWEST_BYTES_PER_S", 1 << 20)
    with serving(tmp_path, "fast", {}, limits=limits) as port, Peer(port) as peer:
        assert peer.associate().say(*store("2.25.1", an_instance(pixels=300_000))).status() == 0x0000


def test_that_nobody_can_be_accepted_is_logged_once_until_somebody_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, failing, tries = socket.socket.accept, [True], [0]

    def no_descriptor(listening: socket.socket) -> tuple[socket.socket, object]:
        if failing[0]:
            tries[0] += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", no_descriptor)
    with capture_logs() as logs, serving(tmp_path, "fast", {}) as port:
        for _ in range(2):
            failing[0], tries[0] = True, 0
            with Peer(port) as peer:
                peer.say(associate_rq())
                wait_until(lambda: tries[0] > 2, "it has tried again and again")
                failing[0] = False
                assert peer.hear()[0] == A_ASSOCIATE_AC
    assert [one["error"] for one in logs if one["event"] == "accept_failed"] == ["Too many open files"] * 2


@pytest.mark.parametrize(
    ("limits", "status", "says"),
    [
        (Limits(maximum_message_size=4_000), 0x0213, "the request's data set has more than 4000 bytes"),
        (Limits(maximum_instance_size=4_000), 0xA700, "the data set has more than 4000 bytes"),
    ],
    ids=["request", "instance"],
)
def test_whoever_sends_too_much_at_once_is_told_how_much_it_may_be(
    tmp_path: Path, limits: Limits, status: int, says: str
) -> None:
    command, context_id = store_command("2.25.1"), 1
    if status == 0x0213:
        echo = {0x0002: uid_value(VERIFICATION), 0x0100: struct.pack("<H", C_ECHO_RQ)}
        command, context_id = {**command, **echo}, 3
    with capture_logs() as logs, serving(tmp_path, "fast", {}, limits=limits) as port, Peer(port) as peer:
        content = data_pdus(an_instance(pixels=6_000), context_id=context_id)
        kind, answer = peer.associate().say(command_pdu(command, context_id=context_id), *content).hear()
        told = elements(answer[6:])
        assert (kind, int.from_bytes(told[0x0900], "little")) == (P_DATA, status)
        assert told[0x0902].decode().strip() == says
        assert peer.hear()[0] == A_ABORT
    assert [one["error"] for one in logs if one["event"] == "protocol_error"] == [says]
