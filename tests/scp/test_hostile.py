"""What a hospital's network, or somebody in it, may throw at the port. After each: an honest peer is served at once,
nothing half-received is left, memory has not grown, and every slot is free again within ARTIM and two seconds.
"""

import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, SecondaryCaptureImageStorage

from storage.instances import Spool
from tests.factories.arrivals import encoded
from tests.factories.hostile import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_RELEASE_RP,
    CONTEXTS,
    CR,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    IS_COMMAND,
    IS_LAST,
    NO_DATA_SET,
    P_DATA,
    VERIFICATION,
    Context,
    Peer,
    an_instance,
    associate_content,
    associate_rq,
    command_pdu,
    context_item,
    data_pdus,
    item,
    pdu,
    pdv,
    store,
    store_command,
    uid_value,
)
from tests.factories.sources import radiograph
from tests.journeys.house import wait_until
from tests.scp.listening_process import LIMITS

ROOT = Path(__file__).parents[2]
DEFLATED, BIG_ENDIAN = str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)


def without(keyword: str) -> bytes:
    """A CR image that does not say so, or not which."""
    dataset = radiograph(1, sop_class_uid=CR)
    dataset.SOPInstanceUID = UID("2.25.1")
    delattr(dataset, keyword)
    return encoded(dataset)


def length_to_end(vr: bytes, length: int) -> bytes:
    """Length to End (0008,0001), the first element of a data set, with another VR than it has."""
    return struct.pack("<HH2sHI", 0x0008, 0x0001, vr, 0, length) + bytes(0 if length == 0xFFFFFFFF else length)


def unknown(items: bytes) -> bytes:
    """The same as a UN of undefined length, which holds a sequence (PS3.5 6.2.2)."""
    return length_to_end(b"UN", 0xFFFFFFFF) + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def implicit_sequence(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


@dataclass
class Node:
    process: "subprocess.Popen[str]"
    port: int
    spool: Spool

    def resident_mb(self) -> float:
        return int(self._status("VmRSS").split()[0]) / 1024

    def threads(self) -> int:
        return int(self._status("Threads"))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stored(self) -> int:
        return len(list(self.spool.stored_keys()))

    def wait_until_quiet(self, threads: int, descriptors: int, *, until: float) -> None:
        """No connection has more threads and descriptors than there were, at the latest at `until`."""
        while self.threads() > threads or self.descriptors() > descriptors:
            assert time.monotonic() < until, "a slot is still taken"
            time.sleep(0.02)

    def _status(self, key: str) -> str:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(key))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("hostile")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.scp.listening_process", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        while not (line := process.stdout.readline().strip()).isdecimal():
            assert process.poll() is None, "the receiver did not start"
        node = Node(process, int(line), Spool(folder))
        for _ in range(3):  # what a first peer brings into memory is no leak
            echo(node)
        yield node
        process.stdin.close()


@pytest.fixture(autouse=True)
def node(started: Node) -> Iterator[Node]:
    """The receiver; what every test leaves behind is looked at here."""
    memory, threads, descriptors = started.resident_mb(), started.threads(), started.descriptors()
    yield started
    began = time.monotonic()
    assert echo(started) < 1.0, "an honest peer had to wait"
    started.wait_until_quiet(threads, descriptors, until=began + LIMITS.artim_s + 2.0)
    with ExitStack() as all_slots:
        for calling in (*[b"MODALITY1"] * 4, *[b"MODALITY2"] * 3):
            peer = all_slots.enter_context(Peer(started.port)).say(associate_rq(calling=calling))
            assert peer.hear()[0] == A_ASSOCIATE_AC
    started.wait_until_quiet(threads, descriptors, until=time.monotonic() + 2.0)
    assert started.resident_mb() - memory < 256
    assert list(started.spool.unfinished()) == []
    assert started.process.poll() is None


