"""Peers to send to: DCMTK's storescp, and the node's own receiver."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from domain.clinics import Caller, Clinic
from domain.errors import Retry
from domain.plans import Tier
from scp import associate
from scp.callers import Callers
from scp.server import Receiver
from scp.store import StoreHandler
from scu.echo import echo
from scu.store import Address
from scu.tls import Secured
from storage.instances import Spool
from tests.factories.ports import free_port
from tests.factories.sources import DX

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Peer:
    """Where it listens, and the folder in which it keeps what it gets."""

    address: Address
    folder: Path


@pytest.fixture
def storescp(require_program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts DCMTK's storescp with options, and stops it in the end."""
    program = require_program("storescp")
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str, secured: Secured | None = None) -> Peer:
        folder = tmp_path / f"storescp{len(running)}"
        folder.mkdir()
        port = free_port()
        command = [program, "--output-directory", str(folder), "--bit-preserving", *options, str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        peer = Peer(Address(ae_title="STORESCP", host="127.0.0.1", port=port, tls=secured), folder)
        wait_for(peer.address)
        return peer

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Peer]:
    """The node's own receiver; it knows the caller COLLIMATOR only."""
    folder = tmp_path / "node"
    spool = Spool(folder)
    clinic = Clinic(
        name="st-mary",
        tier=Tier.BASIC,
        sends_notes=True,
        callers=(Caller(ae_title="COLLIMATOR"),),
        destinations=(),
    )
    receiver = Receiver(
        ae_title="NODE",
        host="127.0.0.1",
        port=0,
        callers=Callers([clinic]),
        store=StoreHandler(spool, called_ae_title="NODE", on_stored=lambda key: None),
        on_released=lambda association: None,
    )
    port = receiver.start()
    yield Peer(Address(ae_title="NODE", host="127.0.0.1", port=port), spool.root)
    receiver.stop(grace_s=5.0)
    shutil.rmtree(folder)


def wait_for(address: Address) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return echo(address, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S)
        except Retry:
            assert time.monotonic() < deadline, "the peer did not start"
            time.sleep(0.05)


@contextmanager
def deaf_peer() -> Iterator[Address]:
    """A peer that takes the connection and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield Address(ae_title="DEAF", host="127.0.0.1", port=int(listener.getsockname()[1]))


@contextmanager
def accepting_peer(then: Callable[[socket.socket], object], *, maximum_pdu_size: int = 16_384) -> Iterator[Address]:
    """A peer that accepts an association for DX images in Explicit VR Little Endian, and then does `then` with the
    connection; it is closed afterwards.
    """

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            length = associate.PDU_HEADER.unpack(_exactly(connection, associate.PDU_HEADER.size))[2]
            titles = associate.decode_titles(_exactly(connection, associate.FIXED_FIELDS.size))
            request = associate.decode_request(_exactly(connection, length - associate.FIXED_FIELDS.size))
            contexts, items = associate.negotiate(request.contexts, {DX: [ExplicitVRLittleEndian]})
            connection.sendall(associate.encode_accept(titles, request, contexts, items, maximum_pdu_size))
            then(connection)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield Address(ae_title="ACCEPTING", host="127.0.0.1", port=int(listener.getsockname()[1]))
        thread.join(timeout=TIMEOUT_S)


def _exactly(connection: socket.socket, count: int) -> bytes:
    return connection.recv(count, socket.MSG_WAITALL)
