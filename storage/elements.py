"""The attributes of an instance that the node looks at, read from the front of its data set.

    front of the file  ->  element by element (PS3.5 7.1)  ->  plain text, kept          most of them, at once
                                                           ->  anything else, set aside  for pydicom, if asked for
    longer, or nested      ->  the same through the file, where the rest is passed over unread
    not to be followed     ->  a bounded front of it for pydicom

Each instance passes here, and nearly all that is asked of it is a few words of ASCII: for those pydicom, which handles
everything, takes five times as long. Where somebody sends a sequence of millions of items it takes minutes and
gigabytes, and all others would wait: it never gets more than what is bounded here.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from io import SEEK_CUR, SEEK_END, BytesIO
from itertools import islice
from struct import Struct
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from domain.findings import Code
from domain.value_representations import LONG_VRS, SHORT_VRS

KEYWORDS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "InstanceCreatorUID", "Manufacturer", "ManufacturerModelName", "AccessionNumber", "StudyDate",
    "PatientBirthDate", "PatientAge", "PatientSex", "Modality", "PresentationIntentType", "BodyPartExamined",
    "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence", "PatientOrientation", "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence", "StudyDescription", "SeriesDescription", "ProtocolName", "ProcedureCodeSequence",
    "RequestedProcedurePriority", "Rows", "Columns", "NumberOfFrames", "ImageType", "PhotometricInterpretation",
)  # fmt: skip
TAGS = {keyword: int(Tag(keyword)) for keyword in KEYWORDS}
VRS = {tag: dictionary_VR(tag).encode() for tag in TAGS.values()}
ABSENT = dict.fromkeys(VRS, "")
ROWS, COLUMNS = TAGS["Rows"], TAGS["Columns"]
CHARACTER_SET = TAGS["SpecificCharacterSet"]
# All of whose values count: where there should be one, somebody wrote a backslash into a text.
OF_SEVERAL_VALUES = frozenset(
    TAGS[keyword]
    for keyword in (
        "ImageType", "PatientOrientation", "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName",
    )
)  # fmt: skip
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))  # Float, Double Float, and Pixel Data
GROUP_OF_PIXELS = 0x7FE0
TEXT_VRS = frozenset((b"AE", b"AS", b"CS", b"DA", b"IS", b"LO", b"SH", b"UI"))
EXPLICIT, IMPLICIT, LENGTH = Struct("<HH2sH"), Struct("<HHI"), Struct("<I")
BIG_ENDIAN = Struct(">HH2sH"), Struct(">HHI"), Struct(">I")
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED_LENGTH = 0xFFFFFFFF
ESC = 0x1B  # begins another character set within a value (ISO 2022, PS3.3 C.12.1.1.2)
# How much of a file is read at first, and then where its pixels begin further behind.
FRONTS_BYTES = (1 << 13, 1 << 16)
LARGEST_VALUE = 1 << 16  # bytes of an attribute that may be asked for; what has more says nothing
MOST_ELEMENTS = 1_000_000  # in front of the pixels, those within sequences included: some two seconds
PARSED_BYTES = 1 << 20  # for pydicom
INFLATED_BYTES = 1 << 24  # of a deflated data set, as far as it is looked at
MOST_CODES = 100  # of a code sequence


class NotFollowed(Exception):
    """Only a full parser can say what this is."""


class Elements:
    """The attributes by their keywords, of which only KEYWORDS may be asked for.

    has_pixels: it is an image, whether its pixels are whole or not.
    """

    def __init__(self, texts: Mapping[int, str], others: Callable[[], Dataset], *, has_pixels: bool) -> None:
        """`texts`: by tag. What it lacks is in `others`, which is called when it is asked for, or nowhere."""
        self._texts = texts
        self._others = others
        self.has_pixels = has_pixels

    @classmethod
    def of_dataset(cls, dataset: Dataset, *, stops_at_pixels: bool = False) -> "Elements":
        has_pixels = stops_at_pixels and "Rows" in dataset and "Columns" in dataset
        return cls({}, lambda: dataset, has_pixels=has_pixels)

    def without_others(self) -> "Elements":
        """What could be read without a full parser; of the rest nobody knows anything."""
        return Elements(ABSENT | dict(self._texts), Dataset, has_pixels=self.has_pixels)

    @cached_property
    def _dataset(self) -> Dataset:
        return self._others()

    def text(self, keyword: str) -> str:
        """The value as stripped text; the first of several, but of OF_SEVERAL_VALUES; "" when absent or unreadable.

        Raises:
            Exception: whatever pydicom raises where it cannot even take apart what `texts` lacks.
        """
        known = self._texts.get(TAGS[keyword])
        if known is not None:
            return known
        return _text(self._dataset, keyword)

    def codes(self, keyword: str) -> Iterator[Code]:
        """The items of a code sequence (PS3.3 8.8).

        Raises:
            Exception: as `text`.
        """
        if TAGS[keyword] in self._texts:
            return
        dataset = self._dataset
        try:
            items = list(islice(dataset.get(keyword) or (), MOST_CODES))
        except Exception:  # a sequence that does not parse says nothing
            return
        for item in items:
            if isinstance(item, Dataset):
                yield Code(
                    value=_text(item, "CodeValue"),
                    scheme=_text(item, "CodingSchemeDesignator"),
                    meaning=_text(item, "CodeMeaning"),
                )


def read_elements(file: BinaryIO, transfer_syntax_uid: str) -> Elements:
    """The elements of a file of the node that stands at its data set.

    Raises:
        OSError: the file cannot be read.
        NotFollowed: it has too much in front of its pixels.
        Exception: whatever pydicom raises for what is no data set.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        file = _inflated_front(file)
    start = file.tell()
    for front_bytes in FRONTS_BYTES:
        front = file.read(front_bytes)
        with suppress(NotFollowed):
            return _scanned(front, transfer_syntax_uid, is_all=len(front) < front_bytes)
        file.seek(start)
    with suppress(NotFollowed):
        return _walked(file, transfer_syntax_uid)
    file.seek(start)
    return _parsed(file, transfer_syntax_uid)