def echo(node: Node) -> float:
    """Seconds that an honest peer needs for a C-ECHO, from connecting to the answer. A transient rejection makes it
    try again at once, as when the previous test's associations are just ending.
    """
    began = time.monotonic()
    while time.monotonic() < began + 8.0:
        with Peer(node.port) as peer:
            if peer.say(associate_rq()).hear()[0] == A_ASSOCIATE_AC:
                assert peer.say(ECHO).status() == 0x0000
                return time.monotonic() - began
    raise AssertionError("an honest peer is never let in")


def aborts(peer: Peer) -> bool:
    """The receiver says A-ABORT, and closes."""
    kind, _ = peer.hear()
    return kind == A_ABORT and peer.hear() == (0, b"")


def aborts_for_a_reason(peer: Peer) -> bool:
    """It says A-ABORT because of what it read; one that only waited in vain has no reason to give (0)."""
    kind, content = peer.hear()
    return kind == A_ABORT and content[2] == 2 and content[3] > 0 and peer.hear() == (0, b"")


# What comes before an association


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: collimator\r\n\r\n",
        bytes(range(256)) * 8,
        bytes.fromhex("1603010200010001fc0303") + bytes(512),  # a TLS hello
        pdu(P_DATA, pdv(1, 3, b"")),
        pdu(1, b"", length=0xFFFFFFFF),
        pdu(1, b"", length=2 << 20) + bytes(1 << 20),
        pdu(1, associate_content()[:60]),
        pdu(1, associate_content() + item(0x20, b"", length=9_999)),
    ],
    ids=["HTTP", "noise", "TLS hello", "P-DATA first", "4 GiB", "2 MiB", "cut short", "an item too long"],
)
def test_what_is_no_association_request_is_aborted(node: Node, said: bytes) -> None:
    with Peer(node.port) as peer:
        assert aborts(peer.say(said))


@pytest.mark.parametrize("length", [0xFFFFFFFF, LIMITS.maximum_request_size])
def test_a_request_that_goes_on_and_on_is_not_kept(node: Node, length: int) -> None:
    """Whatever it claims to be: of one that is too long not a byte is read, of one without end a mebibyte."""
    memory = node.resident_mb()
    with Peer(node.port) as peer, suppress(ConnectionError, TimeoutError):
        peer.socket.sendall(pdu(1, b"", length=length))
        for _ in range(64):
            peer.socket.sendall(bytes(1 << 20))
    assert node.resident_mb() - memory < 20


@pytest.mark.parametrize(
    "contexts",
    [
        ((2, CR, (EXPLICIT,)),),
        ((1, CR, (EXPLICIT,)), (1, CR, (IMPLICIT,))),
        ((1, CR, ("1." * 100 + "1",)),),
        ((1, "", (EXPLICIT,)),),
    ],
    ids=["an even ID", "an ID twice", "a UID of 201 characters", "no abstract syntax"],
)
def test_presentation_contexts_that_cannot_be_are_aborted(node: Node, contexts: tuple[Context, ...]) -> None:
    with Peer(node.port) as peer:
        assert aborts(peer.say(associate_rq(contexts=contexts)))


def test_thousands_of_contexts_are_aborted(node: Node) -> None:
    many = b"".join(context_item(1 + 2 * (number % 128), CR, (EXPLICIT,)) for number in range(5_000))
    with Peer(node.port) as peer:
        assert aborts(peer.say(pdu(1, associate_content() + many)))


@pytest.mark.parametrize(
    ("context", "result"),
    [
        ((1, CR, ()), 4),
        ((1, CR, ("1.2.3.4",)), 4),
        ((1, "1.2.3.4", (EXPLICIT,)), 3),
        ((1, CR, (EXPLICIT,)), 0),
    ],
    ids=["no transfer syntax", "unknown transfer syntax", "unknown abstract syntax", "known"],
)
def test_a_context_alone_is_refused_for_what_is_wrong_with_it(node: Node, context: Context, result: int) -> None:
    with Peer(node.port) as peer:
        kind, content = peer.say(associate_rq(contexts=(context,))).hear()
    assert kind == A_ASSOCIATE_AC
    start = content.index(b"\x21\x00", 68)
    assert content[start + 4] == 1
    assert content[start + 6] == result


