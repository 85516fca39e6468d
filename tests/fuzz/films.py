"""Small DICOM images of which is known what they hold, in every transfer syntax that the node reads.

number -> layout (of what samples) -> values -> encoded -> a file, and the stored pixels that must come out of it
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import BaseTag

from storage.file_meta import FileMeta, encode_file_meta
from tests.factories.arrivals import provenance
from tests.factories.sources import radiograph

Values = NDArray[np.int64]
LEAST_SIDE, SIDES = 16, 48
LUMA = (299, 587, 114)  # thousandths of red, green and blue (ITU-R BT.601)
NEAR = 2  # what near-lossless JPEG-LS may be wrong by
JUNK = 0xA5A5  # lies in the bits that hold no pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Of what a pixel is made. `allocated`, `stored`: bits; `unused_below`: bits under those that are stored."""

    photometric_interpretation: str = "MONOCHROME2"
    allocated: int = 16
    stored: int = 12
    unused_below: int = 0
    is_signed: bool = False
    is_planar: bool = False

    @property
    def is_colour(self) -> bool:
        return not self.photometric_interpretation.startswith("MONO")

    @property
    def range(self) -> tuple[int, int]:
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.is_signed else (0, 2 * half - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """`values`: (rows, columns) as they must be read, at most `off_by` away; `stream` is what Pixel Data holds."""

    dataset: Dataset
    stream: bytes
    values: Values
    off_by: int

    def file(self) -> bytes:
        return in_file(self.dataset, self.stream)


def in_file(dataset: Dataset, stream: bytes, touched: Mapping[BaseTag, bytes] = MappingProxyType({})) -> bytes:
    """The complete file; of a compressed syntax with the stream in two fragments.

    touched: attributes that have these bytes as their value, whatever they mean.
    """
    transfer_syntax_uid = dataset.file_meta.TransferSyntaxUID
    if transfer_syntax_uid.is_encapsulated:
        dataset.PixelData = encapsulate([stream or bytes(2)], fragments_per_frame=1 + (len(stream) > 100))
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = stream + b"\0" * (len(stream) % 2)
        dataset["PixelData"].VR = "OB" if dataset.get("BitsAllocated") == 8 else "OW"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid.is_implicit_VR
    buffer.is_little_endian = transfer_syntax_uid.is_little_endian
    for tag in sorted({*dataset.keys(), *touched}):
        if tag in touched:
            _write_raw(buffer, tag, touched[tag])
        else:
            write_data_element(buffer, dataset[tag])
    content = buffer.getvalue()
    if transfer_syntax_uid == uid.DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = packer.compress(content) + packer.flush()
    head = FileMeta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=transfer_syntax_uid,
        provenance=provenance(),
    )
    return encode_file_meta(head) + content


def _write_raw(buffer: DicomBytesIO, tag: BaseTag, value: bytes) -> None:
    """Of a VR with a length of two bytes, or a sequence without an item (PS3.5 7.1.2)."""
    buffer.write_tag(tag)
    representation = dictionary_VR(tag).split(" or ")[0]
    if buffer.is_implicit_VR:
        buffer.write_UL(len(value))
    elif representation == "SQ":
        buffer.write(b"SQ\0\0")
        buffer.write_UL(len(value))
    else:
        buffer.write(representation.encode())
        buffer.write_US(len(value))
    buffer.write(value)


