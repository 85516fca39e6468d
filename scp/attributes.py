"""Reads the data sets of DIMSE-N requests, which come from anybody who may associate.

    content  ->  element by element (PS3.5 7.1, 7.5)  ->  the few attributes that a service asks for

A general parser makes a data set a hundred times as large as it came. Here, of every other element only the end is
looked for, and all of them are counted on the way.
"""

import re
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from threading import Lock
from typing import TypeAlias

from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from domain.value_representations import LONG_VRS, SHORT_VRS

# What the services ask for: tag, keyword and value representation (PS3.6).
ASKED_FOR = {
    0x00081140: ("ReferencedImageSequence", b"SQ"),
    0x00081150: ("ReferencedSOPClassUID", b"UI"),
    0x00081155: ("ReferencedSOPInstanceUID", b"UI"),
    0x00081195: ("TransactionUID", b"UI"),
    0x00081197: ("FailureReason", b"US"),
    0x00081198: ("FailedSOPSequence", b"SQ"),
    0x00081199: ("ReferencedSOPSequence", b"SQ"),
    0x0020000D: ("StudyInstanceUID", b"UI"),
    0x00400220: ("ReferencedNonImageCompositeSOPInstanceSequence", b"SQ"),
    0x00400252: ("PerformedProcedureStepStatus", b"CS"),
    0x00400270: ("ScheduledStepAttributesSequence", b"SQ"),
    0x00400340: ("PerformedSeriesSequence", b"SQ"),
}
NOT_ASKED_FOR = ("", b"")
# Of all nested data sets together, items among them. A commitment request of 10,000 instances has 30,000, and takes a
# tenth of a second.
MOST_ELEMENTS = 100_000
DEEPEST = 64  # sequences inside each other; real requests have three or so
ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
FIRST_TAG = 0x00080000  # before it are command sets and File Meta
UNDEFINED_LENGTH = 0xFFFFFFFF
# Item (FFFE,E000), in both byte orders (PS3.5 7.5). No UID, text or number of these data sets holds these bytes.
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
UID_PATTERN = re.compile(r"[0-9.]{1,64}")  # modalities send components with leading zeros; PS3.5 9.1 has none

# One data set, as far as it is asked for: by keyword; of a sequence that of each item.
Attributes: TypeAlias = "dict[str, bytes | int | list[Attributes]]"

# Many peers may send large data sets at the same moment; the memory for one is there.
_one_at_a_time = Lock()


class Malformed(Exception):
    """The data set is not one, or an attribute in it has no possible value."""


class TooManyItems(Exception):
    """More items or elements than the node takes in one request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How elements are written (PS3.5 7.1). `is_explicit`: with their value representation."""

    is_explicit: bool
    header: Struct  # group, element, length
    explicit_header: Struct  # group, element, value representation, length in two bytes
    long_length: Struct
    number: Struct


def _encoding(order: str, *, is_explicit: bool) -> Encoding:
    return Encoding(
        is_explicit=is_explicit,
        header=Struct(f"{order}HHI"),
        explicit_header=Struct(f"{order}HH2sH"),
        long_length=Struct(f"{order}I"),
        number=Struct(f"{order}H"),
    )


IMPLICIT = _encoding("<", is_explicit=False)
ENCODINGS = {str(ImplicitVRLittleEndian): IMPLICIT, str(ExplicitVRBigEndian): _encoding(">", is_explicit=True)}
EXPLICIT = _encoding("<", is_explicit=True)


def parse(content: bytes, transfer_syntax_uid: str, *, most_items: int) -> Attributes:
    """What is asked for of the whole data set.

    Raises:
        Malformed: it is none in this transfer syntax, or is cut short.
        TooManyItems: it has more than `most_items` items in all its sequences, or more than MOST_ELEMENTS elements.
    """
    if max(content.count(tag) for tag in ITEM_TAGS) > most_items:
        raise TooManyItems(f"more than {most_items} items in one request")
    with _one_at_a_time:
        try:
            return _Reader(content).attributes(ENCODINGS.get(transfer_syntax_uid, EXPLICIT))
        except StructError as error:
            raise Malformed("the data set is cut short") from error