@pytest.mark.parametrize("title", [b"EVIL\r\nTITLE", b"\x1b[31mRED", b"", b"A\\B", b"caf\xe9"])
def test_an_ae_title_that_none_may_have_is_aborted(node: Node, title: bytes) -> None:
    for rq in (associate_rq(calling=title), associate_rq(called=title)):
        with Peer(node.port) as peer:
            assert aborts(peer.say(rq))


@pytest.mark.parametrize(
    ("request_pdu", "why"),
    [
        (associate_rq(called=b"SOMEBODY"), (1, 1, 7)),
        (associate_rq(calling=b"NOBODY"), (1, 1, 3)),
        (associate_rq(maximum_pdu_size=1), (1, 1, 1)),
        (pdu(1, b"\0\2" + associate_content()[2:]), (1, 2, 2)),
        (pdu(1, associate_content().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")), (1, 1, 2)),
    ],
    ids=["called AE title", "calling AE title", "PDUs of one byte", "protocol version", "application context"],
)
def test_who_may_not_come_in_is_told_why(node: Node, request_pdu: bytes, why: tuple[int, int, int]) -> None:
    with Peer(node.port) as peer:
        kind, content = peer.say(request_pdu).hear()
    assert (kind, tuple(content[1:])) == (A_ASSOCIATE_RJ, why)


@pytest.mark.parametrize("said", [b"", b"\1\0\0", pdu(1, associate_content(), length=500)[:100]])
def test_a_connection_that_asks_for_nothing_is_closed_when_artim_runs_out(node: Node, said: bytes) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port)).say(said) for _ in range(12)]
        assert echo(node) < 1.0
        assert [peer.hear() for peer in peers] == [(0, b"")] * 12
    assert time.monotonic() - began < LIMITS.artim_s + 2.0


@pytest.mark.parametrize("count", [500, 1_060])
def test_hundreds_of_silent_connections_delay_nobody(node: Node, count: int) -> None:
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(Peer(node.port))
            if number % 100 == 99:
                assert echo(node) < 1.0
        assert node.threads() < LIMITS.maximum_unassociated + LIMITS.maximum_associations + 20
        assert echo(node) < 1.0


def test_a_request_that_drips_in_is_given_up(node: Node) -> None:
    began = time.monotonic()
    with Peer(node.port) as peer, suppress(ConnectionError):
        for byte in associate_rq():
            peer.socket.sendall(bytes((byte,)))
            time.sleep(0.1)
            assert time.monotonic() - began < LIMITS.artim_s + 2.0, "it may drip for ever"
    assert time.monotonic() - began < LIMITS.artim_s + 2.0


@pytest.mark.parametrize("said", [associate_rq(called=b"SOMEBODY"), pdu(P_DATA, b""), pdu(7, bytes(4))])
def test_hundreds_that_are_refused_and_stay_delay_nobody(node: Node, said: bytes) -> None:
    with ExitStack() as stack:
        for number in range(300):
            stack.enter_context(Peer(node.port)).say(said)
            if number % 100 == 99:
                assert echo(node) < 1.0
        assert node.threads() < LIMITS.maximum_unassociated + LIMITS.maximum_associations + 20


@pytest.mark.parametrize(
    ("said", "why"),
    [(associate_content(calling=b"NOBODY"), (1, 1, 3)), (associate_content(called=b"SOMEBODY"), (1, 1, 7))],
    ids=["calling AE title", "called AE title"],
)
def test_of_a_stranger_only_the_titles_are_read(node: Node, said: bytes, why: tuple[int, int, int]) -> None:
    with Peer(node.port) as peer:
        kind, content = peer.say(pdu(1, said[:68], length=200_000)).hear()
    assert (kind, tuple(content[1:])) == (A_ASSOCIATE_RJ, why)


