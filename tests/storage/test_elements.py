"""What is read at once is what pydicom reads: the quick way is compared with the thorough one, odd values included."""

import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

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


EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
MANY = 1 << 18  # items, in 2 MiB


@pytest.mark.parametrize("tag", [TAGS["ProcedureCodeSequence"], 0x00091001], ids=["a code sequence", "private"])
@pytest.mark.parametrize("has_length", [True, False])
def test_of_millions_of_items_a_full_parser_sees_none(
    tag: int, has_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take minutes and gigabytes for them, and whatever else came would wait."""
    many = EMPTY_ITEM * MANY
    length = len(many) if has_length else 0xFFFFFFFF
    end = b"" if has_length else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    sequence = elements.IMPLICIT.pack(tag >> 16, tag & 0xFFFF, length) + many + end
    content = before(TAGS["StudyInstanceUID"], sequence, radiograph(1))
    parsed = sizes_parsed(monkeypatch)
    read = read_elements(BytesIO(content), ImplicitVRLittleEndian)
    assert (read.text("Modality"), read.text("StudyInstanceUID"), read.has_pixels) == ("DX", "2.25.4711.1", True)
    assert list(read.codes("ProcedureCodeSequence")) == []
    assert max(parsed) <= 1 << 16


def test_a_text_of_a_megabyte_says_nothing() -> None:
    text = elements.IMPLICIT.pack(0x0008, 0x1030, 1 << 20) + b"A" * (1 << 20)
    read = read_elements(BytesIO(before(0x00081031, text, radiograph(1))), ImplicitVRLittleEndian)
    assert (read.text("StudyDescription"), read.text("Modality"), read.has_pixels) == ("", "DX", True)


def test_what_has_too_many_elements_before_its_pixels_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "MOST_ELEMENTS", 1000)
    sequence = elements.IMPLICIT.pack(0x0009, 0x1001, 0xFFFFFFFF) + EMPTY_ITEM * MANY
    content = before(TAGS["StudyInstanceUID"], sequence, radiograph(1))
    parsed = sizes_parsed(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the parser makes of it
        read_elements(BytesIO(content), ImplicitVRLittleEndian)
    assert max(parsed) <= 1 << 20


def test_of_what_inflates_to_much_only_the_front_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "INFLATED_BYTES", 1 << 20)
    dataset = radiograph(1)
    dataset.PixelData = bytes(1 << 22)
    read = read_elements(BytesIO(encoded(dataset, DeflatedExplicitVRLittleEndian)), DeflatedExplicitVRLittleEndian)
    assert (read.text("Modality"), read.text("Rows"), read.has_pixels) == ("DX", "64", True)


@pytest.mark.parametrize("transfer_syntax_uid", [*LITTLE_ENDIAN, ExplicitVRBigEndian])
def test_sequences_within_sequences_are_passed_over_whatever_tells_their_ends(transfer_syntax_uid: str) -> None:
    dataset = radiograph(1)
    for depth in range(6):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([dataset_without_pixels(depth), Dataset()])
        outer["ReferencedImageSequence"].is_undefined_length = depth % 2 == 0
        outer.ReferencedImageSequence[0].is_undefined_length_sequence_item = depth % 3 == 0
        dataset.add_new(0x00081140 + depth, "SQ", Sequence([outer]))
        dataset[0x00081140 + depth].is_undefined_length = depth % 2 == 1
    content = encoded(dataset, transfer_syntax_uid)
    assert_same(elements._walked(BytesIO(content), transfer_syntax_uid), thoroughly(content, transfer_syntax_uid))


def test_a_sequence_of_unknown_vr_within_another_is_passed_over_as_implicit_vr() -> None:
    """PS3.5 6.2.2, note 4: what a relay did not know it could not write with its VR."""
    item, item_end, end = (
        struct.pack("<HHI", 0xFFFE, one, n) for one, n in ((0xE000, 2**32 - 1), (0xE00D, 0), (0xE0DD, 0))
    )
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1002, b"UN", 0, 0xFFFFFFFF)
    implicit = elements.IMPLICIT.pack(0x0009, 0x1003, 4) + b"ABCD"
    outer = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    sequence = outer + item + unknown + item + implicit + item_end + end + item_end + end
    content = sequence + encoded(radiograph(1), ExplicitVRLittleEndian)
    read = elements._walked(BytesIO(content), ExplicitVRLittleEndian)
    assert (read.text("Modality"), read.text("StudyInstanceUID"), read.has_pixels) == ("DX", "2.25.4711.1", True)


def dataset_without_pixels(number: int) -> Dataset:
    dataset = radiograph(number)
    del dataset.PixelData
    dataset.AnatomicRegionSequence = Sequence([code("85562004", "Hand")])
    return dataset


def before(tag: int, element: bytes, dataset: Dataset) -> bytes:
    """A data set in Implicit VR Little Endian with an element put in before that of this tag, or what follows it."""
    content, position = encoded(dataset, ImplicitVRLittleEndian), 0
    while True:
        group, number, length = elements.IMPLICIT.unpack_from(content, position)
        if group << 16 | number >= tag:
            return content[:position] + element + content[position:]
        position += 8 + length


def sizes_parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each data set has that is parsed from now on."""
    sizes = []

    def parse(file: BytesIO, **encoding: Any) -> Dataset:
        sizes.append(len(file.getvalue()))
        return read_dataset(file, **encoding)

    monkeypatch.setattr(elements, "read_dataset", parse)
    return sizes


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
    with suppress(elements.NotFollowed):
        assert_same(elements._walked(BytesIO(content), syntax), expected)


def element(tag: int, vr: bytes, value: bytes, *, is_implicit: bool) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if is_implicit:
        return elements.IMPLICIT.pack(group, number, len(value)) + value
    if vr in LONG_VRS:
        return elements.EXPLICIT.pack(group, number, vr, 0) + elements.LENGTH.pack(len(value)) + value
    return elements.EXPLICIT.pack(group, number, vr, len(value)) + value