def read_elements_of_any(file: BinaryIO) -> tuple[Elements, Dataset]:
    """The same for any DICOM file, whether it has File Meta or not; and everything in front of its pixels."""
    dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    # The reader stops in front of Pixel Data (7FE0,0010); a deflated data set is read whole into memory first.
    stopped_early = bool(file.read(1)) or dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return Elements.of_dataset(dataset, stops_at_pixels=stopped_early), dataset


def _inflated_front(file: BinaryIO) -> BinaryIO:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    front = BytesIO()
    while front.tell() < INFLATED_BYTES and (piece := file.read(FRONTS_BYTES[0])):
        front.write(inflate.decompress(piece, INFLATED_BYTES - front.tell()))
    front.seek(0)
    return front


def _parsed(file: BinaryIO, transfer_syntax_uid: str) -> Elements:
    """All of it by pydicom, which makes something of much that breaks the standard."""
    front = BytesIO(file.read(PARSED_BYTES))
    is_implicit, is_little_endian = _encoding(transfer_syntax_uid)
    dataset = read_dataset(
        front,
        is_implicit_VR=is_implicit,
        is_little_endian=is_little_endian,
        stop_when=lambda tag, _vr, _length: tag in PIXELS,
    )
    stops_at_pixels = bool(front.read(1))
    if not stops_at_pixels and file.read(1):
        raise NotFollowed
    return Elements.of_dataset(dataset, stops_at_pixels=stops_at_pixels)


