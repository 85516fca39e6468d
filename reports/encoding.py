"""Data sets as bytes, in pieces: Explicit VR Little Endian, with sequences and items of undefined length (PS3.5 7.5).

Where no length of a whole is written down, a piece can be put into it, or in another's place, without a look at the
rest.
"""

from collections.abc import Mapping

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_dataset, write_file_meta_info

ITEM = bytes.fromhex("feff00e0 ffffffff")
END_OF_SEQUENCE = bytes.fromhex("feffdde0 00000000")
END_OF_ITEM = bytes.fromhex("feff0de0 00000000")
# Those whose length takes four bytes behind two that are reserved (PS3.5 table 7.1-1).
LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})

FILE_META_GROUP_LENGTH = 0x00020000
Elements = Mapping[int, bytes]  # each element of a data set, whole, by its tag


def encode_item(dataset: Dataset, encodings: list[str]) -> bytes:
    """A data set as an item of a sequence."""
    return ITEM + encode(dataset, encodings) + END_OF_ITEM


def encode(dataset: Dataset, encodings: list[str]) -> bytes:
    """The elements of a data set, in the order of their tags. `encodings`: pydicom's names for its character sets."""
    stream = _stream()
    write_dataset(stream, without_lengths(dataset), encodings)
    return stream.getvalue()


def encode_elements(dataset: Dataset, encodings: list[str]) -> Elements:
    """The same, each for itself. An element that was read is written as it was."""
    without_lengths(dataset)
    elements = {}
    for tag in dataset.keys():  # noqa: SIM118  # as below
        stream = _stream()
        write_data_element(stream, dataset.get_item(tag), encodings)
        elements[int(tag)] = stream.getvalue()
    return elements


def encode_element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element; `value` is padded to an even length already."""
    return tag_bytes(tag) + vr + length_bytes(vr, len(value)) + value


def encode_sequence(tag: int, items: bytes) -> bytes:
    """A sequence of encoded items that tells its length: a reader can pass over it."""
    return encode_element(tag, b"SQ", items)


def encode_opening(tag: int) -> bytes:
    """What a sequence begins with that does not tell its length."""
    return tag_bytes(tag) + b"SQ\0\0\xff\xff\xff\xff"


def encode_file_meta(file_meta: FileMetaDataset) -> bytes:
    """The File Meta Information without its group length, which comes first."""
    stream = _stream()
    write_file_meta_info(stream, file_meta)
    return stream.getvalue()[len(_group_length(0)) :]


def encode_file(file_meta: bytes, elements: Elements) -> bytes:
    """A complete file, PS3.10 7."""
    data_set = (elements[tag] for tag in sorted(elements))
    return b"".join([b"\0" * 128, b"DICM", _group_length(len(file_meta)), file_meta, *data_set])


def _group_length(length: int) -> bytes:
    return encode_element(FILE_META_GROUP_LENGTH, b"UL", length.to_bytes(4, "little"))


def tag_bytes(tag: int) -> bytes:
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


def length_bytes(vr: bytes, length: int) -> bytes:
    return b"\0\0" + length.to_bytes(4, "little") if vr in LONG_VRS else length.to_bytes(2, "little")


def without_lengths(dataset: Dataset) -> Dataset:
    """The same data set, which pydicom will write with sequences and items of undefined length."""
    for tag in dataset.keys():  # noqa: SIM118  # going through the data set itself would decode what was read
        element = dataset.get_item(tag)
        if isinstance(element, DataElement) and element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                without_lengths(item)
    return dataset


def _stream() -> DicomBytesIO:
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    return stream