def film(syntax: int, layout: int, rows: int, columns: int, seed: int) -> Film:
    """Any numbers name one; a layout that the transfer syntax does not know is passed over for the next one."""
    transfer_syntax_uid = SYNTAXES[syntax % len(SYNTAXES)]
    encoding = ENCODINGS[transfer_syntax_uid]
    known = known_layouts(transfer_syntax_uid)
    chosen = known[layout % len(known)]
    shape = (LEAST_SIDE + rows % SIDES, LEAST_SIDE + columns % (SIDES // 2) * 2)
    samples = _samples(chosen, shape, seed, is_smooth=encoding.is_smooth)
    dataset = _dataset(chosen, shape, transfer_syntax_uid)
    stream = encoding.encode(samples, chosen, seed)
    return Film(
        dataset=dataset, stream=stream, values=_as_read(samples, chosen, encoding), off_by=encoding.off_by(chosen)
    )


def known_layouts(transfer_syntax_uid: uid.UID) -> list[Layout]:
    return [one for one in LAYOUTS if ENCODINGS[transfer_syntax_uid].takes(one)]


def _samples(layout: Layout, shape: tuple[int, int], seed: int, *, is_smooth: bool) -> Values:
    """(rows, columns) or (rows, columns, 3): noise over the whole range, or a slope with its ends."""
    low, high = layout.range
    whole = (*shape, 3) if layout.is_colour else shape
    if is_smooth:
        slope = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) + seed % 7
        values = low + slope * (high - low) // slope.max()
        return np.repeat(values[..., np.newaxis], 3, axis=2) if layout.is_colour else values
    values = np.random.default_rng(seed).integers(low, high + 1, whole)
    values[0, :2] = np.array([low, high]).reshape(2, *(1 for _ in whole[2:]))
    return values


def _dataset(layout: Layout, shape: tuple[int, int], transfer_syntax_uid: uid.UID) -> Dataset:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.Rows, dataset.Columns = shape
    dataset.PhotometricInterpretation = layout.photometric_interpretation
    dataset.BitsAllocated, dataset.BitsStored = layout.allocated, layout.stored
    dataset.HighBit = layout.stored - 1 + layout.unused_below
    dataset.PixelRepresentation = int(layout.is_signed)
    if layout.is_colour:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, int(layout.is_planar)
    return dataset


def _as_read(samples: Values, layout: Layout, encoding: "Encoding") -> Values:
    """Colour becomes its luma: of what has one, that."""
    if not layout.is_colour:
        return samples
    if layout.photometric_interpretation.startswith("YBR_FULL") and not encoding.is_given_rgb:
        return samples[..., 0]
    luma: Values = (samples @ np.array(LUMA) + 500) // 1000
    return luma


# How each transfer syntax is written


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """`is_smooth`: it is given no noise, for what it would lose of it. `is_given_rgb`: it makes its own YBR of that."""

    encode: Callable[[Values, Layout, int], bytes]
    takes: Callable[[Layout], bool]
    loses: Callable[[Layout], int] = lambda _: 0
    is_smooth: bool = False
    is_given_rgb: bool = False

    def off_by(self, layout: Layout) -> int:
        """Luma is rounded twice."""
        return self.loses(layout) + layout.is_colour


def _words(samples: Values, layout: Layout, *, order: str = "<") -> NDArray[Any]:
    """As they lie in a file; what is not stored is junk, as an overlay in the pixels was."""
    stored = (samples & ((1 << layout.stored) - 1)) << layout.unused_below
    used = ((1 << layout.stored) - 1) << layout.unused_below
    return (stored | (JUNK & ~used & ((1 << layout.allocated) - 1))).astype(f"{order}u{layout.allocated // 8}")


def _native(samples: Values, layout: Layout, _: int) -> bytes:
    words = _words(samples, layout)
    if layout.photometric_interpretation == "YBR_FULL_422":  # Y Y Cb Cr (PS3.3 C.7.6.3.1.2)
        pairs = words.reshape(-1, 2, 3)
        return np.concatenate([pairs[:, :, 0], pairs[:, 0, 1:]], axis=1).tobytes()
    return (np.moveaxis(words, -1, 0) if layout.is_planar else words).tobytes()


def _big_endian(samples: Values, layout: Layout, _: int) -> bytes:
    words = _words(samples, layout, order=">")
    return (np.moveaxis(words, -1, 0) if layout.is_planar else words).tobytes()


def _rle(samples: Values, layout: Layout, _: int) -> bytes:
    words = _words(samples, layout)
    return RLELosslessEncoder.encode(
        words.tobytes(),
        rows=words.shape[0],
        columns=words.shape[1],
        samples_per_pixel=3 if layout.is_colour else 1,
        photometric_interpretation=layout.photometric_interpretation,
        bits_allocated=layout.allocated,
        bits_stored=layout.allocated,
        pixel_representation=0,
        number_of_frames=1,
        encoding_plugin="pydicom",
        planar_configuration=0,
    )


def _unsigned(samples: Values, layout: Layout) -> NDArray[Any]:
    """A codec of JPEG knows no sign."""
    return (samples & ((1 << layout.stored) - 1)).astype(np.uint8 if layout.stored <= 8 else np.uint16)


def _jpeg_baseline(samples: Values, layout: Layout, seed: int) -> bytes:
    subsampling = ("444", "422", "420")[seed % 3] if layout.is_colour else None
    return bytes(imagecodecs.jpeg8_encode(_unsigned(samples, layout), level=97, subsampling=subsampling))


def _jpeg_extended(samples: Values, layout: Layout, _: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(_unsigned(samples, layout), level=97, bitspersample=12))


def _jpeg_lossless(samples: Values, layout: Layout, seed: int) -> bytes:
    colours = "RGB" if layout.is_colour else None
    return bytes(
        imagecodecs.jpeg8_encode(
            _unsigned(samples, layout),
            lossless=True,
            predictor=1 + seed % 7,
            bitspersample=layout.stored,
            colorspace=colours,
            outcolorspace=colours,
        )
    )


def _jpeg_lossless_sv1(samples: Values, layout: Layout, _: int) -> bytes:
    return _jpeg_lossless(samples, layout, 0)


def _jpeg_ls(samples: Values, layout: Layout, _: int) -> bytes:
    unsigned = _unsigned(samples, layout)
    return bytes(imagecodecs.jpegls_encode(unsigned, out=4 * unsigned.nbytes))


def _jpeg_ls_near(samples: Values, layout: Layout, _: int) -> bytes:
    unsigned = _unsigned(samples, layout)
    return bytes(imagecodecs.jpegls_encode(unsigned, level=NEAR, out=4 * unsigned.nbytes))


def _jpeg_2000(samples: Values, layout: Layout, seed: int) -> bytes:
    sign = "i" if layout.is_signed else "u"
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples.astype(f"{sign}{1 if layout.stored <= 8 else 2}"),
            level=0,
            codecformat=("J2K", "JP2")[seed % 2],
            reversible=True,
            bitspersample=layout.stored,
            mct=layout.photometric_interpretation == "YBR_RCT",
        )
    )


