"""A peer that says whatever a test wants it to, byte by byte, and what well-formed messages are made of."""

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType

from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.factories.arrivals import encoded
from tests.factories.sources import radiograph

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
CR = str(ComputedRadiographyImageStorage)
EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA, A_RELEASE_RP, A_ABORT = 2, 3, 4, 6, 7
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET = 0x0101
IS_COMMAND, IS_LAST = 1, 2

Context = tuple[int, str, Sequence[str]]
CONTEXTS: tuple[Context, ...] = ((1, CR, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,)))


class Peer:
    """One connection to the receiver, from another address of this machine where one is named."""

    def __init__(
        self, port: int, *, timeout_s: float = 8.0, address: str = "127.0.0.1", keeps_bytes: int | None = None
    ) -> None:
        """`keeps_bytes`: of what it was sent and has not read yet."""
        self.socket = socket.socket()
        if keeps_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, keeps_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.bind((address, 0))
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def say(self, *pieces: bytes) -> "Peer":
        with suppress(ConnectionError):  # the receiver may have had enough in the middle of it
            for piece in pieces:
                self.socket.sendall(piece)
        return self

    def associate(self, contexts: Iterable[Context] = CONTEXTS) -> "Peer":
        self.say(associate_rq(contexts=contexts))
        kind, _ = self.hear()
        assert kind == A_ASSOCIATE_AC
        return self

    def hear(self) -> tuple[int, bytes]:
        """Type and content of the next PDU; (0, b"") when the receiver has closed the connection."""
        try:
            header = self._exactly(6)
            kind, _, length = struct.unpack(">BBI", header)
            return kind, self._exactly(length)
        except (ConnectionError, EOFError):
            return 0, b""

    def status(self) -> int:
        """The Status of the response that comes next."""
        kind, content = self.hear()
        assert kind == P_DATA, f"a PDU of type {kind}: {content!r}"
        return int.from_bytes(elements(content[6:])[0x0900], "little")

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            more = self.socket.recv(count - len(content))
            if not more:
                raise EOFError
            content += more
        return content


def pdu(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """A PDU; `length`: what it claims to be."""
    return struct.pack(">BBI", kind, 0, len(content) if length is None else length) + content


def item(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content) if length is None else length) + content


def context_item(context_id: int, abstract_syntax: str, transfer_syntaxes: Sequence[str]) -> bytes:
    syntaxes = b"".join(item(0x40, syntax.encode()) for syntax in transfer_syntaxes)
    return item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, abstract_syntax.encode()) + syntaxes)


def associate_rq(
    *,
    contexts: Iterable[Context] = CONTEXTS,
    calling: bytes = b"MODALITY1",
    called: bytes = b"COLLIMATOR",
    maximum_pdu_size: int = 16_384,
    more_items: bytes = b"",
) -> bytes:
    return pdu(1, associate_content(contexts, calling, called, maximum_pdu_size) + more_items)


def associate_content(
    contexts: Iterable[Context] = CONTEXTS,
    calling: bytes = b"MODALITY1",
    called: bytes = b"COLLIMATOR",
    maximum_pdu_size: int = 16_384,
) -> bytes:
    user = item(0x51, struct.pack(">I", maximum_pdu_size)) + item(0x52, b"1.2.3.4")
    return (
        struct.pack(">HH16s16s32s", 1, 0, called.ljust(16), calling.ljust(16), b"")
        + item(0x10, APPLICATION_CONTEXT.encode())
        + b"".join(context_item(*context) for context in contexts)
        + item(0x50, user)
    )


def pdv(context_id: int, control: int, content: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">IBB", len(content) + 2 if length is None else length, context_id, control) + content


def command_set(values: dict[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in sorted(values.items()))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def elements(content: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position < len(content):
        _, element, length = struct.unpack_from("<HHI", content, position)
        found[element] = content[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def uid_value(uid: str | bytes) -> bytes:
    value = uid.encode() if isinstance(uid, str) else uid
    return value + b"\0" if len(value) % 2 else value


def store_command(
    sop_instance_uid: str | bytes, *, sop_class_uid: str = CR, message_id: int = 1, has_data_set: bool = True
) -> dict[int, bytes]:
    return {
        0x0002: uid_value(sop_class_uid),
        0x0100: struct.pack("<H", C_STORE_RQ),
        0x0110: struct.pack("<H", message_id),
        0x0700: b"\0\0",
        0x0800: struct.pack("<H", 1 if has_data_set else NO_DATA_SET),
        0x1000: uid_value(sop_instance_uid),
    }


def command_pdu(values: dict[int, bytes], *, context_id: int = 1) -> bytes:
    return pdu(P_DATA, pdv(context_id, IS_COMMAND | IS_LAST, command_set(values)))


def data_pdus(data_set: bytes, *, context_id: int = 1, size: int = 16_000, is_last: bool = True) -> list[bytes]:
    pieces = [data_set[start : start + size] for start in range(0, len(data_set), size)] or [b""]
    return [
        pdu(P_DATA, pdv(context_id, IS_LAST if is_last and index == len(pieces) - 1 else 0, piece))
        for index, piece in enumerate(pieces)
    ]


def store(
    sop_instance_uid: str | bytes, data_set: bytes, *, sop_class_uid: str = CR, message_id: int = 1
) -> list[bytes]:
    """All PDUs of one C-STORE request."""
    command = store_command(sop_instance_uid, sop_class_uid=sop_class_uid, message_id=message_id)
    return [command_pdu(command), *data_pdus(data_set)]


def an_instance(sop_instance_uid: str = "2.25.1", *, transfer_syntax_uid: str = EXPLICIT, pixels: int = 0) -> bytes:
    """The data set of a valid CR image. `pixels`: how many bytes of them; 0: a small radiograph's own."""
    dataset = radiograph(1)
    dataset.SOPInstanceUID = UID(sop_instance_uid)
    dataset.SOPClassUID = UID(CR)
    if pixels:
        dataset.PixelData = bytes(pixels)
    return encoded(dataset, transfer_syntax_uid)


ECHO = command_pdu(
    {
        0x0002: uid_value(VERIFICATION),
        0x0100: struct.pack("<H", C_ECHO_RQ),
        0x0110: b"\1\0",
        0x0800: struct.pack("<H", NO_DATA_SET),
    },
    context_id=3,
)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian, of a VR with a short length (PS3.5 7.1.2); no VR: Implicit."""
    value += b" " * (len(value) % 2)
    if not vr:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def an_instance_in(character_set: bytes, vr: bytes = b"CS", *, is_implicit: bool = False) -> bytes:
    """A whole header with one value beyond ASCII, which only a parser that knows this character set can read."""

    def one(tag: int, vr: bytes, value: bytes) -> bytes:
        return element(tag, b"" if is_implicit else vr, value)

    return b"".join(
        (
            one(0x00080005, vr, character_set),
            one(0x00080016, b"UI", CR.encode()),
            one(0x00080018, b"UI", b"1.2.3.1"),
            one(0x00080070, b"LO", b"Herst\xe9ller"),
            one(0x0020000D, b"UI", b"1.2.3"),
            one(0x0020000E, b"UI", b"1.2.3.100"),
        )
    )
