"""Writes the front of a spooled file: preamble, prefix and File Meta Information (PS3.10 7.1).

Encoded by hand because it stands in front of every instance that comes; the reader is pydicom (storage/headers.py).
"""

import json
from struct import Struct

from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.headers import PRIVATE_INFORMATION_CREATOR_UID, Provenance

SHORT, LONG = Struct("<HH2sH"), Struct("<HH2sHI")
PREAMBLE = bytes(128) + b"DICM"  # zeros: nothing can hide in it


def encode_file_meta(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, provenance: Provenance
) -> bytes:
    """Where the instance came from goes into Source/Sending/Receiving Application Entity Title and a private item."""
    private = {
        "clinic": provenance.clinic,
        "peer": provenance.peer_address,
        "association": provenance.association,
        "received_at": provenance.received_at.isoformat(),
    }
    elements = b"".join(
        (
            _long(0x0001, b"OB", b"\0\1"),
            _short(0x0002, b"UI", sop_class_uid),
            _short(0x0003, b"UI", sop_instance_uid),
            _short(0x0010, b"UI", transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short(0x0016, b"AE", provenance.calling_ae_title),
            _short(0x0017, b"AE", provenance.calling_ae_title),
            _short(0x0018, b"AE", provenance.called_ae_title),
            _short(0x0100, b"UI", PRIVATE_INFORMATION_CREATOR_UID),
            _long(0x0102, b"OB", json.dumps(private).encode()),
        )
    )
    return PREAMBLE + SHORT.pack(2, 0, b"UL", 4) + len(elements).to_bytes(4, "little") + elements


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return SHORT.pack(2, element, vr, len(value)) + value


def _long(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0"
    return LONG.pack(2, element, vr, 0, len(value)) + value
