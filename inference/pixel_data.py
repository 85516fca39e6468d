"""Where the value of Pixel Data lies in a file: it is read there, and once. In a film it is nearly all of the file."""

import mmap
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from domain.errors import Refuse
from domain.states import Reason

PIXEL_DATA = (0x7FE0, 0x0010)
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_INFLATED_BYTES = 256 << 20  # the largest image that is read, and as much again
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelData:
    """`start`, `length`: of its value in the file. That of encapsulated pixels has no defined length (PS3.5 A.4).

    `is_in_big_endian_words`: samples of 8 bits lie two in a word, the first in its low half (PS3.5 8.1.1, Annex D).
    """

    file: BinaryIO
    start: int
    length: int
    is_in_big_endian_words: bool = False

    def mapped(self, *, is_of_bytes: bool) -> memoryview:
        """The value of uncompressed pixels; without a copy of it, but where bytes have to change places.

        Raises:
            ValueError: nothing says where it ends.
        """
        if self.length == UNDEFINED_LENGTH:
            raise ValueError("uncompressed pixels without a length")
        value = self._content()[self.start : self.start + self.length]
        if is_of_bytes and self.is_in_big_endian_words:
            return memoryview(np.frombuffer(value, np.uint16).byteswap().tobytes())
        return value

    def first_frame(self, number_of_frames: int) -> bytes | memoryview:
        """Of encapsulated pixels; where it lies in one piece, as nearly always, without a copy of it."""
        self.file.seek(self.start)
        if number_of_frames == 1:
            parse_basic_offsets(self.file)
            count, tags = parse_fragments(self.file)
            if count == 1:
                # An item: its tag, a length of four bytes, its value (PS3.5 A.4).
                value = self._content()[tags[0] + 4 :]
                (length,) = struct.unpack("<L", value[:4])
                return value[4 : 4 + length]
        self.file.seek(self.start)
        return next(generate_frames(self.file, number_of_frames=number_of_frames))

    def _content(self) -> memoryview:
        if isinstance(self.file, BytesIO):
            return self.file.getbuffer()
        return memoryview(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))


def check_inflated_size(file: BinaryIO) -> None:
    """
    Raises:
        Refuse: the data set is deflated (PS3.5 A.5), and too large for the memory of the process that reads it.
    """
    file.seek(132)  # behind the preamble and DICM (PS3.10 7.1)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 0x0002)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof and (piece := inflate.unconsumed_tail or file.read(PIECE_BYTES)):
            size += len(inflate.decompress(piece, PIECE_BYTES))
            if size > MAX_INFLATED_BYTES:
                raise Refuse(
                    f"the deflated data set has more than {MAX_INFLATED_BYTES} bytes", reason=Reason.UNREADABLE_PIXELS
                )
    file.seek(0)


def locate(file: BinaryIO, attributes: FileDataset) -> PixelData:
    """
    Args:
        file: as reading the attributes before Pixel Data has left it, at its tag.

    Raises:
        Refuse: there is none (no_image).
    """
    if attributes.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        file.seek(0)
        unpacked = pydicom.dcmread(file).get("PixelData") or b""
        return _unless_empty(PixelData(file=BytesIO(unpacked), start=0, length=len(unpacked)))
    is_implicit, is_little = attributes.original_encoding
    order = "<" if is_little else ">"
    begin = file.read(8)
    if len(begin) < 8 or struct.unpack(f"{order}HH", begin[:4]) != PIXEL_DATA:
        return _unless_empty(PixelData(file=file, start=0, length=0))
    # After an explicit VR, OB or OW, two bytes of nothing come before a length of four (PS3.5 7.1.2).
    (length,) = struct.unpack(f"{order}L", begin[4:] if is_implicit else file.read(4))
    is_in_big_endian_words = not is_little and begin[4:6] == b"OW"
    start = file.tell()
    return _unless_empty(
        PixelData(file=file, start=start, length=length, is_in_big_endian_words=is_in_big_endian_words)
    )


def _unless_empty(pixel_data: PixelData) -> PixelData:
    if not pixel_data.length:
        raise Refuse("there is no Pixel Data (7FE0,0010)", reason=Reason.NO_IMAGE)
    return pixel_data
