"""From a file to a radiograph: frame 0's stored pixels, and the greys that a viewer would show.

    file -> header checks -> decoder by transfer syntax -> stored pixels -> modality LUT -> VOI -> inversion -> greys

Decoding parses hostile input: inside the node only the limited child process of inference/children.py comes here.
Codecs are imagecodecs' (libjpeg-turbo 3, CharLS, OpenJPEG), none of them under the GPL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from domain.errors import Refuse
from domain.findings import DisplayImage
from domain.states import Reason
from inference import codestream, jpeg_gaps, preprocess
from inference.codestream import Codestream
from inference.pixel_data import PixelData, check_inflated_size, locate
from inference.preprocess import Float32, Preprocessing

Pixels = NDArray[Any]
Greys = NDArray[np.uint16]
Encoded = Any  # bytes, or a memoryview of them, which imagecodecs takes but does not name

MIN_SIDE_PX = 16
MAX_PIXELS = 64_000_000  # a stitched full spine has about 30 million
MAX_GREY = 65535
_STRIP_ROWS = 16
SPARSE = 8
OVERSHOOT = 4  # one part in so many of the range, beyond its ends
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in PS3.3 C.7.6.3.1.2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Radiograph:
    """One decoded image.

    `stored` is (rows, columns), integer. `black` and `white` are the ends of its stored range, in the order in which
    they are shown: MONOCHROME1 has black > white. `shown` is the grey of each stored value from `first`, the least,
    to the greatest: uint16, 0 black, 65535 white, VOI applied and MONOCHROME1 inverted. `pixel_aspect` is a pixel's
    height over its width.
    """

    stored: Pixels
    black: float
    white: float
    first: int
    shown: Greys
    pixel_aspect: float

    @property
    def greys(self) -> Greys:
        """(rows, columns), made anew each time."""
        return _looked_up(self.shown, self.stored, self.first)


def unwindowed(stored: Pixels, *, white: int) -> Radiograph:
    """A radiograph in which nothing says how it is to be shown: 0 is black, `white` is white."""
    first, last = int(stored.min()), int(stored.max())
    values = np.clip(np.arange(first, last + 1), 0, white)
    shown = (values * MAX_GREY // white).astype(np.uint16)
    return Radiograph(stored=stored, black=0, white=white, first=first, shown=shown, pixel_aspect=1.0)


def read(path: Path | str) -> Radiograph:
    """Decode a DICOM file's frame 0, or a JPEG or PNG file.

    Raises:
        Refuse: it holds no image (no_image), or none that can be used (unreadable_pixels); the message says why.
    """
    radiograph = _read_dicom(path) if is_dicom(path) else _read_picture(path)
    if len(radiograph.shown) == 1:
        # Some decoders answer with silent zeros where they fail (NVIDIA/nvImageCodec issue 50).
        raise Refuse("every pixel has the same value", reason=Reason.UNREADABLE_PIXELS)
    if not _has_contrast(radiograph):
        raise Refuse("every pixel is shown in the same grey", reason=Reason.UNREADABLE_PIXELS)
    return radiograph


def _has_contrast(radiograph: Radiograph) -> bool:
    """Whether more than one grey occurs. In nearly all images a few pixels show it."""
    for step in (SPARSE * SPARSE, SPARSE, 1):
        if np.ptp(_looked_up(radiograph.shown, radiograph.stored[::step, ::step], radiograph.first)):
            return True
    return False


def is_dicom(path: Path | str) -> bool:
    """Whether the file begins as PS3.10 7.1 says.

    Raises:
        Refuse: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise Refuse(f"the file cannot be read: {error.strerror}", reason=Reason.UNREADABLE_PIXELS) from error


