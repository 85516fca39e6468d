"""The connection under an association that the node proposes: no peer makes it wait for longer than the timeout.

pynetdicom looks whether something has come, and then reads a whole PDU, without an end. A peer that stops in the middle
of one would hold whoever sends to it for as long as it keeps the connection.
"""

import socket
import ssl
from contextlib import suppress
from struct import Struct

from pynetdicom import evt
from pynetdicom.events import Event, EventHandlerType

TIMEVAL = Struct("@ll")


def _limit(event: Event) -> None:
    transport, timeout_s = event.assoc.dul.socket, event.assoc.network_timeout
    if transport is None or transport.socket is None or timeout_s is None:
        return
    connection = transport.socket
    with suppress(OSError):  # it goes just now
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(timeout_s)
            return
        # In the kernel: what `scu/p_data.py` writes from another thread is to have a timeout of its own.
        timeout = TIMEVAL.pack(int(timeout_s), int(timeout_s % 1 * 1e6))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, direction, timeout)


# Bound to an association that we propose: from before our first byte.
LIMITED: EventHandlerType = (evt.EVT_CONN_OPEN, _limit)
