"""A-ASSOCIATE (PS3.8 9.3.2 to 9.3.4): reads a request, settles its presentation contexts, writes the answer.

Strict where a peer could do harm (lengths, counts, identifiers), lenient where the standard asks for it: items that
are not known are skipped. pynetdicom's codec gives the same answers in ten times the processor time.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PDU_HEADER = Struct(">BBI")
ITEM_HEADER = Struct(">BBH")
FIXED_FIELDS = Struct(">HH16s16s32s")
APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
MOST_CONTEXTS = 128  # odd numbers from 1 to 255
MOST_TRANSFER_SYNTAXES = 128  # of one context; the standard defines some fifty, with all that are retired
AE_TITLE = re.compile(rb" *[!-\[\]-~](?:[ -\[\]-~]*) *")  # PS3.5 6.2, AE: not blank, no backslash, no control character
UID = re.compile(r"[!-~]{1,64}")

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF = 0x01, 0x02, 0x03, 0x04
A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 0x05, 0x06, 0x07


class ProtocolError(Exception):
    """The peer broke the upper layer protocol; it gets an A-ABORT with this Reason/Diag. (PS3.8 Table 9-26)."""

    NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU = 0, 1, 2
    UNEXPECTED_PARAMETER, INVALID_PARAMETER = 5, 6

    def __init__(self, what: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, Source and Reason/Diag. of an A-ASSOCIATE-RJ (PS3.8 Table 9-21), and what they mean for the log."""

    result: int
    source: int
    reason: int
    says: str

    def encoded(self) -> bytes:
        return PDU_HEADER.pack(A_ASSOCIATE_RJ, 0, 4) + bytes((0, self.result, self.source, self.reason))


NO_REASON_GIVEN = Rejection(1, 1, 1, "its PDUs would be too small for an answer")
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "its application context is not that of DICOM")
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3, "no caller has this AE title, address and certificate")
CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7, "it calls another AE title")
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "it speaks another version of the protocol")
# Transient: the peer may come again.
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "all associations that it may have are taken")


@dataclass(frozen=True, slots=True)
class ProposedContext:
    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Titles:
    """The fixed fields of an A-ASSOCIATE-RQ, by which most who may not come in are known.

    `encoded`: Called and Calling AE Title and the reserved bytes, which the answer repeats as they are.
    """

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    encoded: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AssociateRequest:
    """The rest of an A-ASSOCIATE-RQ. `maximum_pdu_size` 0: no limit.

    `roles`: (SCU, SCP) proposed for a SOP class (PS3.7 D.3.3.4).
    """

    application_context_name: str
    contexts: tuple[ProposedContext, ...]
    maximum_pdu_size: int
    implementation_version_name: str
    roles: Mapping[str, tuple[bool, bool]]


def decode_titles(fixed: bytes) -> Titles:
    """The first `FIXED_FIELDS.size` bytes behind the header of an A-ASSOCIATE-RQ.

    Raises:
        ProtocolError: an AE title is none.
    """
    version, _, called, calling, _ = FIXED_FIELDS.unpack(fixed)
    return Titles(
        protocol_version=version,
        called_ae_title=_ae_title(called),
        calling_ae_title=_ae_title(calling),
        encoded=fixed[4:],
    )


def decode_request(items: bytes) -> AssociateRequest:
    """What follows the fixed fields.

    Raises:
        ProtocolError: it is not what PS3.8 allows.
    """
    application_context_name, version_name, maximum_pdu_size = "", "", 0
    contexts: dict[int, ProposedContext] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, content in _items(items):
        if kind == 0x10:
            application_context_name = _uid(content)
        elif kind == 0x20:
            context = _proposed_context(content)
            if context.context_id in contexts or len(contexts) == MOST_CONTEXTS:
                raise ProtocolError("a presentation context ID twice")
            contexts[context.context_id] = context
        elif kind == 0x50:
            for sub_kind, sub_content in _items(content):
                if sub_kind == 0x51:
                    maximum_pdu_size = _number(sub_content, 4)
                elif sub_kind == 0x54:
                    roles.update(_role(sub_content))
                elif sub_kind == 0x55:
                    version_name = sub_content[:16].decode("ascii", "replace")
    return AssociateRequest(
        application_context_name=application_context_name,
        contexts=tuple(contexts.values()),
        maximum_pdu_size=maximum_pdu_size,
        implementation_version_name=version_name,
        roles=roles,
    )