def network_input(radiograph: Radiograph, preprocessing: Preprocessing) -> Float32:
    """(1, S, S) float32 for the network whose manifest says `preprocessing`.

    torchxrayvision's networks were taught the stored pixels on their full range; a standardising network the greys
    that a reader sees, as in the JPEG files that such networks learn from.
    """
    if preprocessing.scaling == "xrv_1024":
        pixels, black, white = radiograph.stored, radiograph.black, radiograph.white
    else:
        pixels, black, white = radiograph.greys, 0.0, float(MAX_GREY)
    return preprocess.network_input(pixels, black=black, white=white, preprocessing=preprocessing)


def grey_mean(radiograph: Radiograph) -> float:
    """How bright it is, [0, 1], 1 white: of every eighth pixel in either direction, which is enough to see a change."""
    stored_mean = float(radiograph.stored[::SPARSE, ::SPARSE].mean())
    share_of_white = (stored_mean - radiograph.black) / (radiograph.white - radiograph.black)
    return min(1.0, max(0.0, share_of_white))


def display_image(radiograph: Radiograph, *, within: Sequence[tuple[int, int]]) -> DisplayImage:
    """The radiograph with square pixels, 8 bit, as large as fits into one of the (width, height); never enlarged.

    Values are resampled before they are windowed, as viewers do it: that is a fifth of the work.
    """
    rows, columns = radiograph.stored.shape
    height, width = rows * max(radiograph.pixel_aspect, 1.0), columns / min(radiograph.pixel_aspect, 1.0)
    scale = min(1.0, max(min(most[0] / width, most[1] / height) for most in within))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    values = radiograph.stored
    if size != values.shape:
        values = np.rint(preprocess.reduced(values, rows=size[0], columns=size[1])).astype(np.int32)
    greys = _looked_up((radiograph.shown >> 8).astype(np.uint8), values, radiograph.first)
    return DisplayImage(rows=size[0], columns=size[1], pixels=greys.tobytes(), source_rows=rows, source_columns=columns)