def _walked(file: BinaryIO, transfer_syntax_uid: str) -> Elements:
    """Through the file itself, and by pydicom only what may be asked for."""
    is_implicit, is_little_endian = _encoding(transfer_syntax_uid)
    walk = _Walk(file, is_implicit=is_implicit, is_little_endian=is_little_endian)
    kept: dict[int, bytes] = {}
    tag = 0
    while tag not in PIXELS and not walk.is_at_end:
        start, tag = walk.position, walk.next_tag()
        if tag not in PIXELS:
            walk.pass_value()
        if tag in VRS:
            kept.pop(tag, None)
            if (size := walk.position - start) <= LARGEST_VALUE:
                file.seek(start)
                kept[tag] = file.read(size)
    return Elements(
        {},
        lambda: _dataset_of(kept, is_implicit=is_implicit, is_little_endian=is_little_endian),
        has_pixels=tag in PIXELS and {ROWS, COLUMNS} <= kept.keys(),
    )


class _Walk:
    """Stands between two elements of a data set. `position`: of the one that is next, from the start of the file."""

    def __init__(self, file: BinaryIO, *, is_implicit: bool, is_little_endian: bool) -> None:
        self._file = file
        self._is_implicit = is_implicit
        structs = (EXPLICIT, IMPLICIT, LENGTH) if is_little_endian else BIG_ENDIAN
        self._explicit, self._implicit, self._length = structs
        self.position = file.tell()
        self._end = file.seek(0, SEEK_END)
        file.seek(self.position)
        self._count = 0

    @property
    def is_at_end(self) -> bool:
        return self.position == self._end

    def next_tag(self) -> int:
        """Of the element that is next."""
        self._header = self._read_header(is_implicit=self._is_implicit)
        return self._header[0]

    def pass_value(self) -> None:
        """Go on to the element behind the one that `next_tag` told of."""
        tag, vr, length = self._header
        if tag >> 16 == ITEM >> 16:
            raise NotFollowed
        if length == UNDEFINED_LENGTH:
            # What is UN and has no length is encoded as Implicit VR Little Endian (PS3.5 6.2.2).
            self._pass_items(is_implicit=self._is_implicit or vr == b"UN")
        else:
            self._pass_bytes(length)
        self.position = self._file.tell()

    def _pass_items(self, *, is_implicit: bool) -> None:
        """To the end of a sequence or of fragments. What has a length within it is passed over as a whole."""
        open_ones = [is_implicit]  # of each sequence and item that is not at its end: whether what it holds is
        while open_ones:
            tag, vr, length = self._read_header(is_implicit=open_ones[-1])
            if tag in (ITEM_END, SEQUENCE_END):
                open_ones.pop()
            elif length == UNDEFINED_LENGTH:
                open_ones.append(open_ones[-1] or vr == b"UN")
            else:
                self._pass_bytes(length)

    def _read_header(self, *, is_implicit: bool) -> tuple[int, bytes, int]:
        """Tag, VR (empty where it is not written) and length; the file stands at the value then."""
        self._count += 1
        header = self._file.read(8)
        if len(header) < 8 or self._count > MOST_ELEMENTS:
            raise NotFollowed
        group, element, length = self._implicit.unpack(header)
        vr = b""
        if not is_implicit and group != ITEM >> 16:
            _, _, vr, length = self._explicit.unpack(header)
            if vr in LONG_VRS:
                length = self._read_length()
            elif vr not in SHORT_VRS:
                raise NotFollowed
        return group << 16 | element, vr, length

    def _read_length(self) -> int:
        content = self._file.read(4)
        if len(content) < 4:
            raise NotFollowed
        return int(self._length.unpack(content)[0])

    def _pass_bytes(self, length: int) -> None:
        if self._file.seek(length, SEEK_CUR) > self._end:
            raise NotFollowed


def _encoding(transfer_syntax_uid: str) -> tuple[bool, bool]:
    """Whether it is Implicit VR, and whether it is Little Endian."""
    return transfer_syntax_uid == ImplicitVRLittleEndian, transfer_syntax_uid != ExplicitVRBigEndian