def test_transfer_syntaxes_without_end_are_aborted(node: Node) -> None:
    with Peer(node.port) as peer:
        assert aborts(peer.say(associate_rq(contexts=((1, CR, ("1.2",) * 1_000),))))


def test_more_associations_than_a_caller_and_an_address_may_have_are_rejected_for_now(node: Node) -> None:
    with ExitStack() as stack:
        answers = []
        for calling in (*[b"MODALITY1"] * 7, *[b"MODALITY2"] * 2):
            peer = stack.enter_context(Peer(node.port)).say(associate_rq(calling=calling))
            kind, content = peer.hear()
            answers.append(tuple(content[1:]) if kind == A_ASSOCIATE_RJ else kind)
    transient = (2, 3, 2)
    assert answers == [*[A_ASSOCIATE_AC] * 6, transient, A_ASSOCIATE_AC, transient]


def test_when_every_association_is_taken_the_next_is_rejected_for_now(node: Node) -> None:
    with ExitStack() as stack:
        for calling in (*[b"MODALITY1"] * 4, *[b"MODALITY2"] * 3):
            assert stack.enter_context(Peer(node.port)).say(associate_rq(calling=calling)).hear()[0] == A_ASSOCIATE_AC
        from_elsewhere = [stack.enter_context(Peer(node.port, address="127.0.0.2")) for _ in range(2)]
        answers = [peer.say(associate_rq(calling=b"MODALITY3")).hear() for peer in from_elsewhere]
    assert answers[0][0] == A_ASSOCIATE_AC
    assert answers[1] == (A_ASSOCIATE_RJ, b"\0\2\3\2")


# What comes on an association