def negotiate(
    proposed: Sequence[ProposedContext], supported: Mapping[str, Sequence[str]]
) -> tuple[dict[int, Context], bytes]:
    """The accepted contexts by their ID, and the encoded items that tell the peer of all (PS3.8 9.3.3.2).

    Of the transfer syntaxes that a context proposes, the first in our own order is taken.
    """
    accepted: dict[int, Context] = {}
    items = []
    for context in proposed:
        syntaxes = supported.get(context.abstract_syntax)
        if syntaxes is None:
            result, syntax = 3, ""  # abstract syntax not supported
        else:
            syntax = next((one for one in syntaxes if one in context.transfer_syntaxes), "")
            result = 0 if syntax else 4  # transfer syntaxes not supported
        if not result:
            accepted[context.context_id] = Context(context.context_id, context.abstract_syntax, syntax)
        # Where the context is refused, the sub-item is there but not significant.
        named = syntax or next(iter(context.transfer_syntaxes), IMPLICIT_VR_LITTLE_ENDIAN)
        items.append(_item(0x21, bytes((context.context_id, 0, result, 0)) + _item(0x40, named.encode())))
    return accepted, b"".join(items)


def encode_accept(
    titles: Titles,
    request: AssociateRequest,
    accepted: Mapping[int, Context],
    context_items: bytes,
    maximum_pdu_size: int,
    reported_to_us: Collection[str] = (),
) -> bytes:
    """The A-ASSOCIATE-AC (PS3.8 9.3.3). Of a role that the peer proposes, SCU is agreed to. SCP is where the node is an
    SCU, too: its peer reports to it on an association of the peer's own.
    """
    classes = {context.abstract_syntax for context in accepted.values()}
    roles = b"".join(
        _item(0x54, len(uid).to_bytes(2, "big") + uid.encode() + bytes((scu, scp and uid in reported_to_us)))
        for uid, (scu, scp) in request.roles.items()
        if uid in classes
    )
    user_information = (
        _item(0x51, maximum_pdu_size.to_bytes(4, "big"))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        + roles
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode())
    )
    content = (
        b"\0\1\0\0"
        + titles.encoded
        + _item(0x10, APPLICATION_CONTEXT_NAME.encode())
        + context_items
        + _item(0x50, user_information)
    )
    return PDU_HEADER.pack(A_ASSOCIATE_AC, 0, len(content)) + content


def encode_release_response() -> bytes:
    return PDU_HEADER.pack(A_RELEASE_RP, 0, 4) + bytes(4)


def encode_abort(source: int, reason: int) -> bytes:
    """`source` 0: this node's own wish; 2: the peer broke the protocol (PS3.8 Table 9-26)."""
    return PDU_HEADER.pack(A_ABORT, 0, 4) + bytes((0, 0, source, reason))


def _items(content: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    while start < len(content):
        if start + 4 > len(content):
            raise ProtocolError("an item is cut short")
        kind, _, length = ITEM_HEADER.unpack_from(content, start)
        end = start + 4 + length
        if end > len(content):
            raise ProtocolError("an item is longer than its PDU")
        yield kind, content[start + 4 : end]
        start = end


def _proposed_context(content: bytes) -> ProposedContext:
    if len(content) < 4 or content[0] % 2 == 0:
        raise ProtocolError("a presentation context ID is even")
    abstract_syntax, transfer_syntaxes = "", list[str]()
    for kind, value in _items(content, 4):
        if kind == 0x30:
            abstract_syntax = _uid(value)
        elif kind == 0x40:
            if len(transfer_syntaxes) == MOST_TRANSFER_SYNTAXES:
                raise ProtocolError("a presentation context with transfer syntaxes without end")
            transfer_syntaxes.append(_uid(value))
    if not abstract_syntax:
        raise ProtocolError("a presentation context without an abstract syntax")
    return ProposedContext(content[0], abstract_syntax, tuple(transfer_syntaxes))


def _role(content: bytes) -> dict[str, tuple[bool, bool]]:
    length = _number(content[:2], 2)
    if len(content) != length + 4:
        raise ProtocolError("a role selection of a wrong length")
    return {_uid(content[2:-2]): (content[-2] == 1, content[-1] == 1)}


def _uid(content: bytes) -> str:
    """Some peers pad with a zero byte or a blank, as in a data set."""
    text = content.decode("latin-1").rstrip("\0 ")
    if not UID.fullmatch(text):
        raise ProtocolError("a UID is empty, too long, or no UID")
    return text


def _ae_title(field: bytes) -> str:
    if not AE_TITLE.fullmatch(field.rstrip(b"\0")):
        raise ProtocolError("an AE title is blank or has characters that none may have")
    return field.rstrip(b"\0").decode("ascii").strip(" ")


def _number(content: bytes, size: int) -> int:
    if len(content) != size:
        raise ProtocolError("a number of a wrong length")
    return int.from_bytes(content, "big")


def _item(kind: int, content: bytes) -> bytes:
    return ITEM_HEADER.pack(kind, 0, len(content)) + content