def _read_dicom(path: Path | str) -> Radiograph:
    try:
        with open(path, "rb") as file:
            check_inflated_size(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            pixel_data = locate(file, dataset)
            header = _Header.of(dataset)
            stored = _stored(dataset, pixel_data, header)
        first, shown = _shown_values(stored, dataset, header)
        pixel_aspect = _pixel_aspect(dataset)
    except Refuse:
        raise
    except MemoryError:
        raise  # perhaps this process holds too much already: a fresh one may read it
    except (InvalidDicomError, EOFError) as error:
        raise Refuse(f"not a readable DICOM file: {error}", reason=Reason.UNREADABLE_PIXELS) from error
    except Exception as error:  # codecs and parsers fail in every way that there is; none of them is our bug to report
        name = type(error).__name__
        raise Refuse(
            f"the pixels cannot be decoded ({name}: {error})"[:400], reason=Reason.UNREADABLE_PIXELS
        ) from error
    low, high = header.stored_range
    black, white = (high, low) if header.photometric_interpretation == "MONOCHROME1" else (low, high)
    return Radiograph(stored=stored, black=black, white=white, first=first, shown=shown, pixel_aspect=pixel_aspect)


def _read_picture(path: Path | str) -> Radiograph:
    """JPEG and PNG, 8 or 16 bit, by Pillow; colour becomes luma."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            _check_size(picture.height, picture.width)
            is_deep = picture.mode.startswith("I")
            stored = np.asarray(picture if is_deep else picture.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refuse(f"neither DICOM nor a readable JPEG or PNG: {error}", reason=Reason.UNREADABLE_PIXELS) from error
    return unwindowed(stored, white=MAX_GREY if is_deep else 255)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
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
    def of(cls, dataset: Dataset) -> "_Header":
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
            high_bit=int(dataset.get("HighBit", dataset.BitsStored - 1)),
            is_signed=dataset.PixelRepresentation == 1,
            is_planar=bool(dataset.get("PlanarConfiguration", 0)),
            transfer_syntax_uid=uid.UID(dataset.file_meta.TransferSyntaxUID),
        )
        header._check()
        return header

    def _check(self) -> None:
        _check_size(self.rows, self.columns)
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


def _check_size(rows: int, columns: int) -> None:
    if min(rows, columns) < MIN_SIDE_PX or rows * columns > MAX_PIXELS:
        raise Refuse(
            f"{rows} rows and {columns} columns: at least {MIN_SIDE_PX} each and {MAX_PIXELS} pixels in all are read",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _stored(dataset: Dataset, pixel_data: PixelData, header: _Header) -> Pixels:
    """(rows, columns) integers as stored, masked to Bits Stored and sign-extended; colour becomes luma."""
    decode = _DECODERS.get(header.transfer_syntax_uid)
    if decode is None:
        name = header.transfer_syntax_uid.name
        raise Refuse(f"the transfer syntax {name} is not read", reason=Reason.UNREADABLE_PIXELS)
    if header.transfer_syntax_uid.is_encapsulated:
        decoded = decode(pixel_data.first_frame(int(dataset.get("NumberOfFrames") or 1)), header)
    else:
        decoded = decode(pixel_data.mapped(), header)
    _check_shape(decoded.shape[:2], header)
    if decoded.ndim == 3:
        if decoded.dtype != np.uint8:
            raise Refuse(f"the encoded colours are {decoded.dtype}, not uint8", reason=Reason.UNREADABLE_PIXELS)
        return np.asarray(np.rint(decoded[..., :3] @ _LUMA), np.uint8)
    if header.transfer_syntax_uid in _JPEG_2000:
        _check_sign(decoded, header)
    return _within_bits_stored(decoded, header)


def _check_codestream(said: Codestream, header: _Header) -> None:
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


def _check_shape(shape: tuple[int, ...], header: _Header) -> None:
    if shape != (header.rows, header.columns):
        raise Refuse(
            f"the encoded image is {shape}, Rows and Columns say {(header.rows, header.columns)}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _check_sign(decoded: Pixels, header: _Header) -> None:
    """JPEG 2000 says itself whether samples have a sign. Where all values are the same either way, none is wrong."""
    is_signed = decoded.dtype.kind == "i"
    if is_signed != header.is_signed and (decoded.min() < 0 or decoded.max() > header.stored_range[1]):
        raise Refuse(
            f"the encoded values are {'signed' if is_signed else 'unsigned'} and reach from {decoded.min()} to "
            f"{decoded.max()}, Pixel Representation says {int(header.is_signed)}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _within_bits_stored(decoded: Pixels, header: _Header) -> Pixels:
    low, high = header.stored_range
    if header.transfer_syntax_uid in _LOSSY:
        return _clipped(decoded, header)
    bits: Pixels = decoded.astype(np.uint16, copy=False)
    shift, sign = header.high_bit + 1 - header.bits_stored, -low
    # Bits outside Bits Stored may hold an overlay of the old kind (PS3.5 8.1.1). Most often there is nothing to do.
    if shift or sign or int(bits.max()) > high:
        within = (((bits >> shift) & (high - low)) ^ sign) - sign
        if header.transfer_syntax_uid in _SELF_DESCRIBING:
            _check_nothing_is_lost(bits, within, header)
        bits = within
    return bits.view(np.int16) if header.is_signed else bits


def _check_nothing_is_lost(bits: Pixels, within: Pixels, header: _Header) -> None:
    """An encoder was given no overlay with the pixels (PS3.5 8.2), at the most the sign in all bits above it."""
    low, high = header.stored_range
    field = (within & (high - low)) << (header.high_bit + 1 - header.bits_stored)
    if not np.array_equal(field, bits) and not (header.is_signed and np.array_equal(within, bits)):
        raise Refuse(
            f"the encoded values reach {bits.max()}, Bits Stored says {header.bits_stored}",
            reason=Reason.UNREADABLE_PIXELS,
        )


def _clipped(decoded: Pixels, header: _Header) -> Pixels:
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


def _native(encoded: memoryview, header: _Header) -> Pixels:
    order = ">" if header.transfer_syntax_uid == uid.ExplicitVRBigEndian else "<"
    sample = np.dtype(f"{order}u{header.bits_allocated // 8}")
    pixels = header.rows * header.columns
    if header.photometric_interpretation == "YBR_FULL_422":  # Y Y Cb Cr for two pixels (PS3.3 C.7.6.3.1.2)
        luma: Pixels = np.frombuffer(encoded, np.uint8, pixels * 2).reshape(-1, 4)[:, :2]
        return luma.reshape(header.rows, header.columns).astype(np.uint16)
    values: Pixels = np.frombuffer(encoded, sample, pixels * header.samples_per_pixel)
    return _arranged(values, header, is_planar=header.is_planar)


def _rle(encoded: Encoded, header: _Header) -> Pixels:
    sample = np.dtype(f"<u{header.bits_allocated // 8}")
    # numpy asks for large memory in large pages, which are there sooner than the many small ones of `bytes`.
    memory = np.empty(header.rows * header.columns * header.samples_per_pixel * sample.itemsize, np.uint8)
    values = np.frombuffer(imagecodecs.dicomrle_decode(encoded, sample, out=memory.data), sample)
    return _arranged(values, header, is_planar=True)  # RLE segments are one colour plane each (PS3.5 Annex G)


def _arranged(values: Pixels, header: _Header, *, is_planar: bool) -> Pixels:
    """One sample: (rows, columns). Three: (rows, columns, 3) RGB, or only Y of YBR_FULL, which is the luma."""
    if header.samples_per_pixel == 1:
        return values.reshape(header.rows, header.columns)
    if is_planar:
        colours = np.moveaxis(values.reshape(3, header.rows, header.columns), 0, -1)
    else:
        colours = values.reshape(header.rows, header.columns, 3)
    return colours if header.photometric_interpretation == "RGB" else colours[..., 0]


def _jpeg(encoded: Encoded, header: _Header) -> Pixels:
    """Half a chest must not be analysed: libjpeg fills what is missing with grey."""
    end = _end_of_image(encoded)
    said = codestream.of_jpeg(encoded)
    _check_codestream(said, header)
    decoded = _by_libjpeg(encoded, header)
    if jpeg_gaps.is_filled_up(decoded, encoded[:end], said, lambda longer: _by_libjpeg(longer, header)):
        raise Refuse("a part of the JPEG stream is missing", reason=Reason.UNREADABLE_PIXELS)
    return decoded if header.photometric_interpretation == "RGB" or decoded.ndim == 2 else decoded[..., 0]


def _end_of_image(encoded: Encoded) -> int:
    """Padding may follow it."""
    padded = bytes(encoded[-16:])
    if jpeg_gaps.END_OF_IMAGE not in padded:
        raise Refuse("the JPEG stream ends too early", reason=Reason.UNREADABLE_PIXELS)
    return len(encoded) - len(padded) + padded.rfind(jpeg_gaps.END_OF_IMAGE)


def _by_libjpeg(encoded: Encoded, header: _Header) -> Pixels:
    if header.samples_per_pixel == 1:
        return np.asarray(imagecodecs.jpeg8_decode(encoded))
    if header.photometric_interpretation == "RGB" or header.transfer_syntax_uid not in _LOSSY:
        # What the header says; a JFIF marker may say otherwise. Of a lossless stream libjpeg converts no colours.
        return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB"))
    return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="YCBCR", outcolorspace="GRAYSCALE"))


def _jpeg_ls(encoded: Encoded, header: _Header) -> Pixels:
    _check_codestream(codestream.of_jpeg(encoded), header)
    return _luma_of_ybr_full(np.asarray(imagecodecs.jpegls_decode(encoded)), header)


def _jpeg_2000(encoded: Encoded, header: _Header) -> Pixels:
    """YBR_ICT and YBR_RCT name what the codestream itself turns back to RGB (PS3.5 8.2.4)."""
    _check_codestream(codestream.of_jpeg_2000(encoded), header)
    return _luma_of_ybr_full(np.asarray(imagecodecs.jpeg2k_decode(encoded)), header)


def _luma_of_ybr_full(decoded: Pixels, header: _Header) -> Pixels:
    return decoded[..., 0] if header.photometric_interpretation.startswith("YBR_FULL") else decoded


_DECODERS: dict[str, Callable[[Any, _Header], Pixels]] = {
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


def _shown_values(stored: Pixels, dataset: Dataset, header: _Header) -> tuple[int, Greys]:
    """The least stored value, and what a viewer shows of each from there to the greatest."""
    first, last = int(stored.min()), int(stored.max())
    occurring = np.arange(first, last + 1, dtype=stored.dtype)
    if header.samples_per_pixel == 3:
        fractions = occurring / 255.0
    else:
        fractions = _shown(_modality_values(occurring, dataset), dataset)
    if header.photometric_interpretation == "MONOCHROME1":
        fractions = 1.0 - fractions
    return first, np.rint(fractions * MAX_GREY).astype(np.uint16)


def _modality_values(occurring: Pixels, dataset: Dataset) -> NDArray[np.float64]:
    """By the Modality LUT, or by Rescale Slope (0028,1053) and Intercept (0028,1052): PS3.3 C.11.1."""
    rescale = [dataset[keyword].value for keyword in ("RescaleSlope", "RescaleIntercept") if keyword in dataset]
    if not dataset.get("ModalityLUTSequence") and len(rescale) == 2 and None in rescale:
        raise Refuse("Rescale Slope or Rescale Intercept is empty", reason=Reason.UNREADABLE_PIXELS)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
        values = np.asarray(apply_modality_lut(occurring, dataset), np.float64)
        span = np.ptp(values)
    if not np.isfinite(span):
        raise Refuse("the modality LUT makes values that are not finite", reason=Reason.UNREADABLE_PIXELS)
    if span == 0 and len(occurring) > 1:
        raise Refuse("the modality LUT makes every pixel the same value", reason=Reason.UNREADABLE_PIXELS)
    return values


def _looked_up(table: NDArray[Any], values: Pixels, first: int) -> NDArray[Any]:
    """`table[value - first]` for each value, some rows at a time: their indexes stay in the processor's cache."""
    found = np.empty(values.shape, table.dtype)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        np.take(table, np.subtract(values[strip], first, dtype=np.intp), out=found[strip], mode="clip")
    return found


def _shown(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """The first VOI LUT or window (PS3.3 C.11.2), as fractions of white in [0, 1].

    Without one, or where it would show nothing (a window beside all values is not rare), from the least to the
    greatest value.
    """
    if dataset.get("VOILUTSequence"):
        shown = apply_voi(values.astype(np.int32), dataset).astype(np.float64)
        shown /= float((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
    else:
        shown = _windowed(values, dataset)
    shown = np.clip(shown, 0.0, 1.0)
    if shown.min() < shown.max():
        return shown
    return np.asarray((values - values.min()) / max(float(np.ptp(values)), 1e-9))


def _windowed(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Window Center (0028,1050) and Width (0028,1051) by VOI LUT Function (0028,1056): PS3.3 C.11.2.1.2 and .3."""
    centre, width = (_first_number(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width <= 1):
        return np.zeros_like(values)
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1.0) + 0.5


def _pixel_aspect(dataset: Dataset) -> float:
    """A pixel's height over its width; 1 where nothing usable is said. WG-04's RG1 says Pixel Spacing 0.000."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        spacing = dataset.get(keyword)
        if spacing is None or isinstance(spacing, (str, float, int)) or len(spacing) != 2:
            continue
        row_spacing, column_spacing = float(spacing[0]), float(spacing[1])
        if row_spacing > 0 and column_spacing > 0 and 0.1 <= row_spacing / column_spacing <= 10:
            return row_spacing / column_spacing
    return 1.0


def _first_number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    first = value if isinstance(value, (str, float, int)) else next(iter(value), None)
    return None if first is None else float(first)