@pytest.mark.parametrize(
    "said",
    [
        pdu(P_DATA, b"", length=0xFFFFFFFF),
        pdu(P_DATA, b""),
        pdu(P_DATA, b"\0\0"),
        pdu(P_DATA, pdv(1, IS_COMMAND, b"", length=0)),
        pdu(P_DATA, pdv(1, IS_COMMAND, b"", length=0xFFFFFFFF)),
        pdu(P_DATA, pdv(1, IS_COMMAND, b"abc", length=500)),
        pdu(P_DATA, pdv(99, IS_COMMAND | IS_LAST, b"")),
        pdu(P_DATA, pdv(1, IS_LAST, b"data without a command")),
        associate_rq(),
        pdu(2, b""),
        pdu(0x63, b""),
        pdu(P_DATA, pdv(1, IS_COMMAND | IS_LAST, b"\xff" * 300)),
        pdu(P_DATA, pdv(1, IS_COMMAND | IS_LAST, b"")),
        command_pdu({0x0002: uid_value(CR), 0x0100: b"\x77\x77", 0x0110: b"\1\0", 0x0800: b"\1\1"}),
        command_pdu({**store_command("2.25.1"), 0x0100: b"\x01\x80"}),
        command_pdu({key: value for key, value in store_command("2.25.1").items() if key != 0x1000}),
        command_pdu({key: value for key, value in store_command("2.25.1").items() if key != 0x0110}),
        command_pdu({key: value for key, value in store_command("2.25.1").items() if key != 0x0002}),
        command_pdu(store_command("1." * 30_000)),
        command_pdu(store_command("2.25.1")) + command_pdu(store_command("2.25.2")),
        command_pdu(store_command("2.25.1")) + data_pdus(b"abc", context_id=3)[0],
        b"".join(pdu(P_DATA, pdv(1, IS_COMMAND, bytes(16_000))) for _ in range(6)),
        command_pdu(store_command("2.25.1")) + pdu(P_DATA, pdv(1, IS_LAST, an_instance(pixels=200_000))),
    ],
    ids=[
        "P-DATA of 4 GiB", "empty P-DATA", "no PDV", "PDV length 0", "PDV length 4 GiB", "PDV beyond its PDU",
        "context not accepted", "data first", "second A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "unknown PDU",
        "command of noise", "empty command",
        "unknown command field", "a response", "no Affected SOP Instance UID", "no Message ID",
        "no Affected SOP Class UID", "a UID of 60,000 characters",
        "second command, no data set", "data on another context", "command set without end", "PDU longer than agreed",
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_is_aborted(node: Node, said: bytes) -> None:
    before = node.stored()
    for _ in range(12):  # more than there are associations
        with Peer(node.port) as peer:
            assert aborts_for_a_reason(peer.associate().say(said))
    assert node.stored() == before


@pytest.mark.parametrize(
    ("command_uid", "data_set", "status"),
    [
        ("../../etc/passwd", an_instance("2.25.1"), 0x0117),
        (b"2.25.1\0/../x", an_instance("2.25.1"), 0x0117),
        ("1" * 65, an_instance("2.25.1"), 0x0117),
        ("2.25.1", an_instance("2.25.2"), 0xA900),
        ("2.25.1", an_instance("2.25.1").replace(uid_value("2.25.1"), b"../../"), 0xC000),
        ("2.25.1", an_instance("2.25.1").replace(uid_value(CR), uid_value(CR[:-1] + "7")), 0xA900),
        ("2.25.1", without("SOPInstanceUID"), 0xC000),
        ("2.25.1", without("SOPClassUID"), 0xC000),
        ("2.25.1", b"", 0xC000),
        ("2.25.1", b"\0", 0xC000),
        ("2.25.1", bytes(range(256)) * 40, 0xC000),
        ("2.25.1", an_instance("2.25.1", transfer_syntax_uid=IMPLICIT), 0xC000),
        ("2.25.1", an_instance("2.25.1")[:-7], 0xC000),
        ("2.25.1", an_instance("2.25.1")[:100], 0xC000),
        ("2.25.1", unknown(b"") + an_instance("2.25.2"), 0xA900),
        ("2.25.1", unknown(implicit_sequence(an_instance("2.25.2"))) + an_instance("2.25.1"), 0xC000),
        ("2.25.1", unknown(b"")[:12], 0xC000),
        ("2.25.1", unknown(b"")[:12] + bytes(range(256)) * 40, 0xC000),
        ("2.25.1", length_to_end(b"OB", 900_000) + an_instance("2.25.1"), 0xC000),
        ("2.25.1", length_to_end(b"UT", 0xFFFFFFFF) + an_instance("2.25.1"), 0xC000),
        ("2.25.1", length_to_end(b"OB", 0xFFFFFFFF) + an_instance("2.25.1"), 0xC000),
    ],
    ids=[
        "path for a UID", "NUL in a UID", "65 characters", "another instance", "path in the data set",
        "another class", "no SOP Instance UID", "no SOP Class UID", "nothing",
        "one byte", "10 kB of noise", "wrong encoding", "cut in the pixels", "cut in the header",
        "another instance behind a UN", "explicit VRs in a UN", "a UN without end", "noise in a UN",
        "nothing but one element in front", "a text without a length", "no fragments where some should be",
    ],
)  # fmt: skip
def test_an_object_that_is_not_what_it_says_is_refused_and_the_next_is_taken(
    node: Node, command_uid: str | bytes, data_set: bytes, status: int
) -> None:
    before = node.stored()
    with Peer(node.port) as peer:
        peer.associate()
        assert peer.say(*store(command_uid, data_set)).status() == status
        assert node.stored() == before
        assert peer.say(*store("2.25.77", an_instance("2.25.77"))).status() == 0x0000
    assert node.stored() == before + 1


@pytest.mark.parametrize("context_syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_only_the_encoding_that_was_agreed_to_is_taken(node: Node, context_syntax: str, syntax: str) -> None:
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, CR, (context_syntax,)),))
        status = peer.say(*store("2.25.76", an_instance("2.25.76", transfer_syntax_uid=syntax))).status()
    assert status == (0x0000 if syntax == context_syntax else 0xC000)


