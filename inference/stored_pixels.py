"""Frame 0's stored pixels, from the header and the value of Pixel Data.

    header checks -> decoder by transfer syntax -> what the stream says against what the header says -> stored pixels

Decoding parses hostile input: inside the node only the limited child process of inference/children.py comes here.
Codecs are imagecodecs' (libjpeg-turbo 3, CharLS, OpenJPEG), none of them under the GPL.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from domain.errors import Refuse
from domain.states import Reason
from inference import codestream, jpeg_gaps
from inference.codestream import Codestream
from inference.pixel_data import PixelData

Pixels = NDArray[Any]
Encoded = Any  # bytes, or a memoryview of them, which imagecodecs takes but does not name

MIN_SIDE_PX = 16
MAX_PIXELS = 64_000_000  # a stitched full spine has about 30 million
OVERSHOOT = 4  # one part in so many of the range, beyond its ends
_RLE_HEADER = struct.Struct("<16L")  # the count of segments, and where each begins
RLE_OF_ONE = _RLE_HEADER.pack(1, _RLE_HEADER.size, *[0] * 14)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in PS3.3 C.7.6.3.1.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Image Pixel Module (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_planar: bool
    transfer_syntax_uid: uid.UID

    @classmethod
    def of(cls, dataset: Dataset) -> "Header":
        missing = [keyword for keyword in _REQUIRED if dataset.get(keyword) in (None, "")]
        if missing:
            raise Refuse(f"missing: {', '.join(missing)}", reason=Reason.UNREADABLE_PIXELS)
        if not getattr(dataset, "file_meta", None) or "TransferSyntaxUID" not in dataset.file_meta:
            raise Refuse("missing: TransferSyntaxUID", reason=Reason.UNREADABLE_PIXELS)
        if dataset.PixelRepresentation not in (0, 1):
            raise Refuse(
                f"Pixel Representation {dataset.PixelRepresentation} is neither 0 nor 1",
                reason=Reason.UNREADABLE_PIXELS,
            )
        header = cls(
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            samples_per_pixel=int(dataset.get("SamplesPerPixel") or 1),
            photometric_interpretation=str(dataset.PhotometricInterpretation).strip().upper(),
            bits_allocated=int(dataset.BitsAllocated),
            bits_stored=int(dataset.BitsStored),
            high_bit=int(dataset.BitsStored - 1 if dataset.get("HighBit") is None else dataset.HighBit),
            is_signed=dataset.PixelRepresentation == 1,
            is_planar=bool(dataset.get("PlanarConfiguration", 0)),
            transfer_syntax_uid=uid.UID(dataset.file_meta.TransferSyntaxUID),
        )
        header._check()
        return header

    def _check(self) -> None:
        check_size(self.rows, self.columns)
        if self.photometric_interpretation not in _SAMPLES:
            raise Refuse(
                f"Photometric Interpretation {self.photometric_interpretation[:16]!r} is not read",
                reason=Reason.UNREADABLE_PIXELS,
            )
        is_known_layout = self.samples_per_pixel == _SAMPLES[self.photometric_interpretation]
        is_known_depth = self.bits_allocated in (8, 16) and (self.samples_per_pixel == 1 or self.bits_allocated == 8)
        if not is_known_layout or not is_known_depth:
            raise Refuse(
                f"{self.samples_per_pixel} samples of {self.bits_allocated} bits are not read",
                reason=Reason.UNREADABLE_PIXELS,
            )
        if (
            not 1 <= self.bits_stored <= self.bits_allocated
            or not self.bits_stored - 1 <= self.high_bit < self.bits_allocated
        ):
            raise Refuse(
                f"Bits Stored {self.bits_stored} and High Bit {self.high_bit} do not fit {self.bits_allocated} bits",
                reason=Reason.UNREADABLE_PIXELS,
            )

    @property
    def stored_range(self) -> tuple[int, int]:
        if self.samples_per_pixel == 3:  # the luma of whole bytes, which have no sign (PS3.3 C.7.6.3.1.2)
            return 0, 255
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.is_signed else (0, 2 * half - 1)


_REQUIRED = ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation")
_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}


def check_size(rows: int, columns: int) -> None:
    if min(rows, columns) < MIN_SIDE_PX or rows * columns > MAX_PIXELS:
        raise Refuse(
            f"{rows} rows and {columns} columns: at least {MIN_SIDE_PX} each and {MAX_PIXELS} pixels in all are read",
            reason=Reason.UNREADABLE_PIXELS,
        )


def in_one_line(text: object) -> str:
    """What a parser says of a file may hold any of its bytes; what is refused is told in logs, pages and reports."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:300])


