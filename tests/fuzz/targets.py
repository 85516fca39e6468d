"""What is fuzzed: everything that reads bytes before their sender is known, or of which it may be anything.

Each target takes any bytes at all, and raises only where a promise is broken: the one expected exception is caught,
every other escapes; an answer must be well-formed; bytes must mean the same however they are cut into pieces.
"""

import json
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit
from structlog.typing import EventDict

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from domain.value_representations import SHORT_VRS
from scp import associate
from scp.admission import Admission
from scp.associate import FIXED_FIELDS, ProtocolError, decode_request, decode_titles, encode_accept, negotiate
from scp.callers import Callers
from scp.command import encode_response, parse_command
from scp.commitment import WELL_KNOWN_INSTANCE, CommitmentService
from scp.confirmation import ConfirmationService
from scp.contexts import STORAGE_COMMITMENT_PUSH_MODEL, VERIFICATION, supported_syntaxes
from scp.dataset_head import Head, Inflation, NotADataSet
from scp.echo import handle_echo
from scp.fast import SMALLEST_PEER_PDU, Connection, Desk
from scp.limits import MEBIBYTE, Limits
from scp.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from scp.peer import Peer
from scp.requests import CommandField, Request, Response
from scp.status import Status
from scp.store import StoreHandler
from storage.elements import TAGS
from storage.file_meta import FileMeta, encode_file_meta
from storage.headers import read_stored_instance
from storage.instances import Spool
from storage.plain import to_plain
from storage.requests.confirmation_folder import ConfirmationFolder
from storage.requests.files import COMMITMENTS, RequestBox
from storage.requests.step_folder import StepFolder
from tests.factories import hostile
from tests.factories.arrivals import encoded, provenance
from tests.factories.hostile import CR, EXPLICIT, IMPLICIT
from tests.fuzz.line import Line
from tests.fuzz.pixel_path import pixels_seeds, pixels_target

