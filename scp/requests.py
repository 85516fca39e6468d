"""DIMSE requests other than C-STORE, and who serves them. C-STORE has its own way: scp/store.py.

(Command Field, SOP Class UID)  ->  Service  ->  Response
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from scp.peer import Peer


class CommandField(IntEnum):
    """PS3.7 Annex E.1, (0000,0100). A response has the bit 0x8000 as well."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_GET_RQ = 0x0110
    N_SET_RQ = 0x0120
    N_ACTION_RQ = 0x0130
    N_CREATE_RQ = 0x0140
    N_DELETE_RQ = 0x0150


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One whole request. The UIDs are as the peer sent them, without padding; "" where it sent none.

    sop_instance_uid: Affected or Requested SOP Instance UID, whichever the command has.
    data_set: encoded in `transfer_syntax_uid`; empty where the command has none.
    """

    command_field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    action_type_id: int | None = None
    event_type_id: int | None = None
    data_set: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """`sop_instance_uid`: what N-CREATE made, when the peer left the choice to us.

    error_id, error_comment: what a failure says besides its status (PS3.7 Annex C); the first 64 characters are sent.
    """

    status: int
    sop_instance_uid: str = ""
    error_id: int | None = None
    error_comment: str = ""


Service = Callable[[Request, Peer], Response]
Services = Mapping[tuple[int, str], Service]


def reported_to_us(services: Services) -> frozenset[str]:
    """The SOP classes of which the node takes N-EVENT-REPORT: there its peer is the SCP (PS3.7 D.3.3.4)."""
    return frozenset(sop_class for field, sop_class in services if field == CommandField.N_EVENT_REPORT_RQ)