def read_stored(dataset: Dataset, pixel_data: PixelData, header: Header) -> Pixels:
    """(rows, columns) integers as stored, masked to Bits Stored and sign-extended; colour becomes luma."""
    decode = _DECODERS.get(header.transfer_syntax_uid)
    if decode is None:
        name = in_one_line(header.transfer_syntax_uid.name)
        raise Refuse(f"the transfer syntax {name} is not read", reason=Reason.UNREADABLE_PIXELS)
    if header.transfer_syntax_uid.is_encapsulated:
        decoded = decode(pixel_data.first_frame(int(dataset.get("NumberOfFrames") or 1)), header)
    else:
        decoded = decode(pixel_data.mapped(is_of_bytes=header.bits_allocated == 8), header)
    _check_shape(decoded.shape[:2], header)
    if decoded.ndim == 3:
        if decoded.dtype != np.uint8:
            raise Refuse(f"the encoded colours are {decoded.dtype}, not uint8", reason=Reason.UNREADABLE_PIXELS)
        return np.asarray(np.rint(decoded[..., :3] @ _LUMA), np.uint8)
    if header.transfer_syntax_uid in _JPEG_2000:
        _check_sign(decoded, header)
    return _within_bits_stored(decoded, header)


def _check_codestream(said: Codestream, header: Header) -> None:
    """Before a decoder asks for the memory.

    More bits than Bits Stored are not wrong: many encoders say 16 of 12 bits. A few less neither; but a stream of bytes
    under a header of words is another image than the one that the header is about.
    """
    _check_shape((said.rows, said.columns), header)
    if said.components != header.samples_per_pixel:
        raise Refuse(
            f"the encoded image has {said.components} components, Samples per Pixel says {header.samples_per_pixel}",
            reason=Reason.UNREADABLE_PIXELS,
        )
    if said.bits <= 8 < header.bits_stored:
        raise Refuse(
            f"the encoded image has samples of {said.bits} bits, Bits Stored says {header.bits_stored}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _check_shape(shape: tuple[int, ...], header: Header) -> None:
    if shape != (header.rows, header.columns):
        raise Refuse(
            f"the encoded image is {shape}, Rows and Columns say {(header.rows, header.columns)}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _check_sign(decoded: Pixels, header: Header) -> None:
    """JPEG 2000 says itself whether samples have a sign. Where all values are the same either way, none is wrong."""
    is_signed = decoded.dtype.kind == "i"
    if is_signed != header.is_signed and (decoded.min() < 0 or decoded.max() > header.stored_range[1]):
        raise Refuse(
            f"the encoded values are {'signed' if is_signed else 'unsigned'} and reach from {decoded.min()} to "
            f"{decoded.max()}, Pixel Representation says {int(header.is_signed)}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _within_bits_stored(decoded: Pixels, header: Header) -> Pixels:
    low, high = header.stored_range
    if header.transfer_syntax_uid in _LOSSY:
        return _clipped(decoded, header)
    bits: Pixels = decoded.astype(np.uint16, copy=False)
    shift, sign = header.high_bit + 1 - header.bits_stored, -low
    # Bits outside Bits Stored may hold an overlay of the old kind (PS3.5 8.1.1). Most often there is nothing to do.
    if shift or sign or int(bits.max()) > high:
        within = (((bits >> shift) & (high - low)) ^ sign) - sign
        if header.transfer_syntax_uid in _SELF_DESCRIBING:
            _check_nothing_is_lost(decoded, within, header)
        bits = within
    return bits.view(np.int16) if header.is_signed else bits


def _check_nothing_is_lost(decoded: Pixels, within: Pixels, header: Header) -> None:
    """An encoder was given no overlay with the pixels (PS3.5 8.2), at the most the sign in all bits above it."""
    low, high = header.stored_range
    field = (within & (high - low)) << (header.high_bit + 1 - header.bits_stored)
    has_sign_above = header.is_signed and np.array_equal(within.astype(decoded.dtype), decoded)
    if not np.array_equal(field, decoded) and not has_sign_above:
        raise Refuse(
            f"the encoded values reach {decoded.max()}, Bits Stored says {header.bits_stored}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _clipped(decoded: Pixels, header: Header) -> Pixels:
    """A lossy codec overshoots: WG-04's 10-bit RG3 holds 1024 as 12-bit JPEG. Masking would turn white to black.

    At a sharp edge it is about a tenth of the step. What lies far beyond was more before it was encoded.
    """
    low, high = header.stored_range
    if not header.is_signed and decoded.dtype.kind == "u" and decoded.max() <= high:
        return decoded.astype(np.uint16)
    signed = decoded.astype(np.int32)
    if header.is_signed and decoded.dtype.kind == "u":
        signed = np.where(signed > high, signed - (1 << header.bits_stored), signed)
    spare = (high - low) // OVERSHOOT
    if signed.max() > high + spare or signed.min() < low - spare:
        raise Refuse(
            f"the encoded values reach from {signed.min()} to {signed.max()}, Bits Stored says {header.bits_stored}",
            reason=Reason.UNREADABLE_PIXELS,
        )
    return np.clip(signed, low, high).astype(np.int16 if header.is_signed else np.uint16)


def _native(encoded: memoryview, header: Header) -> Pixels:
    order = ">" if header.transfer_syntax_uid == uid.ExplicitVRBigEndian else "<"
    sample = np.dtype(f"{order}u{header.bits_allocated // 8}")
    pixels = header.rows * header.columns
    if header.photometric_interpretation == "YBR_FULL_422":  # Y Y Cb Cr for two pixels (PS3.3 C.7.6.3.1.2)
        luma: Pixels = np.frombuffer(encoded, np.uint8, pixels * 2).reshape(-1, 4)[:, :2]
        return luma.reshape(header.rows, header.columns).astype(np.uint16)
    values: Pixels = np.frombuffer(encoded, sample, pixels * header.samples_per_pixel)
    return _arranged(values, header, is_planar=header.is_planar)


def _rle(encoded: Encoded, header: Header) -> Pixels:
    """RLE segments are one byte of one colour each (PS3.5 G.2)."""
    sample = np.dtype(f"<u{header.bits_allocated // 8}")
    segments = _rle_segments(encoded, header.samples_per_pixel * sample.itemsize)
    # numpy asks for large memory in large pages, which are there sooner than the many small ones of `bytes`.
    memory = np.empty(header.rows * header.columns * len(segments), np.uint8)
    if header.samples_per_pixel == 1:
        parts, planes = [encoded], [memory]
    else:  # the codec itself does not see where one colour ends and the next begins
        parts, planes = [RLE_OF_ONE + bytes(segment) for segment in segments], np.split(memory, len(segments))
    for part, plane in zip(parts, planes, strict=True):
        if len(imagecodecs.dicomrle_decode(part, sample, out=plane.data)) != len(plane):
            raise Refuse("a part of the RLE stream is missing", reason=Reason.UNREADABLE_PIXELS)
    return _arranged(memory.view(sample), header, is_planar=True)


def _rle_segments(encoded: Encoded, count: int) -> list[Encoded]:
    """What lies in the frame by its header (PS3.5 G.5). The codec would read on behind a frame that is cut off."""
    said, *begins = _RLE_HEADER.unpack_from(encoded) if len(encoded) >= _RLE_HEADER.size else (0,)
    edges = [*begins[:count], len(encoded)]
    if said != count or begins[0] < _RLE_HEADER.size or any(end <= begin for begin, end in pairwise(edges)):
        raise Refuse(f"the RLE stream has no {count} segments inside of it", reason=Reason.UNREADABLE_PIXELS)
    return [encoded[begin:end] for begin, end in pairwise(edges)]


def _arranged(values: Pixels, header: Header, *, is_planar: bool) -> Pixels:
    """One sample: (rows, columns). Three: (rows, columns, 3) RGB, or only Y of YBR_FULL, which is the luma."""
    if header.samples_per_pixel == 1:
        return values.reshape(header.rows, header.columns)
    if is_planar:
        colours = np.moveaxis(values.reshape(3, header.rows, header.columns), 0, -1)
    else:
        colours = values.reshape(header.rows, header.columns, 3)
    return colours if header.photometric_interpretation == "RGB" else colours[..., 0]


def _jpeg(encoded: Encoded, header: Header) -> Pixels:
    """Half a chest must not be analysed: libjpeg fills what is missing with grey."""
    end = _end_of_image(encoded)
    said = codestream.of_jpeg(encoded)
    _check_codestream(said, header)
    decoded = _by_libjpeg(encoded, header)
    is_lossless = header.transfer_syntax_uid not in _LOSSY
    if jpeg_gaps.is_filled_up(
        decoded, encoded[:end], said, lambda longer: _by_libjpeg(longer, header), is_lossless=is_lossless
    ):
        raise Refuse("a part of the JPEG stream is missing", reason=Reason.UNREADABLE_PIXELS)
    return decoded if header.photometric_interpretation == "RGB" or decoded.ndim == 2 else decoded[..., 0]


def _end_of_image(encoded: Encoded) -> int:
    """Padding may follow it."""
    padded = bytes(encoded[-16:])
    if jpeg_gaps.END_OF_IMAGE not in padded:
        raise Refuse("the JPEG stream ends too early", reason=Reason.UNREADABLE_PIXELS)
    return len(encoded) - len(padded) + padded.rfind(jpeg_gaps.END_OF_IMAGE)


def _by_libjpeg(encoded: Encoded, header: Header) -> Pixels:
    if header.samples_per_pixel == 1:
        return np.asarray(imagecodecs.jpeg8_decode(encoded))
    if header.photometric_interpretation == "RGB" or header.transfer_syntax_uid not in _LOSSY:
        # What the header says; a JFIF marker may say otherwise. Of a lossless stream libjpeg converts no colours.
        return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB"))
    return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="YCBCR", outcolorspace="GRAYSCALE"))


def _jpeg_ls(encoded: Encoded, header: Header) -> Pixels:
    """CharLS 2.4 never ends on a stream that does."""
    _end_of_image(encoded)
    _check_codestream(codestream.of_jpeg(encoded), header)
    return _luma_of_ybr_full(np.asarray(imagecodecs.jpegls_decode(encoded)), header)


def _jpeg_2000(encoded: Encoded, header: Header) -> Pixels:
    """YBR_ICT and YBR_RCT name what the codestream itself turns back to RGB (PS3.5 8.2.4)."""
    _check_codestream(codestream.of_jpeg_2000(encoded), header)
    if not codestream.has_all_tile_parts(encoded):
        raise Refuse("a part of the JPEG 2000 stream is missing", reason=Reason.UNREADABLE_PIXELS)
    return _luma_of_ybr_full(np.asarray(imagecodecs.jpeg2k_decode(encoded)), header)


def _luma_of_ybr_full(decoded: Pixels, header: Header) -> Pixels:
    return decoded[..., 0] if header.photometric_interpretation.startswith("YBR_FULL") else decoded


_DECODERS: dict[str, Callable[[Any, Header], Pixels]] = {
    uid.ImplicitVRLittleEndian: _native,
    uid.ExplicitVRLittleEndian: _native,
    uid.ExplicitVRBigEndian: _native,
    uid.DeflatedExplicitVRLittleEndian: _native,
    uid.JPEGBaseline8Bit: _jpeg,
    uid.JPEGExtended12Bit: _jpeg,
    uid.JPEGLossless: _jpeg,
    uid.JPEGLosslessSV1: _jpeg,
    uid.JPEGLSLossless: _jpeg_ls,
    uid.JPEGLSNearLossless: _jpeg_ls,
    uid.JPEG2000Lossless: _jpeg_2000,
    uid.JPEG2000: _jpeg_2000,
    uid.RLELossless: _rle,
}
_LOSSY = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000}
_JPEG_2000 = {uid.JPEG2000Lossless, uid.JPEG2000}
_SELF_DESCRIBING = {uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless}
