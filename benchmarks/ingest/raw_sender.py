"""The raw sender: a process with one connection that sends what it mapped and prepared before, and reads each answer.

    <- {"job": …}     associates, maps its files, prepares every header
    -> ready
    <- go             sends; after each instance waits for its answer, which must be 0x0000
    -> {"begun_s": …}
    <- leave          releases

`python -m benchmarks.ingest.raw_sender` speaks this on its standard streams, a line each. Times are of the monotonic
clock, which is the same for all processes of a machine.
"""

import json
import mmap
import socket
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks.ingest import wire
from benchmarks.ingest.wire import Context, Item

LOOPBACK = "127.0.0.1"
MOST_FRAGMENTS = 1000  # of one sendmsg(2); the system takes 1024

Fragments = list[bytes | memoryview]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """`is_plain`: the peer is the floor, which speaks no DICOM."""

    port: int
    calling_ae_title: str
    called_ae_title: str
    is_plain: bool
    items: tuple[Item, ...]

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def decode(text: str) -> "Job":
        content = json.loads(text)
        return Job(**{**content, "items": tuple(Item(**item) for item in content["items"])})


class Link(Protocol):
    """A connection to a receiver."""

    def prepare(self, item: Item, number: int) -> Fragments: ...
    def send(self, fragments: Fragments) -> None: ...
    def release(self) -> None: ...


class Association:
    """A DICOM association.

    Raises:
        ConnectionError: the peer refuses it or a context, ends it, or answers anything but 0x0000.
    """

    def __init__(self, port: int, *, calling_ae_title: str, called_ae_title: str, contexts: Sequence[Context]) -> None:
        self._socket = _connect(port)
        self._contexts = {context: wire.context_id(number) for number, context in enumerate(contexts)}
        self._socket.sendall(
            wire.associate_request(
                calling_ae_title=calling_ae_title, called_ae_title=called_ae_title, contexts=contexts
            )
        )
        kind, body = self._read_pdu()
        if kind != wire.A_ASSOCIATE_AC:
            raise ConnectionError(f"the association was answered with PDU type {kind:#04x}: {body.hex(' ')}")
        taken, self._longest_pdu = wire.accepted(body)
        if not taken.issuperset(self._contexts.values()):
            raise ConnectionError("a presentation context was refused")

    def prepare(self, item: Item, number: int) -> Fragments:
        context = self._contexts[item.sop_class_uid, item.transfer_syntax_uid]
        mapped = _map(item)
        fragments: Fragments = [wire.store_request(item, context=context, message_id=number % 0xFFFF + 1)]
        for start, end in wire.pieces(item.data_set_at, item.size_bytes, longest_pdu=self._longest_pdu):
            control = wire.LAST_OF_DATA_SET if end == item.size_bytes else wire.DATA_SET
            fragments += [wire.data_header(end - start, context=context, control=control), mapped[start:end]]
        return fragments

    def send(self, fragments: Fragments) -> None:
        """Store what was prepared; return when it was answered 0x0000."""
        _send(self._socket, fragments)
        kind, body = self._read_pdu()
        if kind != wire.P_DATA_TF:
            raise ConnectionError(f"an instance was answered with PDU type {kind:#04x}: {body.hex(' ')}")
        if status := wire.status_of(body):
            raise ConnectionError(f"an instance was answered with status {status:#06x}")

    def release(self) -> None:
        self._socket.sendall(wire.RELEASE_REQUEST)
        kind, _ = self._read_pdu()
        self._socket.close()
        if kind != wire.A_RELEASE_RP:
            raise ConnectionError(f"the release was answered with PDU type {kind:#04x}")

    def _read_pdu(self) -> tuple[int, bytes]:
        kind, _, length = wire.PDU_HEADER.unpack(_read(self._socket, wire.PDU_HEADER.size))
        return kind, _read(self._socket, length)


class Plain:
    """A connection to the floor."""

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)

    def prepare(self, item: Item, number: int) -> Fragments:
        return [struct.pack("<Q", item.size_bytes), _map(item)]

    def send(self, fragments: Fragments) -> None:
        _send(self._socket, fragments)
        _read(self._socket, 1)

    def release(self) -> None:
        self._socket.close()


def main() -> None:
    job = Job.decode(sys.stdin.readline())
    link = connect(job)
    prepared = [link.prepare(item, number) for number, item in enumerate(job.items)]
    _say("ready")
    sys.stdin.readline()
    begun_s, cpu_s = time.monotonic(), time.process_time()
    latencies_s = send_all(link, prepared)
    ended_s = time.monotonic()
    _say(
        json.dumps(
            {
                "begun_s": begun_s,
                "ended_s": ended_s,
                "cpu_s": time.process_time() - cpu_s,
                "latencies_s": [round(latency, 6) for latency in latencies_s],
            }
        )
    )
    sys.stdin.readline()
    link.release()


def connect(job: Job) -> Link:
    if job.is_plain:
        return Plain(job.port)
    return Association(
        job.port,
        calling_ae_title=job.calling_ae_title,
        called_ae_title=job.called_ae_title,
        contexts=contexts_of(job.items),
    )


def contexts_of(items: Iterable[Item]) -> list[Context]:
    return sorted({(item.sop_class_uid, item.transfer_syntax_uid) for item in items})


def send_all(link: Link, prepared: Iterable[Fragments]) -> list[float]:
    """How long each instance took from its first byte to its answer, in seconds."""
    latencies_s = []
    for fragments in prepared:
        begun_s = time.monotonic()
        link.send(fragments)
        latencies_s.append(time.monotonic() - begun_s)
    return latencies_s


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection((LOOPBACK, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _map(item: Item) -> memoryview:
    """The file in the page cache, with its pages in place already."""
    with open(item.path, "rb") as file:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        return memoryview(mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ))


def _send(connection: socket.socket, fragments: Fragments) -> None:
    """All of it, without gathering it in memory of our own; sendmsg(2) may take less than it was given."""
    for start in range(0, len(fragments), MOST_FRAGMENTS):
        some = fragments[start : start + MOST_FRAGMENTS]
        missing = sum(map(len, some)) - connection.sendmsg(some)
        if missing:
            connection.sendall(memoryview(b"".join(some))[-missing:])


def _read(connection: socket.socket, length: int) -> bytes:
    content = connection.recv(length, socket.MSG_WAITALL)
    if len(content) < length:
        raise ConnectionError("the peer closed the connection")
    return content


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{type(error).__name__}: {error}")
