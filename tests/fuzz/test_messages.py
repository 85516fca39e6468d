"""Well-formed messages mean the same however a peer cuts them: into PDVs, into PDUs, into what the network delivers."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence

from scp.dataset_head import IDENTIFIERS, Head
from tests.factories import hostile
from tests.factories.arrivals import encoded
from tests.factories.hostile import A_ABORT, A_ASSOCIATE_AC, A_RELEASE_RP, CR, IS_COMMAND, IS_LAST, P_DATA
from tests.fuzz.targets import ACTION, BIG_ENDIAN, CONTEXTS, ECHO, SYNTAXES, Acceptor, pdus

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RELEASE, ABORT, NOISE = hostile.pdu(5, bytes(4)), hostile.pdu(7, bytes(4)), hostile.pdu(0x63, b"")
DATA_SETS = {syntax: hostile.an_instance("2.25.1", transfer_syntax_uid=syntax, pixels=900) for syntax in SYNTAXES}


@dataclass(frozen=True)
class Message:
    """A request, the Status that it is answered with, and whether its data set is kept."""

    context_id: int
    command: dict[int, bytes]
    data_set: bytes | None
    status: int

    @property
    def is_kept(self) -> bool:
        return self.status == 0 and self.command[0x0100] == b"\1\0"


def a_store(context_id: int, status: int, data_set: bytes, uid: str = "2.25.1") -> Message:
    return Message(context_id, hostile.store_command(uid), data_set, status)


MESSAGES = (
    *(a_store(1 + 2 * index, 0x0000, DATA_SETS[syntax]) for index, syntax in enumerate(SYNTAXES)),
    a_store(1, 0x0117, DATA_SETS[SYNTAXES[0]], uid="../../x"),
    a_store(1, 0xA900, DATA_SETS[SYNTAXES[0]], uid="2.25.2"),
    a_store(1, 0xC000, b"\xff" * 900),
    a_store(3, 0xC000, DATA_SETS[SYNTAXES[0]]),
    Message(9, ECHO, None, 0x0000),
    Message(11, ACTION, b"some data set", zlib.crc32(b"some data set") & 0xFFFF),
)
ENDS = {RELEASE: [A_RELEASE_RP], NOISE: [A_ABORT], ABORT: [], b"": []}


@pytest.fixture(scope="module")
def acceptor() -> Iterator[Acceptor]:
    with TemporaryDirectory() as folder:
        yield Acceptor(Path(folder))


@SOME
@given(
    messages=st.lists(st.sampled_from(MESSAGES), max_size=4),
    end=st.sampled_from(list(ENDS)),
    is_half_a_message_left=st.booleans(),
    piece=st.integers(1, 5_000),
    data=st.data(),
)
def test_every_message_is_answered_alike_however_it_is_cut(
    acceptor: Acceptor,
    messages: list[Message],
    end: bytes,
    is_half_a_message_left: bool,
    piece: int,
    data: st.DataObject,
) -> None:
    said = [hostile.associate_rq(contexts=CONTEXTS), *(cut(message, data) for message in messages)]
    if is_half_a_message_left:
        said.append(hostile.command_pdu(hostile.store_command("2.25.3")))
        said.append(hostile.data_pdus(DATA_SETS[SYNTAXES[0]][:500], is_last=False)[0])
    answered, kept = acceptor.hear(b"".join(said) + end, piece)
    answers = pdus(answered)
    assert [pdu[0] for pdu in answers] == [A_ASSOCIATE_AC, *[P_DATA] * len(messages), *ENDS[end]]
    statuses = [hostile.elements(pdu[12:])[0x0900] for pdu in answers if pdu[0] == P_DATA]
    assert [int.from_bytes(status, "little") for status in statuses] == [message.status for message in messages]
    assert kept == [message.data_set for message in messages if message.is_kept]


def cut(message: Message, data: st.DataObject) -> bytes:
    """Its PDUs: the command set and the data set cut anywhere, several PDVs together or each alone."""
    pdvs = list(fragments(message.context_id, IS_COMMAND, hostile.command_set(message.command), data))
    if message.data_set is not None:
        pdvs += fragments(message.context_id, 0, message.data_set, data)
    bounds = data.draw(cuts(len(pdvs)))
    return b"".join(hostile.pdu(P_DATA, b"".join(pdvs[start:end])) for start, end in pairwise(bounds))


def fragments(context_id: int, control: int, content: bytes, data: st.DataObject) -> Iterable[bytes]:
    for start, end in pairwise(data.draw(cuts(len(content)))):
        yield hostile.pdv(context_id, control | (IS_LAST if end == len(content) else 0), content[start:end])


def cuts(length: int) -> st.SearchStrategy[Sequence[int]]:
    """Where something of this length is cut, its two ends among it."""
    return st.sets(st.integers(1, max(1, length - 1)), max_size=5).map(
        lambda places: sorted({0, length, *(place for place in places if place < length)})
    )


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    """A data set with the four identifiers, some text, and sequences of defined and undefined length."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CR, f"2.25.{draw(st.integers(1, 10**30))}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"2.25.{draw(st.integers(1, 10**30))}", "2.25.7"
    made.StudyDescription = "x" * draw(st.integers(0, 64))
    if draw(st.booleans()):
        made.ImageComments = "y" * draw(st.integers(0, 3_000))
    if depth and draw(st.booleans()):
        items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
        made.ReferencedStudySequence = ItemSequence(items)
        made["ReferencedStudySequence"].is_undefined_length = draw(st.booleans())
    return made


@SOME
@given(data_set=data_sets(), syntax=st.sampled_from([*SYNTAXES[:2], BIG_ENDIAN]), piece=st.integers(1, 500))
def test_the_identifiers_of_a_valid_data_set_are_found_wherever_it_is_cut(
    data_set: Dataset, syntax: str, piece: int
) -> None:
    content, head = encoded(data_set, syntax), Head(syntax)
    for end in range(piece, len(content) + piece, piece):
        head.read(content[:end])
    head.check_end(len(content))
    assert head.uids == {tag: str(data_set[tag].value) for tag in IDENTIFIERS}
