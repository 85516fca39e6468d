"""The front of a spooled file: preamble, prefix and File Meta Information (PS3.10 7.1), written and read.

By hand, because it stands in front of every instance that comes, and a general reader takes ten times as long.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from struct import Struct, error
from typing import BinaryIO

from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

# Private Information Creator UID (0002,0100) of the item below; from the 2.25 root, which needs no registration.
PRIVATE_INFORMATION_CREATOR_UID = "2.25.314158402874513706029843137902671290113"
SHORT, LONG = Struct("<HH2sH"), Struct("<HH2sHI")
PREAMBLE = bytes(128) + b"DICM"  # zeros: nothing can hide in it
# File Meta Information Group Length (0002,0000): 12 bytes, its value the last four.
GROUP_LENGTH_END = len(PREAMBLE) + 12
LARGEST = 1 << 16  # the node's own has about 700 bytes


class Foreign(ValueError):
    """The File Meta is not one of this node: another program wrote the file, or its front is damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How an instance came; kept in its File Meta, so that the spool alone can rebuild the database."""

    clinic: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMeta:
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    provenance: Provenance


def encode_file_meta(meta: FileMeta) -> bytes:
    """Where the instance came from goes into Source/Sending/Receiving Application Entity Title and a private item."""
    came = meta.provenance
    private = {
        "clinic": came.clinic,
        "peer": came.peer_address,
        "association": came.association,
        "received_at": came.received_at.isoformat(),
    }
    elements = b"".join(
        (
            _long(0x0001, b"OB", b"\0\1"),
            _short(0x0002, b"UI", meta.sop_class_uid),
            _short(0x0003, b"UI", meta.sop_instance_uid),
            _short(0x0010, b"UI", meta.transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short(0x0016, b"AE", came.calling_ae_title),
            _short(0x0017, b"AE", came.calling_ae_title),
            _short(0x0018, b"AE", came.called_ae_title),
            _short(0x0100, b"UI", PRIVATE_INFORMATION_CREATOR_UID),
            _long(0x0102, b"OB", json.dumps(private).encode()),
        )
    )
    return PREAMBLE + SHORT.pack(2, 0, b"UL", 4) + len(elements).to_bytes(4, "little") + elements


def read_file_meta(file: BinaryIO) -> FileMeta:
    """The File Meta of a file that the node wrote; the file then stands at its data set.

    Raises:
        Foreign: there is none, or not one of the node's.
    """
    try:
        elements = _elements(file.read(_length(file)))
        if _text(elements[0x0100]) != PRIVATE_INFORMATION_CREATOR_UID:
            raise Foreign("it is not a file of this node, but of another program")
        private = json.loads(elements[0x0102].rstrip(b"\0").decode("ascii"))
        return FileMeta(
            sop_class_uid=_text(elements[0x0002]),
            sop_instance_uid=_text(elements[0x0003]),
            transfer_syntax_uid=_text(elements[0x0010]),
            provenance=Provenance(
                clinic=private["clinic"],
                calling_ae_title=_text(elements[0x0017]),
                called_ae_title=_text(elements[0x0018]),
                peer_address=private["peer"],
                association=private["association"],
                received_at=datetime.fromisoformat(private["received_at"]).astimezone(UTC),
            ),
        )
    except Foreign:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, error) as problem:
        raise Foreign(f"the File Meta is not one of this node: {type(problem).__name__}") from problem


def data_set_start(file: BinaryIO) -> int:
    """Where the data set begins, in bytes from the start; the file may stand anywhere.

    Raises:
        Foreign: the node did not write this file.
    """
    file.seek(0)
    return GROUP_LENGTH_END + _length(file)


def _length(file: BinaryIO) -> int:
    """The length of what follows File Meta Information Group Length, where the file stands then."""
    front = file.read(GROUP_LENGTH_END)
    length = int.from_bytes(front[-4:], "little")
    if len(front) < GROUP_LENGTH_END or not front.startswith(b"DICM", 128) or length > LARGEST:
        raise Foreign("there is no File Meta of this node")
    return length


def _elements(content: bytes) -> dict[int, bytes]:
    """The values by element number, of group 0002."""
    elements = {}
    position = 0
    while position < len(content):
        _, element, vr, length = SHORT.unpack_from(content, position)
        position += SHORT.size
        if vr == b"OB":
            length = int.from_bytes(content[position : position + 4], "little")
            position += 4
        elements[element] = content[position : position + length]
        position += length
    return elements


def _text(value: bytes) -> str:
    return value.decode("ascii").rstrip("\0 ")


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return SHORT.pack(2, element, vr, len(value)) + value


def _long(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0"
    return LONG.pack(2, element, vr, 0, len(value)) + value