def test_a_store_that_brings_no_data_set_is_refused_at_once_and_the_next_is_taken(node: Node) -> None:
    with Peer(node.port) as peer:
        peer.associate()
        assert peer.say(command_pdu(store_command("2.25.1", has_data_set=False))).status() == 0xC000
        assert peer.say(*store("2.25.77", an_instance("2.25.77"))).status() == 0x0000


def test_a_class_that_is_not_the_contexts_is_refused(node: Node) -> None:
    with Peer(node.port) as peer:
        said = store("2.25.1", an_instance("2.25.1"), sop_class_uid=str(SecondaryCaptureImageStorage))
        assert peer.associate().say(*said).status() == 0xA900


def test_a_context_that_is_not_of_storage_takes_no_instance(node: Node) -> None:
    """A destination that may only report has such contexts."""
    before = node.stored()
    data_set = an_instance("2.25.1").replace(uid_value(CR), uid_value(VERIFICATION.ljust(len(CR), "\0")))
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, VERIFICATION, (EXPLICIT,)),))
        assert peer.say(*store("2.25.1", data_set, sop_class_uid=VERIFICATION)).status() == 0x0122
    assert node.stored() == before


@pytest.mark.parametrize("depth", [3_000, 200_000])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_sequences_without_end_are_refused(node: Node, depth: int, syntax: str) -> None:
    sequence = b"\x08\x00\x40\x11" + (b"SQ\0\0" if syntax == EXPLICIT else b"") + b"\xff\xff\xff\xff"
    nested = (sequence + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, CR, (syntax,)),))
        assert peer.say(*store("2.25.1", nested)).status() == 0xC000


def test_a_deflated_bomb_is_refused_at_the_limit(node: Node) -> None:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    front = an_instance("2.25.1")
    bomb = deflate.compress(front) + b"".join(deflate.compress(bytes(1 << 20)) for _ in range(400)) + deflate.flush()
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, CR, (DEFLATED,)),))
        assert peer.say(*store("2.25.1", bomb)).status() == 0xA700


@pytest.mark.parametrize("tail", [b"", b"\0", b"not the end of it" * 5_000])
def test_a_deflated_object_is_taken_and_what_follows_its_end_holds_nothing_up(node: Node, tail: bytes) -> None:
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, CR, (DEFLATED,)),))
        content = an_instance("2.25.78", transfer_syntax_uid=DEFLATED) + tail
        assert peer.say(*store("2.25.78", content)).status() == 0x0000


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"\xff" * 400])
def test_a_damaged_deflated_object_is_refused(node: Node, damage: Callable[[bytes], bytes]) -> None:
    with Peer(node.port) as peer:
        peer.associate(contexts=((1, CR, (DEFLATED,)),))
        content = damage(an_instance("2.25.1", transfer_syntax_uid=DEFLATED))
        assert peer.say(*store("2.25.1", content)).status() == 0xC000