def _is_plain(layout: Layout) -> bool:
    """In its lowest bits, and of a kind that has no transfer syntax of its own."""
    return not layout.unused_below and not layout.is_planar and layout.photometric_interpretation != "YBR_RCT"


def _is_of_whole_colours(layout: Layout) -> bool:
    return _is_plain(layout) and layout.photometric_interpretation != "YBR_FULL_422"


def _is_whole(layout: Layout) -> bool:
    """What a lossy codec is given: a byte, or 12 bits."""
    return _is_plain(layout) and layout.stored in (8, 12) and not layout.is_signed


LAYOUTS: Sequence[Layout] = (
    *(Layout(stored=bits, is_signed=sign) for bits in (12, 16, 10, 9, 13) for sign in (False, True)),
    Layout(photometric_interpretation="MONOCHROME1"),
    Layout(photometric_interpretation="MONOCHROME1", allocated=8, stored=8),
    Layout(allocated=8, stored=8),
    Layout(allocated=8, stored=8, is_signed=True),
    Layout(allocated=8, stored=6),
    Layout(stored=10, unused_below=2),
    Layout(stored=12, unused_below=4, is_signed=True),
    Layout(photometric_interpretation="RGB", allocated=8, stored=8),
    Layout(photometric_interpretation="RGB", allocated=8, stored=8, is_planar=True),
    Layout(photometric_interpretation="YBR_FULL", allocated=8, stored=8),
    Layout(photometric_interpretation="YBR_FULL", allocated=8, stored=8, is_planar=True),
    Layout(photometric_interpretation="YBR_FULL_422", allocated=8, stored=8),
    Layout(photometric_interpretation="YBR_RCT", allocated=8, stored=8),
)
NATIVE = Encoding(encode=_native, takes=lambda layout: layout.photometric_interpretation != "YBR_RCT")
JPEG_2000 = Encoding(
    encode=_jpeg_2000,
    takes=lambda layout: (
        not layout.unused_below and not layout.is_planar and layout.photometric_interpretation != "YBR_FULL_422"
    ),
)
ENCODINGS: dict[uid.UID, Encoding] = {
    uid.ExplicitVRLittleEndian: NATIVE,
    uid.ImplicitVRLittleEndian: NATIVE,
    uid.DeflatedExplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRBigEndian: Encoding(
        encode=_big_endian, takes=lambda layout: layout.photometric_interpretation not in ("YBR_RCT", "YBR_FULL_422")
    ),
    uid.RLELossless: Encoding(
        encode=_rle,
        takes=lambda layout: (
            not layout.is_planar and layout.photometric_interpretation not in ("YBR_RCT", "YBR_FULL_422")
        ),
    ),
    uid.JPEGBaseline8Bit: Encoding(
        encode=_jpeg_baseline,
        takes=lambda layout: (
            _is_whole(layout) and layout.stored == 8 and layout.photometric_interpretation not in ("RGB", "YBR_FULL")
        ),
        loses=lambda _: 6,
        is_smooth=True,
        is_given_rgb=True,
    ),
    uid.JPEGExtended12Bit: Encoding(
        encode=_jpeg_extended,
        takes=lambda layout: _is_whole(layout) and layout.stored == 12,
        loses=lambda _: 100,
        is_smooth=True,
    ),
    uid.JPEGLossless: Encoding(encode=_jpeg_lossless, takes=_is_of_whole_colours),
    uid.JPEGLosslessSV1: Encoding(encode=_jpeg_lossless_sv1, takes=_is_of_whole_colours),
    uid.JPEGLSLossless: Encoding(encode=_jpeg_ls, takes=_is_of_whole_colours),
    uid.JPEGLSNearLossless: Encoding(
        encode=_jpeg_ls_near,
        takes=lambda layout: _is_plain(layout) and not layout.is_signed and not layout.is_colour,
        loses=lambda _: NEAR,
    ),
    uid.JPEG2000Lossless: JPEG_2000,
    uid.JPEG2000: JPEG_2000,
}
SYNTAXES = tuple(ENCODINGS)


