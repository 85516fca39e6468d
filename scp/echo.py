"""C-ECHO (PS3.4 Annex A): the peer is known and the node answers; nothing else is promised."""

from scp.peer import Peer
from scp.requests import Request, Response
from scp.status import Status


def handle_echo(_request: Request, _peer: Peer) -> Response:
    return Response(status=Status.SUCCESS)
