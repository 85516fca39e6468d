"""C-ECHO (PS3.4 Annex A): the peer is known and the node answers; nothing else is promised."""

from pynetdicom.events import Event

from scp.status import Status


def handle_echo(_event: Event) -> int:
    return Status.SUCCESS
