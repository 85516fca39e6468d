"""What is read at once is what pydicom reads: the quick way is compared with the thorough one, odd values included."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from domain.value_representations import LONG_VRS
from storage import elements
from storage.elements import KEYWORDS, TAGS, Elements, read_elements
from tests.factories.arrivals import encoded
from tests.factories.sources import CASES, SourceCase, radiograph

SEQUENCES = ("AnatomicRegionSequence", "ViewCodeSequence", "ProcedureCodeSequence")
LITTLE_ENDIAN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def thoroughly(content: bytes, transfer_syntax_uid: str) -> Elements:
    """By pydicom alone."""
    file = BytesIO(content)
    dataset = read_dataset(
        file,
        is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
        stop_when=lambda tag, _vr, _length: tag in elements.PIXELS,
    )
    return Elements.of_dataset(dataset, stops_at_pixels=bool(file.read(1)))


def assert_same(read: Elements, expected: Elements) -> None:
    for keyword in KEYWORDS:
        if keyword in SEQUENCES:
            assert list(read.codes(keyword)) == list(expected.codes(keyword))
        elif keyword != "SpecificCharacterSet":
            assert read.text(keyword) == expected.text(keyword), keyword
    assert read.has_pixels == expected.has_pixels


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


@pytest.mark.parametrize("transfer_syntax_uid", [*LITTLE_ENDIAN, ExplicitVRBigEndian])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_whole_header(case: SourceCase, transfer_syntax_uid: str) -> None:
    for dataset in case.make():
        content = encoded(dataset, transfer_syntax_uid)
        assert_same(read_elements(BytesIO(content), transfer_syntax_uid), thoroughly(content, transfer_syntax_uid))


@pytest.mark.parametrize("transfer_syntax_uid", LITTLE_ENDIAN)
def test_codes_are_read_without_the_rest(transfer_syntax_uid: str) -> None:
    dataset = radiograph(1)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.AnatomicRegionSequence = Sequence([code("85562004", "Hand"), code("8205005", "Poign\u00e9e")])
    read = read_elements(BytesIO(encoded(dataset, transfer_syntax_uid)), transfer_syntax_uid)
    assert [found.meaning for found in read.codes("AnatomicRegionSequence")] == ["Hand", "Poign\u00e9e"]
    assert list(read.codes("ViewCodeSequence")) == []


@pytest.mark.parametrize("transfer_syntax_uid", LITTLE_ENDIAN)
def test_what_is_too_long_or_too_deep_for_the_quick_way_is_read_all_the_same(transfer_syntax_uid: str) -> None:
    dataset = radiograph(1)
    dataset.AnatomicRegionSequence = Sequence([code("85562004", "Hand")])
    dataset["AnatomicRegionSequence"].is_undefined_length = True
    dataset.ImageComments = "x" * max(elements.FRONTS_BYTES)
    content = encoded(dataset, transfer_syntax_uid)
    read = read_elements(BytesIO(content), transfer_syntax_uid)
    assert [found.value for found in read.codes("AnatomicRegionSequence")] == ["85562004"]
    assert (read.text("Modality"), read.text("Rows"), read.has_pixels) == ("DX", "64", True)


@pytest.mark.parametrize("transfer_syntax_uid", LITTLE_ENDIAN)
@pytest.mark.parametrize("front_bytes", elements.FRONTS_BYTES)
@pytest.mark.parametrize("beyond", range(-12, 5, 4))
def test_wherever_the_first_look_ends_the_header_is_the_same(
    transfer_syntax_uid: str, front_bytes: int, beyond: int
) -> None:
    dataset = radiograph(1)
    dataset.ImageComments = ""
    pixels_at = encoded(dataset, transfer_syntax_uid).index(b"\xe0\x7f\x10\x00")
    dataset.ImageComments = "x" * (front_bytes - pixels_at + beyond)
    content = encoded(dataset, transfer_syntax_uid)
    assert_same(read_elements(BytesIO(content), transfer_syntax_uid), thoroughly(content, transfer_syntax_uid))


def test_what_nobody_may_ask_for_is_not_silently_absent() -> None:
    with pytest.raises(KeyError):
        Elements.of_dataset(radiograph(1)).text("PatientName")


VALUES = st.one_of(
    st.sampled_from([b"", b"CHEST", b"1.2.3\0", b" 042Y", b"A\\B", b"\\B ", b"Poign\xe9e ", b"\x1b$B;3", b"\1\2"]),
    st.binary(max_size=12),
)
VALUE_REPRESENTATIONS = [
    b"CS",
    b"LO",
    b"SH",
    b"UI",
    b"IS",
    b"DA",
    b"AS",
    b"US",
    b"UN",
    b"ST",
    b"PN",
    b"SQ",
    b"OB",
    b"XX",
]
ANY_TAGS = st.one_of(st.sampled_from(sorted(TAGS.values())), st.integers(0x00080000, 0x7FE00010))


@given(
    values=st.dictionaries(ANY_TAGS, st.tuples(st.sampled_from(VALUE_REPRESENTATIONS), VALUES), max_size=12),
    is_implicit=st.booleans(),
    keeps=st.integers(0, 40),
)
def test_whatever_comes(values: dict[int, tuple[bytes, bytes]], is_implicit: bool, keeps: int) -> None:
    content = b"".join(element(tag, *values[tag], is_implicit=is_implicit) for tag in sorted(values))
    content = content[: len(content) - max(0, keeps - 20)]  # half of the examples are cut
    syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    try:
        expected = thoroughly(content, syntax)
    except Exception:  # then nothing can be expected of the quick way, either
        return
    assert_same(read_elements(BytesIO(content), syntax), expected)


def element(tag: int, vr: bytes, value: bytes, *, is_implicit: bool) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if is_implicit:
        return elements.IMPLICIT.pack(group, number, len(value)) + value
    if vr in LONG_VRS:
        return elements.EXPLICIT.pack(group, number, vr, 0) + elements.LENGTH.pack(len(value)) + value
    return elements.EXPLICIT.pack(group, number, vr, len(value)) + value
