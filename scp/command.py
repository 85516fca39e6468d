"""Command sets (PS3.7 6.3.1): Implicit VR Little Endian, group 0000. A request is read, a response written."""

from dataclasses import dataclass
from struct import Struct

from scp.associate import P_DATA_TF, PDU_HEADER, ProtocolError
from scp.requests import CommandField

ELEMENT = Struct("<HHI")
PDV_HEADER = Struct(">IBB")
US = Struct("<H")

AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID = 0x0002, 0x0003
COMMAND_FIELD, MESSAGE_ID, MESSAGE_ID_BEING_RESPONDED_TO = 0x0100, 0x0110, 0x0120
COMMAND_DATA_SET_TYPE, STATUS = 0x0800, 0x0900
ERROR_COMMENT, ERROR_ID = 0x0902, 0x0903
AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID = 0x1000, 0x1001
EVENT_TYPE_ID, ACTION_TYPE_ID = 0x1002, 0x1008
NO_DATA_SET = 0x0101
IS_RESPONSE = 0x8000
# A PDV's Message Control Header (PS3.8 Annex E.2).
IS_COMMAND, IS_LAST = 0x01, 0x02

# A response repeats two of them, and must fit into the smallest PDU that a peer may ask for (PS3.8 Annex D.1).
LONGEST_UID = 128
LONGEST_COMMENT = 64  # of an LO (PS3.5 6.2)

KNOWN = frozenset(CommandField)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A request's command set. The UIDs keep their text as it came, without padding; "" where there is none."""

    command_field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    action_type_id: int | None
    event_type_id: int | None = None


def parse_command(content: bytes) -> Command:
    """Read one command set.

    Raises:
        ProtocolError: it is not a request that this node knows, or what every request must have is missing.
    """
    elements = _elements(content)
    command_field = _number(elements, COMMAND_FIELD)
    message_id = _number(elements, MESSAGE_ID)
    data_set_type = _number(elements, COMMAND_DATA_SET_TYPE)
    if command_field not in KNOWN or message_id is None or data_set_type is None:
        raise ProtocolError("a command set that is no request", ProtocolError.UNEXPECTED_PARAMETER)
    command = Command(
        command_field=command_field,
        message_id=message_id,
        has_data_set=data_set_type != NO_DATA_SET,
        sop_class_uid=_uid(elements, AFFECTED_SOP_CLASS_UID) or _uid(elements, REQUESTED_SOP_CLASS_UID),
        sop_instance_uid=_uid(elements, AFFECTED_SOP_INSTANCE_UID) or _uid(elements, REQUESTED_SOP_INSTANCE_UID),
        action_type_id=_number(elements, ACTION_TYPE_ID),
        event_type_id=_number(elements, EVENT_TYPE_ID),
    )
    if not command.sop_class_uid:
        raise ProtocolError("a request without a SOP Class UID")
    if command.command_field == CommandField.C_STORE_RQ and not command.sop_instance_uid:
        raise ProtocolError("a C-STORE request without an Affected SOP Instance UID")
    return command


def encode_response(
    context_id: int,
    command: Command,
    status: int,
    sop_instance_uid: str = "",
    *,
    error_id: int | None = None,
    error_comment: str = "",
) -> bytes:
    """The whole P-DATA-TF of a response without a data set."""
    elements = [
        _encode(AFFECTED_SOP_CLASS_UID, _encode_uid(command.sop_class_uid)),
        _encode(COMMAND_FIELD, US.pack(command.command_field | IS_RESPONSE)),
        _encode(MESSAGE_ID_BEING_RESPONDED_TO, US.pack(command.message_id)),
        _encode(COMMAND_DATA_SET_TYPE, US.pack(NO_DATA_SET)),
        _encode(STATUS, US.pack(status)),
    ]
    if error_comment:
        elements.append(_encode(ERROR_COMMENT, _encode_text(printable_comment(error_comment))))
    if error_id is not None:
        elements.append(_encode(ERROR_ID, US.pack(error_id)))
    if instance := sop_instance_uid or command.sop_instance_uid:
        elements.append(_encode(AFFECTED_SOP_INSTANCE_UID, _encode_uid(instance)))
    for element, type_id in ((EVENT_TYPE_ID, command.event_type_id), (ACTION_TYPE_ID, command.action_type_id)):
        if type_id is not None:
            elements.append(_encode(element, US.pack(type_id)))
    content = b"".join(elements)
    content = _encode(0x0000, len(content).to_bytes(4, "little")) + content
    pdv = PDV_HEADER.pack(len(content) + 2, context_id, IS_COMMAND | IS_LAST) + content
    return PDU_HEADER.pack(P_DATA_TF, 0, len(pdv)) + pdv


def printable_comment(text: str) -> str:
    """An Error Comment (0000,0902) in the default repertoire, and of one value: a backslash would begin another."""
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text[:LONGEST_COMMENT])


def _elements(content: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    position, end = 0, len(content)
    while position < end:
        if position + ELEMENT.size > end:
            raise ProtocolError("a command element is cut short")
        group, element, length = ELEMENT.unpack_from(content, position)
        position += ELEMENT.size
        if group or position + length > end:
            raise ProtocolError("a command element is of another group, or longer than its command set")
        elements[element] = content[position : position + length]
        position += length
    return elements


def _number(elements: dict[int, bytes], element: int) -> int | None:
    value = elements.get(element)
    return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None


def _uid(elements: dict[int, bytes], element: int) -> str:
    """Decoded as it is: whether it is a UID is for the service to say, and its answer repeats it."""
    value = elements.get(element, b"")
    if len(value) > LONGEST_UID:
        raise ProtocolError("a UID that is much too long")
    return value.rstrip(b"\0 ").decode("latin-1")


def _encode(element: int, value: bytes) -> bytes:
    return ELEMENT.pack(0, element, len(value)) + value


def _encode_uid(uid: str) -> bytes:
    value = uid.encode("latin-1")
    return value + b"\0" if len(value) % 2 else value


def _encode_text(text: str) -> bytes:
    value = text.encode("ascii")
    return value + b" " if len(value) % 2 else value
