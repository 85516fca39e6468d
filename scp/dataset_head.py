"""Reads the front of a data set while it arrives: which instance it says it is, and whether it can be one at all.

    bytes so far  ->  element by element (PS3.5 7.1)  ->  four UIDs, and where the last element must end
    the rest      ->  fragment by fragment (PS3.5 A.4), where the pixels are encapsulated

Only what is wrong for certain is held against the sender. An object that is merely odd is taken; the reader behind the
receiver has more time for it.
"""

import zlib
from collections.abc import Iterable
from struct import Struct

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from domain.value_representations import LONG_VRS, SHORT_VRS

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
IDENTIFIERS = frozenset((SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID))
PIXEL_DATA = 0x7FE00010
ITEM, SEQUENCE_DELIMITATION = 0xFFFEE000, 0xFFFEE0DD
ITEM_HEADER_BYTES = 8
UNDEFINED_LENGTH = 0xFFFFFFFF
LITTLE_ENDIAN = Struct("<HH2sH"), Struct("<HHI"), Struct("<I")
BIG_ENDIAN = Struct(">HH2sH"), Struct(">HHI"), Struct(">I")
NATIVE = frozenset(  # pixels lie as they are (PS3.5 A.1 to A.3, A.5)
    map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))
)
MAY_BE_FRAGMENTS, MAY_BE_SEQUENCES = frozenset((b"OB", b"OW")), frozenset((b"SQ", b"UN"))
LONGEST_UID = 66  # 64 characters (PS3.5 9.1), and more padding than it needs
DEEPEST = 64  # sequences and items inside each other; real objects have ten or so
MOST_FRAGMENTS = 50_000  # are followed, which takes a tenth of a second; a film of a heart has a hundred

Content = bytes | bytearray | memoryview


class NotADataSet(Exception):
    """What came cannot be a data set in this transfer syntax."""