def test_a_data_set_without_end_is_ended_at_the_limit(node: Node) -> None:
    with Peer(node.port) as peer:
        peer.associate().say(command_pdu(store_command("2.25.1")), *data_pdus(an_instance(), is_last=False))
        piece = data_pdus(bytes(16_000), is_last=False)[0]
        for _ in range(2 * LIMITS.maximum_instance_size // 16_000):
            peer.say(piece)
        answers = [peer.hear()[0], peer.hear()[0]]
    # The reset of a connection with bytes unread may overtake what was said on it; then there is nothing to hear.
    assert answers in ([P_DATA, A_ABORT], [P_DATA, 0], [0, 0])


def test_a_request_that_may_have_no_data_set_may_not_fill_the_memory_with_one(node: Node) -> None:
    c_echo_with_data = {0x0002: uid_value(VERIFICATION), 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\0"}
    with ExitStack() as stack:
        peers, piece = list[Peer](), data_pdus(bytes(16_000), context_id=3, is_last=False)[0]
        for _ in range(6):  # none of them is idle while another one speaks
            peers.append(stack.enter_context(Peer(node.port)).associate())
            peers[-1].say(command_pdu(c_echo_with_data, context_id=3), piece * 2_000)
        answers = [[peer.hear()[0], peer.hear()[0]] for peer in peers]
    assert all(answer in ([P_DATA, A_ABORT], [P_DATA, 0], [0, 0]) for answer in answers)


def test_requests_that_never_end_leave_no_room_for_others_only_while_they_last(node: Node) -> None:
    with_data = {0x0002: uid_value(VERIFICATION), 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\0"}
    begun = [command_pdu(with_data, context_id=3), *data_pdus(bytes(3_000_000), context_id=3, is_last=False)]
    whole = [command_pdu(with_data, context_id=3), *data_pdus(bytes(1_000_000), context_id=3)]
    unserved = [command_pdu({**with_data, 0x0002: uid_value(CR)}), *data_pdus(bytes(1_000_000))]
    with Peer(node.port) as honest:
        honest.associate()
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(Peer(node.port)).associate().say(*begun)
            wait_until(lambda: has_read_all(node), "all of it has been read")
            assert honest.say(*whole).status() == 0x0213
            assert honest.say(*store("2.25.81", an_instance("2.25.81"))).status() == 0x0000
            assert honest.say(*unserved).status() == 0x0211  # nobody reads it, so it needs no room
        wait_until(lambda: honest.say(*whole).status() == 0x0000, "they have gone, and there is room")
        assert [honest.say(*whole).status() for _ in range(10)] == [0x0000] * 10


def has_read_all(node: Node) -> bool:
    """Nothing that its peers have said waits in the kernel, on either side (proc_net_tcp: tx_queue and rx_queue)."""
    port = f":{node.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(row[4] == "00000000:00000000" for row in rows if port in row[1] or port in row[2])


def test_stores_that_are_not_waited_for_are_all_answered_and_never_all_in_memory(node: Node) -> None:
    before, memory = node.stored(), node.resident_mb()
    count, pixels = 150, 1 << 20
    with Peer(node.port, timeout_s=60.0) as peer:
        peer.associate()
        for number in range(count):
            uid = f"2.25.9{number}"
            peer.say(*store(uid, an_instance(uid, pixels=pixels), message_id=number + 1))
        assert [peer.status() for _ in range(count)] == [0x0000] * count
    assert node.stored() == before + count
    assert node.resident_mb() - memory < 20


@pytest.mark.parametrize("what", ["release", "abort", "close", "reset"])
def test_an_object_that_is_cut_off_leaves_nothing(node: Node, what: str) -> None:
    before = node.stored()
    with Peer(node.port) as peer:
        half = data_pdus(an_instance(pixels=1 << 20), is_last=False)[:20]
        peer.associate().say(command_pdu(store_command("2.25.1")), *half)
        if what == "release":
            assert peer.say(pdu(5, bytes(4))).hear()[0] == A_RELEASE_RP
        elif what == "abort":
            peer.say(pdu(7, bytes(4)))
        elif what == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert node.stored() == before


def test_a_peer_that_is_gone_before_the_answer_may_send_again(node: Node) -> None:
    before = node.stored()
    said = store("2.25.79", an_instance("2.25.79"))
    with Peer(node.port) as peer:
        peer.associate().say(*said)
    with Peer(node.port) as peer:
        assert peer.associate().say(*said).status() == 0x0000
    assert node.stored() == before + 2  # the same twice; behind the receiver, one of the two is dropped


def test_peers_that_stall_inside_a_pdu_lose_their_associations(node: Node) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port)).associate() for _ in range(6)]
        for peer in peers:
            peer.say(command_pdu(store_command("2.25.1")), data_pdus(an_instance(pixels=100_000))[0][:5_000])
        began = time.monotonic()
        assert [aborts(peer) for peer in peers] == [True] * 6
        assert time.monotonic() - began < LIMITS.artim_s + 2.0


