"""Ports for programs that have to be told one before they listen."""

import os
import socket
from itertools import count

LOOPBACK = "127.0.0.1"
# Below those that the system gives to whoever connects: none of these is taken between the asking and the listening.
FIRST, LAST = 15_000, 31_999
_tries = count(os.getpid() * 131)  # tests that run beside each other begin at different places


def free_port() -> int:
    """A port of the loopback address on which nobody listens, and which is not given twice."""
    while True:
        port = FIRST + next(_tries) % (LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