class Head:
    """What is known so far. Positions are in bytes from the start of the data set, inflated if it was deflated.

    uids: those of IDENTIFIERS that were met, by tag, without padding.
    is_done: nothing more will be looked at: the pixels begin.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._is_explicit = transfer_syntax_uid != ImplicitVRLittleEndian
        self._is_encapsulated = transfer_syntax_uid not in NATIVE
        formats = BIG_ENDIAN if transfer_syntax_uid == ExplicitVRBigEndian else LITTLE_ENDIAN
        self._explicit_header, self._implicit_header, self._long_length = formats
        self._position = 0
        self._bytes_seen = 0
        # Where each open sequence and item ends; None: at its delimiter.
        self._ends: list[int | None] = []
        # How many were open before a UN of undefined length, whose content is Implicit VR Little Endian (PS3.5 6.2.2).
        self._unknown_since: int | None = None
        self._is_in_fragments = False  # of pixels other than the instance's own: an icon's (PS3.5 A.4)
        self._pixels: Fragments | None = None  # where they are encapsulated and have begun
        self.uids: dict[int, str] = {}
        self.is_done = False

    def read(self, content: Content) -> None:
        """Go on reading. `content` begins at the data set's start; each call has at least what the last one had.

        Raises:
            NotADataSet: an element has no possible value representation, a wrong place, or is nested without end.
        """
        self._bytes_seen = len(content)
        while not self.is_done:
            if not self._ends:
                self._pass_plain_elements(content)
            self._leave_what_is_over()
            header = self._header(content)
            if header is None:
                return
            tag, is_sequence, length, start = header
            if self._is_in_fragments:
                self._pass_fragment(tag, length, start)
            elif tag >> 16 == 0xFFFE:
                self._position = start
                self._delimiter(tag, length)
            elif tag == PIXEL_DATA and not self._ends:
                self._begin_pixels(length, start)
            elif is_sequence:
                self._position = start
                self._enter(length)
            elif length == UNDEFINED_LENGTH:
                self._position = start
                self._is_in_fragments = True
            elif tag in IDENTIFIERS and not self._ends:
                if length > LONGEST_UID:
                    raise NotADataSet("a UID is longer than a UID can be")
                if start + length > len(content):
                    return
                self._position = start + length
                self.uids[tag] = _uid(content[start : start + length])
            else:
                self._position = start + length
        if self._pixels is not None:
            self._pixels.follow(memoryview(content)[self._position + self._pixels.size :])

    def follow(self, rest: Iterable[Content]) -> None:
        """Take what comes behind that which was read, once nothing more of it is looked at.

        Raises:
            NotADataSet: what stands between the fragments of encapsulated pixels is none.
        """
        if self._pixels is not None:
            for content in rest:
                self._pixels.follow(content)

    def check_end(self, size: int) -> None:
        """The whole data set has `size` bytes.

        Raises:
            NotADataSet: it ends in the middle of an element.
        """
        is_all_read = self._bytes_seen == size and not self.is_done
        if size < self._position or (is_all_read and (self._ends or size > self._position)):
            raise NotADataSet("the data set is cut short")
        if self._pixels is not None and self._pixels.is_cut_short:
            raise NotADataSet("the pixels are cut short")

    def _begin_pixels(self, length: int, start: int) -> None:
        """Encapsulated pixels have no length, and others have one (PS3.5 A.4)."""
        if length and self._is_encapsulated != (length == UNDEFINED_LENGTH):
            raise NotADataSet("the pixels are not encoded as the transfer syntax says")
        self.is_done = True
        if length == UNDEFINED_LENGTH:
            self._position, self._pixels = start, Fragments()
        else:
            self._position = start + length

    def _pass_plain_elements(self, content: Content) -> None:
        """Go on over elements between group 0008 and the pixels that are nothing special, and take identifiers on the
        way: that is nearly all of them, and this takes a fifth of the time.
        """
        position, last = self._position, len(content) - 8
        is_explicit = self._is_explicit
        unpack = (self._explicit_header if is_explicit else self._implicit_header).unpack_from
        while position <= last:
            if is_explicit:
                group, element, vr, length = unpack(content, position)
                is_plain = vr in SHORT_VRS
            else:
                group, element, length = unpack(content, position)
                is_plain = length != UNDEFINED_LENGTH
            if not is_plain or not 0x0008 <= group < 0x7FE0:
                break
            end = position + 8 + length
            tag = group << 16 | element
            if tag in IDENTIFIERS:
                if length > LONGEST_UID or end > last + 8:
                    break
                self.uids[tag] = _uid(content[position + 8 : end])
            position = end
        self._position = position

    def _header(self, content: Content) -> tuple[int, bool, int, int] | None:
        """Tag, whether it is a sequence, length, and where the value starts; None: it has not come yet."""
        position, is_explicit = self._position, self._is_explicit and self._unknown_since is None
        if position + 8 > len(content):
            return None
        implicit_header = self._implicit_header if self._unknown_since is None else LITTLE_ENDIAN[1]
        group, element, length = implicit_header.unpack_from(content, position)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, False, length, position + 8
        if group < 0x0008 and not self._ends:
            raise NotADataSet(f"an element of group {group:04X}")
        if not is_explicit:
            return tag, length == UNDEFINED_LENGTH, length, position + 8
        _, _, vr, length = self._explicit_header.unpack_from(content, position)
        if vr not in LONG_VRS:
            if not (vr.isalpha() and vr.isupper()):
                raise NotADataSet("an element has no value representation")
            return tag, False, length, position + 8
        if position + 12 > len(content):
            return None
        (length,) = self._long_length.unpack_from(content, position + 8)
        if length != UNDEFINED_LENGTH or vr in MAY_BE_FRAGMENTS:
            return tag, vr == b"SQ", length, position + 12
        if vr not in MAY_BE_SEQUENCES:
            raise NotADataSet("a value has no length")
        if vr == b"UN":
            self._unknown_since = len(self._ends)
        return tag, True, length, position + 12

    def _pass_fragment(self, tag: int, length: int, start: int) -> None:
        if tag >> 16 != 0xFFFE or length == UNDEFINED_LENGTH:
            raise NotADataSet("what stands between fragments is none")
        self._position = start + length
        self._is_in_fragments = tag == ITEM

    def _enter(self, length: int) -> None:
        if len(self._ends) == DEEPEST:
            raise NotADataSet("sequences are nested too deep")
        self._ends.append(None if length == UNDEFINED_LENGTH else self._position + length)

    def _delimiter(self, tag: int, length: int) -> None:
        if not self._ends:
            raise NotADataSet("an item or a delimiter outside of a sequence")
        if tag == ITEM:
            self._enter(length)
        elif self._ends.pop() is not None:
            raise NotADataSet("a delimiter inside of a length")
        elif len(self._ends) == self._unknown_since:
            self._unknown_since = None

    def _leave_what_is_over(self) -> None:
        while self._ends and (end := self._ends[-1]) is not None and end <= self._position:
            if end < self._position:
                raise NotADataSet("an element is longer than the item that holds it")
            self._ends.pop()


class Fragments:
    """Goes through encapsulated pixels (PS3.5 A.4) as they come. Those without a delimiter at their end are merely odd.

    size: of what has come.
    """

    def __init__(self) -> None:
        self.size = 0
        self._left = 0  # of the fragment that is coming
        self._header = b""
        self._count = 0
        self._is_over = False

    def follow(self, content: Content) -> None:
        """Take the next piece.

        Raises:
            NotADataSet: what stands between two fragments is neither an item nor the delimiter.
        """
        position, end = 0, len(content)
        self.size += end
        while position < end and not self._is_over:
            if self._left:
                passed = min(self._left, end - position)
                self._left -= passed
            else:
                passed = ITEM_HEADER_BYTES - len(self._header)
                self._header += content[position : position + passed]
                if len(self._header) == ITEM_HEADER_BYTES:
                    self._begin(*LITTLE_ENDIAN[1].unpack(self._header))
            position += passed

    @property
    def is_cut_short(self) -> bool:
        return not self._is_over and bool(self._left or self._header)

    def _begin(self, group: int, element: int, length: int) -> None:
        tag = group << 16 | element
        if tag not in (ITEM, SEQUENCE_DELIMITATION) or length == UNDEFINED_LENGTH:
            raise NotADataSet("what stands between fragments is none")
        self._header, self._left = b"", length
        self._count += 1
        self._is_over = tag == SEQUENCE_DELIMITATION or self._count == MOST_FRAGMENTS


class Inflation:
    """Looks into a deflated data set (PS3.5 A.5) without keeping it: its front, and how large it becomes."""

    def __init__(self, *, keep: int) -> None:
        self._keep = keep
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self.front = bytearray()
        self.size = 0

    def feed(self, fragment: Content, *, limit: int) -> None:
        """Take the next piece of the stream.

        Raises:
            NotADataSet: this is not a deflated stream.
            OverflowError: it becomes larger than `limit` bytes.
        """
        rest: Content = fragment
        inflated = b""
        try:
            # After the stream's end a padding byte may come; what zlib holds back comes without new input.
            while (rest or inflated) and not self._inflate.eof and self.size <= limit:
                inflated = self._inflate.decompress(rest, 1 << 16)
                rest = self._inflate.unconsumed_tail
                self.size += len(inflated)
                if len(self.front) < self._keep:
                    self.front += inflated
        except zlib.error as error:
            raise NotADataSet("the deflated stream is damaged") from error
        if self.size > limit:
            raise OverflowError(f"inflates to more than {limit} bytes")

    @property
    def is_complete(self) -> bool:
        return self._inflate.eof


def _uid(value: Content) -> str:
    return bytes(value).rstrip(b"\0 ").decode("latin-1")


def is_deflated(transfer_syntax_uid: str) -> bool:
    return transfer_syntax_uid == DeflatedExplicitVRLittleEndian