# How it is to be shown


def look_up_table(count: int, first: int, bits: int, entries: NDArray[Any]) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [count, first, bits])
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table


RISING = look_up_table(4096, 0, 12, np.arange(4096))
FALLING = look_up_table(1024, 1000, 16, np.arange(65535, 0, -64))
OF_8_BITS = look_up_table(4096, 0, 8, np.arange(4096)[::2] >> 4 | np.arange(4096)[1::2] >> 4 << 8)
PRESENTATIONS: Sequence[dict[str, object]] = (
    {},
    {"WindowCenter": 2048, "WindowWidth": 4096},
    {"WindowCenter": ["100", "7"], "WindowWidth": ["200", "8"], "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": "-3.5", "WindowWidth": "0.5", "VOILUTFunction": "LINEAR_EXACT"},
    {"RescaleSlope": "-2", "RescaleIntercept": "1000", "RescaleType": "US"},
    {"RescaleSlope": "0.5", "RescaleIntercept": "-1024", "WindowCenter": 0, "WindowWidth": 100},
    {"VOILUTSequence": ItemSequence([RISING])},
    {"VOILUTSequence": ItemSequence([FALLING, RISING])},
    {"ModalityLUTSequence": ItemSequence([OF_8_BITS]), "WindowCenter": 100, "WindowWidth": 50},
    {"ImagerPixelSpacing": ["0.2", "0.1"]},
    {"ImagerPixelSpacing": None, "PixelAspectRatio": ["1", "3"]},
    {"PresentationLUTShape": "LIN OD"},
)


def present(dataset: Dataset, number: int) -> None:
    for keyword, value in deepcopy(PRESENTATIONS[number % len(PRESENTATIONS)]).items():
        setattr(dataset, keyword, value)