class _Reader:
    """Goes through one data set from its start to its end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._elements = 0

    def attributes(self, encoding: Encoding) -> Attributes:
        found, _ = self._data_set(0, len(self._content), len(self._content), encoding, 0)
        return found

    def _data_set(
        self, position: int, end: int | None, limit: int, encoding: Encoding, depth: int
    ) -> tuple[Attributes, int]:
        """That from `position` to `end`, or to its delimiter where that is None, and the position behind it. Nothing
        in it may go beyond `limit`.
        """
        found: Attributes = {}
        while end is None or position < end:
            tag, vr, length, start = self._header(position, encoding)
            if tag == ITEM_DELIMITATION and end is None:
                return found, start
            if tag < FIRST_TAG or tag >> 16 == 0xFFFE:
                raise Malformed("an element stands where it cannot")
            keyword, its_vr = ASKED_FOR.get(tag, NOT_ASKED_FOR)
            if keyword and vr not in (its_vr, b"UN", b""):
                raise Malformed(f"{keyword} has another value representation than its own")
            if length == UNDEFINED_LENGTH or its_vr == b"SQ":
                inner = IMPLICIT if vr == b"UN" else encoding  # PS3.5 6.2.2
                items, position = self._sequence(start, length, limit, inner, depth + 1)
                if its_vr == b"SQ":
                    found[keyword] = items
                elif vr not in (b"SQ", b"UN", b"") or keyword:
                    raise Malformed("an element that is no sequence has no length")
                continue
            position = start + length
            if position > limit:
                raise Malformed("the data set is cut short")
            if keyword:
                found[keyword] = self._value(start, position, its_vr, encoding)
        if position != end:
            raise Malformed("an element is longer than what holds it")
        return found, position

    def _sequence(
        self, position: int, length: int, limit: int, encoding: Encoding, depth: int
    ) -> tuple[list[Attributes], int]:
        """Its items, and the position behind it."""
        if depth > DEEPEST:
            raise Malformed("sequences are nested too deep")
        end = None if length == UNDEFINED_LENGTH else position + length
        limit = limit if end is None else min(end, limit)
        items: list[Attributes] = []
        while end is None or position < end:
            tag, item_length, start = self._plain_header(position, encoding)
            if tag == SEQUENCE_DELIMITATION and end is None:
                return items, start
            if tag != ITEM:
                raise Malformed("a sequence holds something else than items")
            item_end = None if item_length == UNDEFINED_LENGTH else start + item_length
            if item_end is not None and item_end > limit:
                raise Malformed("an item is longer than what holds it")
            found, position = self._data_set(start, item_end, item_end or limit, encoding, depth)
            items.append(found)
        if position != end:
            raise Malformed("an item is longer than its sequence")
        return items, position

    def _header(self, position: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
        """Tag, value representation ("" where it is implicit), length, and where the value begins."""
        if not encoding.is_explicit:
            tag, length, start = self._plain_header(position, encoding)
            return tag, b"", length, start
        group, element, vr, length = encoding.explicit_header.unpack_from(self._content, position)
        if vr in SHORT_VRS:
            self._count()
            return group << 16 | element, vr, length, position + 8
        if vr in LONG_VRS:
            self._count()
            (length,) = encoding.long_length.unpack_from(self._content, position + 8)
            return group << 16 | element, vr, length, position + 12
        if group == 0xFFFE:  # items and delimiters have none
            tag, length, start = self._plain_header(position, encoding)
            return tag, b"", length, start
        raise Malformed("an element has no value representation")

    def _plain_header(self, position: int, encoding: Encoding) -> tuple[int, int, int]:
        group, element, length = encoding.header.unpack_from(self._content, position)
        self._count()
        return group << 16 | element, length, position + 8

    def _count(self) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS:
            raise TooManyItems(f"more than {MOST_ELEMENTS} elements in one request")

    def _value(self, start: int, end: int, vr: bytes, encoding: Encoding) -> bytes | int:
        if vr == b"US" and end - start == encoding.number.size:
            return int(encoding.number.unpack_from(self._content, start)[0])
        return self._content[start:end]


def items(attributes: Attributes, keyword: str) -> list[Attributes]:
    """The items of a sequence; none where it is absent or empty."""
    value = attributes.get(keyword, [])
    assert isinstance(value, list), "the reader made it one"
    return value


def text(attributes: Attributes, keyword: str) -> str:
    """A single text value without its padding; "" where it is absent or empty.

    Raises:
        Malformed: there are several values, or none that is text.
    """
    value = attributes.get(keyword, b"")
    if not isinstance(value, bytes) or b"\\" in value or not value.isascii():
        raise Malformed(f"{keyword} is not one text")
    return value.decode("ascii").strip(" \0")


def number(attributes: Attributes, keyword: str) -> int:
    """A single whole number; 0 where it is absent or empty.

    Raises:
        Malformed: there are several values, or none that is a number.
    """
    value = attributes.get(keyword, b"")
    if value == b"":
        return 0
    if not isinstance(value, int):
        raise Malformed(f"{keyword} is not one number")
    return value


def is_uid(value: str) -> bool:
    return UID_PATTERN.fullmatch(value) is not None
