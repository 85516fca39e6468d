"""The data sets of DIMSE-N requests: what is asked for is what a general parser finds, and nothing else is kept."""

import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from scp.attributes import ASKED_FOR, MOST_ELEMENTS, Malformed, TooManyItems, items, number, parse, text
from tests.factories.arrivals import encoded

IMPLICIT, EXPLICIT, BIG_ENDIAN = map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCES = sorted(keyword for keyword, vr in ASKED_FOR.values() if vr == b"SQ")
TEXTS = sorted(keyword for keyword, vr in ASKED_FOR.values() if vr == b"UI")
NOT_ASKED_FOR = ("PatientName", "SeriesDescription", "AccessionNumber", "RetrieveAETitle")


def data_sets(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    values: list[st.SearchStrategy[dict[str, Any]]] = [
        st.dictionaries(st.sampled_from(TEXTS), st.from_regex(r"1\.[0-9]{1,20}", fullmatch=True), max_size=3),
        st.dictionaries(st.sampled_from(NOT_ASKED_FOR), st.text("ABC^ ", max_size=10), max_size=2),
        st.dictionaries(st.just("FailureReason"), st.integers(0, 0xFFFF), max_size=1),
    ]
    if depth:
        # Procedure Code Sequence (0008,1032) is a sequence that nobody asks for.
        lists = st.lists(data_sets(depth - 1), max_size=3)
        values.append(st.dictionaries(st.sampled_from([*SEQUENCES, "ProcedureCodeSequence"]), lists, max_size=2))
    return st.tuples(*values).map(lambda parts: {key: value for part in parts for key, value in part.items()})


def as_dataset(values: dict[str, Any], *, undefined: bool) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        if isinstance(value, list):
            value = Sequence([as_dataset(item, undefined=undefined) for item in value])
            value.is_undefined_length = undefined
            for item in value:
                item.is_undefined_length_sequence_item = undefined
        setattr(dataset, keyword, value)
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
    return dataset


def asked_for(values: dict[str, Any]) -> dict[str, Any]:
    kept = {keyword: value for keyword, value in values.items() if keyword in {*SEQUENCES, *TEXTS, "FailureReason"}}
    return {
        keyword: [asked_for(item) for item in value] if isinstance(value, list) else value
        for keyword, value in kept.items()
    }


def plain(attributes: Any) -> dict[str, Any]:
    return {
        keyword: [plain(item) for item in items(attributes, keyword)]
        if keyword in SEQUENCES
        else number(attributes, keyword)
        if keyword == "FailureReason"
        else text(attributes, keyword)
        for keyword in attributes
    }


@settings(deadline=None)
@given(values=data_sets(), syntax=st.sampled_from(SYNTAXES), undefined=st.booleans())
def test_what_is_asked_for_is_read_in_every_syntax(values: dict[str, Any], syntax: str, undefined: bool) -> None:
    content = encoded(as_dataset(values, undefined=undefined), syntax)
    assert plain(parse(content, syntax, most_items=1_000)) == asked_for(values)


@settings(deadline=None, max_examples=300)
@given(
    values=data_sets(),
    syntax=st.sampled_from(SYNTAXES),
    undefined=st.booleans(),
    where=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
)
def test_a_damaged_data_set_is_read_or_malformed_and_nothing_else(
    values: dict[str, Any], syntax: str, undefined: bool, where: float, byte: int
) -> None:
    content = bytearray(encoded(as_dataset(values, undefined=undefined), syntax) or b"\0")
    content[int(where * len(content))] = byte
    for damaged in (bytes(content), bytes(content[: int(where * len(content))])):
        with suppress(Malformed, TooManyItems):
            plain(parse(damaged, syntax, most_items=1_000))


@pytest.mark.parametrize("inside", [b"", b"\x40\0\x40\x03%b\xfe\xff\0\xe0%b"], ids=["outside", "in an item"])
def test_a_data_set_of_two_million_empty_elements_is_refused_before_it_takes_any_memory(inside: bytes) -> None:
    flood = b"".join(struct.pack("<HHI", 0x0010 + (tag >> 16), tag & 0xFFFF, 0) for tag in range(2_000_000))
    if inside:
        flood = inside % (struct.pack("<I", len(flood) + 8), struct.pack("<I", len(flood))) + flood
    tracemalloc.start()
    with pytest.raises(TooManyItems, match="more than 100000 elements"):
        parse(flood, IMPLICIT, most_items=20_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_as_many_elements_as_are_allowed_are_read() -> None:
    content = struct.pack("<HHI", 0x0010, 0x0020, 0) * MOST_ELEMENTS
    assert parse(content, IMPLICIT, most_items=1) == {}
    with pytest.raises(TooManyItems):
        parse(content + content[:8], IMPLICIT, most_items=1)


def test_an_unknown_value_representation_is_implicit_inside() -> None:
    """PS3.5 6.2.2: what passed through a system that did not know the sequence."""
    item = b"\xfe\xff\0\xe0\x0e\0\0\0" + b"\x08\0\x55\x11\x06\0\0\x001.2.3\0"
    content = b"\x08\0\x99\x11UN\0\0" + struct.pack("<I", len(item)) + item
    (found,) = items(parse(content, EXPLICIT, most_items=1), "ReferencedSOPSequence")
    assert text(found, "ReferencedSOPInstanceUID") == "1.2.3"


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\0\x95\x11UI\x06\x001.2.",
        b"\x08\0\x95\x11UI",
        b"\x08\0\x95\x11??\x06\x001.2.3\0",
        b"\x08\0\x95\x11SH\x06\x001.2.3\0",
        b"\x08\0\x95\x11UN\0\0" + UNDEFINED + b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"\x08\0\x99\x11SQ\0\0\x08\0\0\0\x08\0\x50\x11UI\0\0",
        b"\x08\0\x99\x11SQ\0\0\x08\0\0\0\xfe\xff\0\xe0\x08\0\0\0\x08\0\x50\x11UI\0\0",
        b"\x08\0\x99\x11SQ\0\0" + UNDEFINED,
        b"\x08\0\x32\x10OB\0\0" + UNDEFINED + b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\0\0\0\0UL\0\0",
        (b"\x08\0\x32\x10SQ\0\0" + UNDEFINED + b"\xfe\xff\0\xe0" + UNDEFINED) * 3_000,
    ],
    ids=[
        "a value cut short", "a header cut short", "no value representation", "another one", "a text without length",
        "no item in a sequence", "an item beyond its sequence", "no end", "bytes without length", "a delimiter alone",
        "a command element", "nested without end",
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse(content, EXPLICIT, most_items=10_000)


@pytest.mark.parametrize("value", ["1.2.3\\1.2.4", "1.2.\xe9"])
def test_several_values_or_other_letters_are_no_text(value: str) -> None:
    padded = value.encode("latin-1") + b" " * (len(value) % 2)
    attributes = parse(b"\x08\0\x95\x11" + struct.pack("<I", len(padded)) + padded, IMPLICIT, most_items=1)
    with pytest.raises(Malformed, match="TransactionUID is not one text"):
        text(attributes, "TransactionUID")


@pytest.mark.parametrize("value", [b"\1", b"\1\0\2\0"])
def test_half_a_number_or_two_are_none(value: bytes) -> None:
    attributes = parse(b"\x08\0\x97\x11" + struct.pack("<I", len(value)) + value, IMPLICIT, most_items=1)
    with pytest.raises(Malformed, match="FailureReason is not one number"):
        number(attributes, "FailureReason")