def _scanned(front: bytes, transfer_syntax_uid: str, *, is_all: bool) -> Elements:
    if transfer_syntax_uid == ExplicitVRBigEndian:
        raise NotFollowed
    is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    texts: dict[int, str] = {}
    others: dict[int, bytes] = {}
    position, end = 0, len(front)
    stops_at_pixels = False
    while not stops_at_pixels and (position := _pass_plain(front, position, texts, is_implicit=is_implicit)) < end:
        tag, vr, start, length = _header(front, position, is_implicit=is_implicit)
        stops_at_pixels = tag in PIXELS
        if tag in VRS:
            value = front[start : start + length]
            if (vr or VRS[tag]) == b"US" and length == 2:
                texts[tag] = str(int.from_bytes(value, "little"))
            else:
                others[tag] = front[position:start] + value
                texts.pop(tag, None)
        position = start + length
    if not stops_at_pixels and (position != end or not is_all):
        raise NotFollowed
    known = ABSENT | texts
    for tag in others.keys() - texts.keys():
        del known[tag]
    return Elements(
        known,
        lambda: _dataset_of(others, is_implicit=is_implicit),
        has_pixels=stops_at_pixels and {ROWS, COLUMNS} <= texts.keys() | others.keys(),
    )


def _pass_plain(front: bytes, position: int, texts: dict[int, str], *, is_implicit: bool) -> int:
    """Go on over elements of which nobody may ask, or whose first value is ASCII in any character set, which is kept:
    that is nearly all of them.
    """
    unpack, last = (IMPLICIT if is_implicit else EXPLICIT).unpack_from, len(front) - 12
    while position <= last:
        if is_implicit:
            group, element, length = unpack(front, position)
            vr = VRS.get(group << 16 | element, b"UN")
            is_plain = length != UNDEFINED_LENGTH
        else:
            group, element, vr, length = unpack(front, position)
            is_plain = vr in SHORT_VRS
        if not is_plain or group >= GROUP_OF_PIXELS:
            break
        end = position + 8 + length
        tag = group << 16 | element
        if tag in VRS:
            value = front[position + 8 : end]
            if vr not in TEXT_VRS or tag == CHARACTER_SET or not value.isascii() or ESC in value:
                break
            text = value.decode()
            texts[tag] = _stripped(text if tag in OF_SEVERAL_VALUES else text.partition("\\")[0])
        position = end
    return position


def _header(front: bytes, position: int, *, is_implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty where it is not written), where the value starts, and its length."""
    if position + 12 > len(front):
        raise NotFollowed
    if is_implicit:
        group, element, length = IMPLICIT.unpack_from(front, position)
        vr, start = b"", position + 8
    else:
        group, element, vr, length = EXPLICIT.unpack_from(front, position)
        start = position + 8
        if vr in LONG_VRS:
            (length,) = LENGTH.unpack_from(front, position + 8)
            start = position + 12
        elif vr not in SHORT_VRS:
            raise NotFollowed
    tag = group << 16 | element
    if (length == UNDEFINED_LENGTH or group == 0xFFFE) and tag not in PIXELS:
        raise NotFollowed
    return tag, vr, start, length


def _dataset_of(encoded: dict[int, bytes], *, is_implicit: bool, is_little_endian: bool = True) -> Dataset:
    content = BytesIO(b"".join(encoded[tag] for tag in sorted(encoded)))
    return read_dataset(content, is_implicit_VR=is_implicit, is_little_endian=is_little_endian)


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        value: Any = dataset.get(keyword)
        if isinstance(value, pydicom.multival.MultiValue):
            values = value if TAGS.get(keyword) in OF_SEVERAL_VALUES else value[:1]
            value = "\\".join(map(str, values))
        return "" if value is None else _stripped(str(value))
    except Exception:  # pydicom raises many kinds for values that break their VR, some only when they are written out
        return ""


def _stripped(text: str) -> str:
    return text.replace("\0", "").strip()
