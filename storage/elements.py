"""The attributes of an instance that the node looks at, read from the front of its data set.

    front of the file  ->  element by element (PS3.5 7.1)  ->  plain text, kept          most of them, at once
                                                           ->  anything else, set aside  for pydicom, if asked for
    what this cannot follow                                ->  all of it for pydicom

Each instance passes here, and nearly all that is asked of it is a few words of ASCII: for those pydicom, which handles
everything, takes five times as long.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from io import BytesIO
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
OF_SEVERAL_VALUES = frozenset((TAGS["ImageType"], TAGS["PatientOrientation"]))  # of which all values count
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))  # Float, Double Float, and Pixel Data
GROUP_OF_PIXELS = 0x7FE0
TEXT_VRS = frozenset((b"AE", b"AS", b"CS", b"DA", b"IS", b"LO", b"SH", b"UI"))
EXPLICIT, IMPLICIT, LENGTH = Struct("<HH2sH"), Struct("<HHI"), Struct("<I")
UNDEFINED_LENGTH = 0xFFFFFFFF
ESC = 0x1B  # begins another character set within a value (ISO 2022, PS3.3 C.12.1.1.2)
# How much of a file is read at first, and then where its pixels begin further behind.
FRONTS_BYTES = (1 << 13, 1 << 16)


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
            items = list(dataset.get(keyword) or ())
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
        Exception: whatever pydicom raises for what is no data set.
    """
    start = file.tell()
    for front_bytes in FRONTS_BYTES:
        front = file.read(front_bytes)
        with suppress(NotFollowed):
            return _scanned(front, transfer_syntax_uid, is_all=len(front) < front_bytes)
        file.seek(start)
    return _parsed(file, transfer_syntax_uid)


def read_elements_of_any(file: BinaryIO) -> tuple[Elements, Dataset]:
    """The same for any DICOM file, whether it has File Meta or not; and everything in front of its pixels."""
    dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    # The reader stops in front of Pixel Data (7FE0,0010); a deflated data set is read whole into memory first.
    stopped_early = bool(file.read(1)) or dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return Elements.of_dataset(dataset, stops_at_pixels=stopped_early), dataset


def _parsed(file: BinaryIO, transfer_syntax_uid: str) -> Elements:
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return read_elements_of_any(file)[0]
    dataset = read_dataset(
        file,
        is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
        stop_when=lambda tag, _vr, _length: tag in PIXELS,
    )
    return Elements.of_dataset(dataset, stops_at_pixels=bool(file.read(1)))


def _scanned(front: bytes, transfer_syntax_uid: str, *, is_all: bool) -> Elements:
    if transfer_syntax_uid in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
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


def _dataset_of(encoded: dict[int, bytes], *, is_implicit: bool) -> Dataset:
    content = BytesIO(b"".join(encoded[tag] for tag in sorted(encoded)))
    return read_dataset(content, is_implicit_VR=is_implicit, is_little_endian=True)


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
