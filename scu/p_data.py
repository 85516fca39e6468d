"""Writes C-STORE requests straight to the socket of pynetdicom's association (PS3.8 9.3.5, PS3.7 9.3.1.1).

    pynetdicom    negotiates, makes the command set, reads the answer, minds the timeouts, releases, aborts
    here          the command set and the file go out in as few writes as may be

A peer mostly takes 16 KiB at a time, which makes 156 PDUs of a picture of 2.5 MB. For each of them pynetdicom makes
objects, puts them through two queues and waits for a turn of its reactor.
"""

import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from struct import Struct
from typing import BinaryIO, cast

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

# A P-DATA-TF PDU with one PDV: type 4, lengths of PDU and PDV, presentation context ID, message control header.
HEADER = Struct(">BxIIBB")
P_DATA = 4
PDV_OVERHEAD = 6  # of the maximum length that the peer names: the PDV's own length, context ID and control header
DATA, LAST_DATA = 0, 2  # message control headers (PS3.8 E.2)
LARGEST_FRAGMENT = 131_072
PIECE_BYTES = 1 << 20


def write_straight(association: Association) -> None:
    """Do so for this established association. A peer that takes nothing for too long is one that does not answer.

    Over TLS everything stays with pynetdicom's thread: two may not use one connection of OpenSSL's at a time.
    """
    connection = None if association.dul.socket is None else association.dul.socket.socket
    if connection is None:
        return  # the peer has gone already, which the first file will find out
    if not isinstance(connection, ssl.SSLSocket):
        association.dimse.send_msg = partial(_send, association, connection)  # type: ignore[method-assign]


def _send(association: Association, connection: socket.socket, request: C_STORE, context_id: int) -> None:
    """What pynetdicom's own does, without its queues; the answer is read by its thread as ever."""
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    path, offset = cast(tuple[Path, int], message._data_set_path)
    message._data_set_path = None  # so that it encodes the command set only
    most = association.dimse.maximum_pdu_size
    try:
        for part in message.encode_msg(context_id, most):
            pdu = P_DATA_TF()
            pdu.from_primitive(part)
            connection.sendall(pdu.encode())
        with open(path, "rb") as file:
            file.seek(offset)
            for written in pdus(file, context_id, most):
                connection.sendall(written)
    except ConnectionError:
        pass  # pynetdicom's thread sees that, too, after what the peer may have said before
    except OSError:  # the peer takes nothing more, or the file cannot be read
        association.dimse.msg_queue.put((None, None))  # so pynetdicom says that no answer came, and aborts


def pdus(file: BinaryIO, context_id: int, maximum_length: int) -> Iterator[bytes]:
    """The rest of the file as P-DATA-TF PDUs, many at a time; the last PDV is marked so.

    maximum_length: that the peer takes, of the variable field of a PDU (PS3.8 D.1); 0: any.
    """
    most = max(min(maximum_length - PDV_OVERHEAD, LARGEST_FRAGMENT), 1) if maximum_length else LARGEST_FRAGMENT
    at_once = max(PIECE_BYTES // most, 1) * most
    piece, following = memoryview(file.read(at_once)), b""
    while True:
        following = file.read(at_once)
        parts: list[bytes | memoryview] = []
        for start in range(0, max(len(piece), 1), most):
            fragment = piece[start : start + most]
            is_last = not following and start + most >= len(piece)
            length = len(fragment) + 2
            parts += (HEADER.pack(P_DATA, length + 4, length, context_id, LAST_DATA if is_last else DATA), fragment)
        yield b"".join(parts)
        if not following:
            return
        piece = memoryview(following)
