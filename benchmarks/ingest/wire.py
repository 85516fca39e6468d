"""DICOM as the raw sender speaks it, encoded by hand: PDUs (PS3.8 9.3) and C-STORE commands (PS3.7 9.3.1, E).

It is light on purpose: a sender that costs much CPU measures itself. Standard library only, so that it starts quickly.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
IMPLEMENTATION_CLASS_UID = b"2.25.114693458170653218927404925311408121"
IMPLEMENTATION_VERSION_NAME = b"RAW_SENDER"
LARGEST_PDU = 131_072  # DCMTK's senders make none that is longer

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP = 0x01, 0x02, 0x04, 0x05, 0x06
RELEASE_REQUEST = struct.pack(">BBII", A_RELEASE_RQ, 0, 4, 0)
PDU_HEADER = struct.Struct(">BBI")
COMMAND, LAST_OF_COMMAND, DATA_SET, LAST_OF_DATA_SET = 1, 3, 0, 2  # message control header, PS3.8 E.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One instance in a file. `data_set_at`: where its data set begins, behind the File Meta Information, in bytes."""

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_at: int
    size_bytes: int


Context = tuple[str, str]  # SOP Class UID and Transfer Syntax UID


def associate_request(*, calling_ae_title: str, called_ae_title: str, contexts: Sequence[Context]) -> bytes:
    """An A-ASSOCIATE-RQ that proposes each context by itself, with the identifiers 1, 3, 5, …"""
    body = struct.pack(">HH16s16s32x", 1, 0, called_ae_title.ljust(16).encode(), calling_ae_title.ljust(16).encode())
    body += _item(0x10, APPLICATION_CONTEXT)
    for number, (sop_class_uid, transfer_syntax_uid) in enumerate(contexts):
        syntaxes = _item(0x30, sop_class_uid.encode()) + _item(0x40, transfer_syntax_uid.encode())
        body += _item(0x20, bytes((context_id(number), 0, 0, 0)) + syntaxes)
    user = _item(0x51, struct.pack(">I", LARGEST_PDU)) + _item(0x52, IMPLEMENTATION_CLASS_UID)
    body += _item(0x50, user + _item(0x55, IMPLEMENTATION_VERSION_NAME))
    return PDU_HEADER.pack(A_ASSOCIATE_RQ, 0, len(body)) + body


def context_id(number: int) -> int:
    return 2 * number + 1


def accepted(body: bytes) -> tuple[set[int], int]:
    """Of an A-ASSOCIATE-AC: the presentation contexts accepted, and the longest PDU that the peer takes (0: any)."""
    contexts, longest = set(), 0
    for kind, value in _items(body, 68):
        if kind == 0x21 and value[2] == 0:
            contexts.add(value[0])
        elif kind == 0x50:
            longest = next((struct.unpack(">I", sub)[0] for item, sub in _items(value, 0) if item == 0x51), 0)
    return contexts, longest


def store_request(item: Item, *, context: int, message_id: int) -> bytes:
    """The P-DATA-TF with the C-STORE-RQ command set."""
    elements = (
        _element(0x0002, _uid(item.sop_class_uid))  # Affected SOP Class UID
        + _element(0x0100, struct.pack("<H", 0x0001))  # Command Field: C-STORE-RQ
        + _element(0x0110, struct.pack("<H", message_id))
        + _element(0x0700, struct.pack("<H", 0))  # Priority: medium
        + _element(0x0800, struct.pack("<H", 0))  # a data set follows
        + _element(0x1000, _uid(item.sop_instance_uid))  # Affected SOP Instance UID
    )
    command = _element(0x0000, struct.pack("<I", len(elements))) + elements
    return data_header(len(command), context=context, control=LAST_OF_COMMAND) + command


def data_header(length: int, *, context: int, control: int) -> bytes:
    """What stands before `length` bytes in a P-DATA-TF with one presentation data value."""
    return struct.pack(">BBIIBB", P_DATA_TF, 0, length + 6, length + 2, context, control)


def pieces(start: int, end: int, *, longest_pdu: int) -> list[tuple[int, int]]:
    """The data set from `start` to `end` in the pieces that P-DATA-TFs of this length carry."""
    step = min(longest_pdu or LARGEST_PDU, LARGEST_PDU) - 6
    return [(at, min(at + step, end)) for at in range(start, end, step)]


def status_of(body: bytes) -> int:
    """Status (0000,0900) of the response in a P-DATA-TF that holds the whole of it."""
    at = 6
    while at + 8 <= len(body):
        _, element, length = struct.unpack_from("<HHI", body, at)
        if element == 0x0900:
            return int(struct.unpack_from("<H", body, at + 8)[0])
        at += 8 + length
    raise ConnectionError("the response has no status")


def _items(body: bytes, at: int) -> list[tuple[int, bytes]]:
    found = []
    while at < len(body):
        kind, _, length = struct.unpack_from(">BBH", body, at)
        found.append((kind, body[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _element(element: int, value: bytes) -> bytes:
    """Group 0000, in Implicit VR Little Endian, as every command set is."""
    return struct.pack("<HHI", 0, element, len(value)) + value


def _uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)