def test_a_data_set_that_drips_in_is_given_up(node: Node) -> None:
    with Peer(node.port) as peer:
        peer.associate().say(command_pdu(store_command("2.25.1")))
        began = time.monotonic()
        with suppress(ConnectionError):
            for byte in data_pdus(an_instance())[0]:
                peer.socket.sendall(bytes((byte,)))
                time.sleep(0.1)
                assert time.monotonic() - began < LIMITS.artim_s + 4.0, "it may drip for ever"


@pytest.mark.parametrize(
    "said",
    [command_pdu(store_command("2.25.1")), pdu(P_DATA, pdv(1, IS_COMMAND, b"half")), b"\4\0\0"],
    ids=["no data set follows", "half a command", "half a header"],
)
def test_a_message_that_is_never_finished_ends_its_association(node: Node, said: bytes) -> None:
    with Peer(node.port) as peer:
        assert aborts(peer.associate().say(said))


def test_a_header_that_is_never_finished_is_given_up_when_artim_runs_out(node: Node) -> None:
    for said in (b"\4\0\0", pdu(5, b"", length=4)):
        with Peer(node.port) as peer:
            peer.associate().say(said)
            began = time.monotonic()
            assert aborts(peer)
            assert time.monotonic() - began < LIMITS.association_timeout_s - 0.1


def test_peers_that_do_not_read_their_answers_lose_their_associations(node: Node) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port, keeps_bytes=2_048)).associate() for _ in range(6)]
        for peer in peers:
            with suppress(ConnectionError, TimeoutError):
                peer.socket.settimeout(0.2)
                for _ in range(200):
                    peer.socket.sendall(ECHO * 100)
        time.sleep(LIMITS.artim_s + 1.0)
        assert stack.enter_context(Peer(node.port)).say(associate_rq()).hear()[0] == A_ASSOCIATE_AC


def test_an_idle_association_is_aborted(node: Node) -> None:
    with Peer(node.port) as peer:
        asked = time.monotonic()  # it is accepted between the two, and idle from then on
        peer.associate()
        began = time.monotonic()
        assert aborts(peer)
        assert LIMITS.association_timeout_s - 0.5 < time.monotonic() - asked
        assert time.monotonic() - began < LIMITS.association_timeout_s + 2.0


def test_what_stands_in_the_tags_is_stored_as_it_came(node: Node) -> None:
    before = set(node.spool.stored_keys())
    hostile = b"<script>alert(1)</script>'; DROP TABLE studies; --\r\n\x1b[2J "
    value = struct.pack("<HH2sH", 0x0008, 0x1030, b"LO", len(hostile)) + hostile
    front = an_instance("2.25.80")
    start = front.index(b"\x10\x00\x10\x00PN")  # before Patient's Name (0010,0010)
    data_set = front[:start] + value + front[start:]
    with Peer(node.port) as peer:
        assert peer.associate().say(*store("2.25.80", data_set)).status() == 0x0000
    (key,) = set(node.spool.stored_keys()) - before
    stored = node.spool.path(key).read_bytes()
    assert stored.endswith(data_set)
    assert stored[:128] == bytes(128)


def test_an_unknown_operation_is_answered_and_the_association_goes_on(node: Node) -> None:
    c_echo_on_storage = command_pdu(
        {0x0002: uid_value(CR), 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: struct.pack("<H", NO_DATA_SET)}
    )
    with Peer(node.port) as peer:
        assert peer.associate(CONTEXTS).say(c_echo_on_storage).status() == 0x0211
        assert peer.say(ECHO).status() == 0x0000