Target = Callable[[bytes], None]
LONGEST_S = 1.0  # processor time for one input
DEFLATED, BIG_ENDIAN = str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
HEAD_SYNTAXES = (*SYNTAXES, str(JPEGBaseline8Bit))
LIMITS = Limits(maximum_instance_size=MEBIBYTE, maximum_inflated_size=MEBIBYTE, maximum_message_size=MEBIBYTE)
LOOPBACK = "127.0.0.1"
CLINIC = Clinic(
    name="st-mary",
    tier=Tier.BASIC,
    sends_notes=False,
    callers=(Caller(ae_title="MODALITY1", host=LOOPBACK, commitment_port=4711),),
    destinations=(),
)
MODALITY = Peer(association="a1", clinic="st-mary", ae_title="MODALITY1", address=LOOPBACK)
PEER_MAXIMUM_PDU_SIZE = SMALLEST_PEER_PDU
PIECES = (1, 7, 16, 50, 100, 300, 1000, 3000)
CONTEXTS: tuple[hostile.Context, ...] = (
    *((1 + 2 * index, CR, (syntax,)) for index, syntax in enumerate(SYNTAXES)),
    (9, VERIFICATION, (IMPLICIT,)),
    (11, STORAGE_COMMITMENT_PUSH_MODEL, (EXPLICIT,)),
)
SPOOL_KEY = "0" * 32
FILE_META = FileMeta(sop_class_uid=CR, sop_instance_uid="2.25.1", transfer_syntax_uid=EXPLICIT, provenance=provenance())
ECHO = {0x0002: hostile.uid_value(VERIFICATION), 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\1"}
ACTION = {
    0x0003: hostile.uid_value(STORAGE_COMMITMENT_PUSH_MODEL),
    0x0100: struct.pack("<H", CommandField.N_ACTION_RQ),
    0x0110: b"\2\0",
    0x0800: b"\1\0",
    0x1001: hostile.uid_value(WELL_KNOWN_INSTANCE),
    0x1008: b"\1\0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fuzz:
    """`target` makes one that may write into a folder of its own. `seeds`: well-formed input, to begin with."""

    target: Callable[[Path], Target]
    seeds: Callable[[], Sequence[bytes]]
    longest: int = 8_192


class SlowInput(Exception):
    """One small input took more than LONGEST_S."""


class Escaped(Exception):
    """Something other than the expected was raised, and caught at the association's edge."""


@contextmanager
def within_a_second() -> Iterator[None]:
    began = time.process_time()
    yield
    if time.process_time() - began > LONGEST_S:
        raise SlowInput


# The command set (PS3.7 6.3.1)


def command_target(_folder: Path) -> Target:
    def check(content: bytes) -> None:
        with within_a_second():
            try:
                command = parse_command(content)
            except ProtocolError:
                return
            response = encode_response(1, command, Status.SUCCESS, error_id=0xA710, error_comment="\\\n\xe9" * 100)
        (pdu,) = pdus(response)
        told = hostile.elements(pdu[12:])
        assert int.from_bytes(told[0x0120], "little") == command.message_id
        assert told[0x0002].rstrip(b"\0").decode("latin-1") == command.sop_class_uid
        assert (told[0x0902], told[0x0903]) == (b"?" * 64, b"\x10\xa7")
        assert len(pdu) <= PEER_MAXIMUM_PDU_SIZE + 6

    return check


def command_seeds() -> Sequence[bytes]:
    commands = (hostile.store_command("2.25.1"), ECHO, ACTION)
    return [hostile.command_set(command) for command in commands]


# The association (PS3.8 9.3.2)


def associate_target(_folder: Path) -> Target:
    supported = supported_syntaxes([VERIFICATION])

    def check(content: bytes) -> None:
        with within_a_second():
            if len(content) < FIXED_FIELDS.size:
                return
            try:
                titles = decode_titles(content[: FIXED_FIELDS.size])
                request = decode_request(content[FIXED_FIELDS.size :])
            except ProtocolError:
                return
            accepted, items = negotiate(request.contexts, supported)
            answer = encode_accept(titles, request, accepted, items, LIMITS.maximum_pdu_size)
        for title in (titles.called_ae_title, titles.calling_ae_title):
            assert 0 < len(title) <= 16
            assert title.isprintable()
        (pdu,) = pdus(answer)
        told = list(items_of(pdu[6 + FIXED_FIELDS.size :]))
        asked = [context.context_id for context in request.contexts]
        assert [value[0] for kind, value in told if kind == 0x21] == asked
        assert accepted.keys() <= set(asked)
        assert [kind for kind, _ in told] == [0x10, *[0x21] * len(asked), 0x50]

    return check


def associate_seeds() -> Sequence[bytes]:
    role = hostile.item(0x54, struct.pack(">H", len(CR)) + CR.encode() + b"\1\0")
    with_role = hostile.associate_content() + hostile.item(0x50, role + hostile.item(0x55, b"VERSION"))
    many = tuple((number, CR, SYNTAXES) for number in range(1, 256, 2))
    return [
        hostile.associate_content(),
        with_role,
        hostile.associate_content(CONTEXTS),
        hostile.associate_content(many),
    ]


# The upper layer protocol on an association, down to the spool


class Acceptor:
    """The receiver's side of one association after the other, in this thread, down to a spool."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self._stored: list[str] = []
        services = {
            (int(CommandField.C_ECHO_RQ), VERIFICATION): handle_echo,
            (int(CommandField.N_ACTION_RQ), STORAGE_COMMITMENT_PUSH_MODEL): answer_with_checksum,
        }
        self._desk = Desk(
            ae_title="COLLIMATOR",
            callers=Callers([CLINIC]),
            store=StoreHandler(self.spool, called_ae_title="COLLIMATOR", on_stored=self._stored.append, limits=LIMITS),
            services=services,
            supported=supported_syntaxes(sop_class for _, sop_class in services),
            limits=LIMITS,
            admission=Admission(LIMITS),
            on_released=lambda association: None,
            on_closed=lambda association: None,
        )

    def hear(self, said: bytes, piece: int) -> tuple[bytes, list[bytes]]:
        """What it answers to a peer that says this, `piece` bytes at a time, and the data sets that it keeps.

        Without Error Comments: of two things that are wrong, the one that comes first is told.
        """
        line = Line(said, piece)
        structlog.configure(processors=[fail_on_bugs])
        Connection(self._desk, line.as_socket(), LOOPBACK).run()
        kept = [data_set_of(self.spool.path(key).read_bytes()) for key in self._stored]
        for key in self._stored:
            self.spool.remove(key)
        self._stored.clear()
        assert not self._desk.admission.all()
        assert not list(self.spool.unfinished())
        return b"".join(map(without_comment, pdus(bytes(line.answered)))), kept


def without_comment(pdu: bytes) -> bytes:
    """A PDU as it is, and a response without its Error Comment (0000,0902)."""
    if pdu[0] != hostile.P_DATA:
        return pdu
    elements = hostile.elements(pdu[12:])
    kept = {tag: value for tag, value in elements.items() if tag not in (0x0000, 0x0902)}
    return hostile.command_pdu(kept, context_id=pdu[10])


def stream_target(folder: Path) -> Target:
    """The input's first byte says how it is cut; an odd second byte, that its PDUs are made of what follows."""
    acceptor = Acceptor(folder)
    request = hostile.associate_rq(contexts=CONTEXTS, maximum_pdu_size=PEER_MAXIMUM_PDU_SIZE)

    def check(content: bytes) -> None:
        if len(content) < 2:
            return
        said = request + (as_pdus(content[2:]) if content[1] % 2 else content[2:])
        with within_a_second():
            answered, kept = acceptor.hear(said, 1 << 20)
            assert (answered, kept) == acceptor.hear(said, PIECES[content[0] % len(PIECES)])
        answers = pdus(answered)
        assert answers[0][0] == hostile.A_ASSOCIATE_AC
        assert {pdu[0] for pdu in answers[1:-1]} <= {hostile.P_DATA}
        assert max(map(len, answers[1:]), default=0) <= PEER_MAXIMUM_PDU_SIZE + 6
        successes = sum(pdu[0] == hostile.P_DATA and is_stored(pdu) for pdu in answers)
        assert successes == len(kept)

    return check


def stream_seeds() -> Sequence[bytes]:
    data_set = hostile.an_instance(pixels=64)
    deflated = hostile.an_instance(transfer_syntax_uid=DEFLATED, pixels=64)
    messages = (
        hostile.store("2.25.1", data_set),
        [hostile.command_pdu(hostile.store_command("2.25.1")), *hostile.data_pdus(data_set, size=100)],
        [
            hostile.command_pdu(hostile.store_command("2.25.1"), context_id=7),
            *hostile.data_pdus(deflated, context_id=7),
        ],
        [hostile.command_pdu(ECHO, context_id=9), hostile.pdu(5, bytes(4))],
        [hostile.command_pdu(ACTION, context_id=11), *hostile.data_pdus(b"some data set", context_id=11)],
    )
    plain = [b"\x04\0" + b"".join(message) for message in messages]
    store = as_pieces(1, 3, hostile.command_set(hostile.store_command("2.25.1"))) + as_pieces(1, 2, data_set)
    echo = as_pieces(9, 3, hostile.command_set(ECHO))
    return [*plain, b"\x07\1" + store + echo, b"\0\1" + echo + store + store]


def as_pieces(context_id: int, control: int, content: bytes) -> bytes:
    """What `as_pdus` makes one PDU of."""
    return struct.pack(">BBH", context_id, control, len(content)) + content


def as_pdus(content: bytes) -> bytes:
    """Well-formed P-DATA-TF PDUs of any content, which random bytes alone would hardly ever be."""
    said, position = [], 0
    while position + 4 <= len(content):
        context_id, control, length = struct.unpack_from(">BBH", content, position)
        piece = content[position + 4 : position + 4 + length]
        said.append(hostile.pdu(hostile.P_DATA, hostile.pdv(context_id, control, piece)))
        position += 4 + length
    return b"".join(said)


def answer_with_checksum(request: Request, _peer: Peer) -> Response:
    """A data set that came otherwise would be answered otherwise."""
    return Response(status=zlib.crc32(request.data_set) & 0xFFFF)


def fail_on_bugs(_logger: object, _method: str, event: EventDict) -> EventDict:
    """What is caught at the association's edge, and only logged there, is what the fuzzer looks for."""
    if str(event["event"]).endswith("_failed"):
        raise Escaped(event["event"]) from sys.exc_info()[1]
    raise structlog.DropEvent


def is_stored(pdu: bytes) -> bool:
    told = hostile.elements(pdu[12:])
    return told[0x0100] == b"\x01\x80" and told[0x0900] == b"\0\0"


# The front of a data set (PS3.5 7.1)


def head_target(_folder: Path) -> Target:
    """The input's first byte names the transfer syntax, its second how the rest is cut."""

    def check(content: bytes) -> None:
        if len(content) < 2:
            return
        syntax, piece, data_set = HEAD_SYNTAXES[content[0] % len(HEAD_SYNTAXES)], 1 + content[1], content[2:]
        with within_a_second():
            assert seen(data_set, syntax, len(data_set) or 1) == seen(data_set, syntax, piece)

    return check


def seen(data_set: bytes, transfer_syntax_uid: str, piece: int) -> object:
    """All that is known of a data set once it has come in pieces of this size."""
    if transfer_syntax_uid == DEFLATED:
        return inflated(data_set, piece)
    head = Head(transfer_syntax_uid)
    try:
        for end in range(piece, len(data_set) + piece, piece):
            if head.is_done:
                head.follow([data_set[end - piece : end]])
            else:
                head.read(data_set[:end])
        head.check_end(len(data_set))
    except NotADataSet:
        return NotADataSet
    assert all(len(uid) <= 66 for uid in head.uids.values())
    return head.uids, head.is_done


def inflated(stream: bytes, piece: int) -> object:
    keep = 1_000
    inflation = Inflation(keep=keep)
    try:
        for start in range(0, len(stream), piece):
            inflation.feed(stream[start : start + piece], limit=MEBIBYTE)
    except (NotADataSet, OverflowError) as error:
        return type(error)
    assert len(inflation.front) <= keep + (1 << 16)
    return inflation.size, inflation.is_complete, bytes(inflation.front[:keep])


def head_seeds() -> Sequence[bytes]:
    with_sequence = Dataset()
    with_sequence.SOPClassUID, with_sequence.SOPInstanceUID = CR, "2.25.1"
    item = Dataset()
    item.ReferencedSOPInstanceUID = "2.25.2"
    with_sequence.ReferencedImageSequence = ItemSequence([item, item])
    with_sequence.StudyInstanceUID, with_sequence.SeriesInstanceUID = "2.25.3", "2.25.4"
    undefined = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" + encoded(item)
    undefined += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    plain = [
        bytes((index, 40)) + hostile.an_instance(transfer_syntax_uid=syntax, pixels=64)
        for index, syntax in enumerate(SYNTAXES)
    ]
    fragments = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\x04\0\0\0JPEG" * 2
    fragments += b"\xfe\xff\xdd\xe0\0\0\0\0"
    return [
        *plain,
        b"\0\7" + encoded(with_sequence),
        b"\1\7" + encoded(with_sequence, IMPLICIT),
        b"\0\3" + undefined,
        b"\4\5" + encoded(item) + fragments,
    ]


# The data sets of DIMSE-N requests (PS3.4 F.7, J.3)


def request_target(folder: Path) -> Target:
    """The input's first byte names the operation and the transfer syntax; the rest is the data set."""
    structlog.configure(processors=[fail_on_bugs])
    commitment = CommitmentService(RequestBox(folder, COMMITMENTS), [CLINIC])
    confirmation = ConfirmationService(ConfirmationFolder(folder), [CLINIC])
    steps = ProcedureStepService(StepFolder(folder))
    operations = (
        (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT_PUSH_MODEL, WELL_KNOWN_INSTANCE, commitment.handle),
        (CommandField.N_CREATE_RQ, MODALITY_PERFORMED_PROCEDURE_STEP, "2.25.1", steps.handle_create),
        (CommandField.N_SET_RQ, MODALITY_PERFORMED_PROCEDURE_STEP, "2.25.1", steps.handle_set),
        (CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT_PUSH_MODEL, WELL_KNOWN_INSTANCE, confirmation.handle),
    )

    def check(content: bytes) -> None:
        if not content:
            return
        command_field, sop_class_uid, sop_instance_uid, serve = operations[content[0] % len(operations)]
        request = Request(
            command_field=command_field,
            message_id=1,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=SYNTAXES[content[0] // len(operations) % 3],
            action_type_id=1,
            event_type_id=1,
            data_set=content[1:],
        )
        with within_a_second():
            response = serve(request, MODALITY)
        assert response.status in list(Status)

    return check


def request_seeds() -> Sequence[bytes]:
    reference, series, scheduled = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CR, "2.25.7"
    commitment = Dataset()
    commitment.TransactionUID = "2.25.8"
    commitment.ReferencedSOPSequence = ItemSequence([reference, reference])
    failed, report = Dataset(), Dataset()
    failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID, failed.FailureReason = CR, "2.25.7", 0x0112
    report.TransactionUID, report.FailedSOPSequence = "2.25.8", ItemSequence([failed])
    scheduled.StudyInstanceUID = "2.25.9"
    series.ReferencedImageSequence = ItemSequence([reference])
    step = Dataset()
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.ScheduledStepAttributesSequence = ItemSequence([scheduled])
    step.PerformedSeriesSequence = ItemSequence([series])
    return [
        bytes((operation + 4 * index,)) + encoded(data_set, syntax)
        for operation, data_set in enumerate((commitment, step, step, report))
        for index, syntax in enumerate(SYNTAXES[:2])
    ]


def pdus(content: bytes) -> list[bytes]:
    """What was answered, PDU by PDU; it must be whole ones."""
    found, position = [], 0
    while position < len(content):
        _, _, length = associate.PDU_HEADER.unpack_from(content, position)
        found.append(content[position : position + 6 + length])
        assert len(found[-1]) == 6 + length
        position += 6 + length
    return found


def items_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(content):
        kind, _, length = associate.ITEM_HEADER.unpack_from(content, position)
        value = content[position + 4 : position + 4 + length]
        assert len(value) == length
        yield kind, value
        position += 4 + length


def data_set_of(file: bytes) -> bytes:
    """What follows the File Meta Information (PS3.10 7.1)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


# A stored file, as the indexer reads it


def stored_target(folder: Path) -> Target:
    """The input's first byte names the transfer syntax; an odd second byte, that what follows makes the data set."""
    spool = Spool(folder)
    path = spool.path(SPOOL_KEY)

    def check(content: bytes) -> None:
        if len(content) < 2:
            return
        syntax = SYNTAXES[content[0] % len(SYNTAXES)]
        data_set = as_elements(content[2:], is_implicit=syntax == IMPLICIT) if content[1] % 2 else content[2:]
        path.write_bytes(encode_file_meta(replace(FILE_META, transfer_syntax_uid=syntax)) + data_set)
        with within_a_second():
            stored = read_stored_instance(spool, SPOOL_KEY)
        assert json.loads(json.dumps(to_plain(stored.facts))) == to_plain(stored.facts)
        assert stored.size_bytes == len(data_set)
        assert stored.sop_instance_uid == FILE_META.sop_instance_uid
        if not stored.problem:
            assert 0 < len(stored.study_instance_uid) <= 64
            assert 0 < len(stored.series_instance_uid) <= 64

    return check


def as_elements(content: bytes, *, is_implicit: bool) -> bytes:
    """A data set of attributes that the indexer asks for, of any VR and value, beside the UIDs that it must have."""
    values = {
        TAGS["SOPClassUID"]: (b"UI", CR.encode()),
        TAGS["SOPInstanceUID"]: (b"UI", b"2.25.1"),
        TAGS["StudyInstanceUID"]: (b"UI", b"2.25.3"),
        TAGS["SeriesInstanceUID"]: (b"UI", b"2.25.4"),
    }
    position, tags, vrs = 0, tuple(TAGS.values()), sorted(SHORT_VRS)
    while position + 3 <= len(content):
        tag, vr, length = content[position : position + 3]
        values[tags[tag % len(tags)]] = vrs[vr % len(vrs)], content[position + 3 : position + 3 + length]
        position += 3 + length
    return b"".join(
        hostile.element(tag, b"" if is_implicit else vr, value) for tag, (vr, value) in sorted(values.items())
    )


def stored_seeds() -> Sequence[bytes]:
    whole = [
        bytes((index, 0)) + hostile.an_instance(transfer_syntax_uid=syntax, pixels=64)
        for index, syntax in enumerate(SYNTAXES)
    ]
    vrs, tags = sorted(SHORT_VRS), tuple(TAGS.values())
    number_for_text = bytes((tags.index(TAGS["SpecificCharacterSet"]), vrs.index(b"IS"), 2)) + b"1 "
    maker = bytes((tags.index(TAGS["Manufacturer"]), vrs.index(b"LO"), 2)) + b"\xe9 "
    return [
        *whole,
        b"\0\0" + hostile.an_instance_in(b"1", b"IS"),
        b"\1\0" + hostile.an_instance_in(b"ISO_IR\x00100", is_implicit=True),
        b"\0\1" + number_for_text + maker,
        b"\1\1" + number_for_text + maker,
    ]


TARGETS = {
    "command": Fuzz(target=command_target, seeds=command_seeds, longest=65_536),
    "associate": Fuzz(target=associate_target, seeds=associate_seeds, longest=32_768),
    "stream": Fuzz(target=stream_target, seeds=stream_seeds, longest=3_000),
    "head": Fuzz(target=head_target, seeds=head_seeds),
    "request": Fuzz(target=request_target, seeds=request_seeds),
    "stored": Fuzz(target=stored_target, seeds=stored_seeds),
    "pixels": Fuzz(target=pixels_target, seeds=pixels_seeds),
}
