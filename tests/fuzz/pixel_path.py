"""Fuzzes the way from a file to what a network and a reader are shown: what is damaged, and what is whole.

    content -> a film of known values (films.py) -> damage, if any -> decoded, prepared, displayed
            -> bytes that call themselves a DICOM file ─────────────────^

Whatever comes in, a refusal tells its reason in one line, or a radiograph is what it says that it is: nothing else is
raised, and the same file gives the same pixels, which none does that holds memory of somebody else's. A film without
damage is never refused, and its values are those that were put into it.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from domain.errors import Refuse
from inference import pixel_data, pixels, stored_pixels
from inference.pixels import Radiograph
from inference.preprocess import Preprocessing
from tests.fuzz.films import PRESENTATIONS, SYNTAXES, Film, film, in_file, present

MOST_PIXELS = 1 << 18  # a small file that claims to be a large film takes its time, as it may
MOST_INFLATED_BYTES = 1 << 22
WITHIN = (40, 50)
PREPROCESSING = (
    Preprocessing(input_size=32, crop="centre_square", scaling="xrv_1024"),
    Preprocessing(input_size=32, crop="padded_square", scaling="unit"),
)
RANGES = {"xrv_1024": 1024.0, "unit": 1.0}
SPARE = 1.001  # of rounding in 32 bits
REASONS = ("no_image", "unreadable_pixels")
RAW = 0xFF  # as the first byte: what follows is a file
FIXED = struct.Struct("BBBBBB")  # transfer syntax, layout, presentation, rows, columns, seed
DAMAGE = struct.Struct(">BHB")  # what is done, where, with what
TOUCHED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PresentationLUTShape",
    "PlanarConfiguration",
    "NumberOfFrames",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleSlope",
    "RescaleIntercept",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "LUTDescriptor",
    "LUTData",
)
TEXTS = (
    b"",
    b"0",
    b"1",
    b"-1",
    b"nan",
    b"inf",
    b"1e308",
    b"1e-308",
    b"0,5",
    b"2\\0",
    b"RGB",
    b"MONOCHROME1",
    b"INVERSE",
    b"\xe9",
)
NUMBERS = (0, 1, 2, 3, 7, 8, 11, 12, 15, 16, 17, 32, 255, 4096, 65535)
GONE = 0xC0  # from here on a value means that the attribute is taken away


def pixels_target(folder: Path) -> Callable[[bytes], None]:
    """The first six bytes name a film, every four that follow a damage; or the first says that a file follows."""
    path = folder / "film.dcm"

    def check(content: bytes) -> None:
        if content[:1] == bytes([RAW]):
            path.write_bytes(bytes(128) + b"DICM" + content[1:])
            _read(path)
            return
        if len(content) < FIXED.size:
            return
        syntax, layout, presentation, rows, columns, seed = FIXED.unpack_from(content)
        whole = film(syntax, layout, rows, columns, seed)
        present(whole.dataset, presentation)
        damages = list(DAMAGE.iter_unpack(content[FIXED.size :][: (len(content) - FIXED.size) // 4 * 4]))
        path.write_bytes(_damaged(whole, damages))
        read = _read(path)
        if not damages:
            _check_values(read, whole)

    return check


def _read(path: Path) -> Radiograph | Refuse:
    """Twice, with other remains in memory."""
    with (
        patch.object(stored_pixels, "MAX_PIXELS", MOST_PIXELS),
        patch.object(pixel_data, "MAX_INFLATED_BYTES", MOST_INFLATED_BYTES),
    ):
        first, second = _attempt(path, 0x11), _attempt(path, 0xEE)
    if isinstance(first, Refuse) or isinstance(second, Refuse):
        assert (type(first), str(first)) == (type(second), str(second))
        _check_refusal(first)
        return first
    assert np.array_equal(first.stored, second.stored), "pixels that nobody has decoded"
    _check_radiograph(first)
    return first


def _attempt(path: Path, remains: int) -> Radiograph | Refuse:
    for size in range(9, 20):
        np.full(1 << size, remains, np.uint8)
    try:
        return pixels.read(path)
    except Refuse as refused:
        return refused


def _check_refusal(refused: Radiograph | Refuse) -> None:
    assert isinstance(refused, Refuse)
    assert refused.reason in REASONS
    assert 0 < len(refused.message) <= 400
    assert refused.message.isprintable(), refused.message


def _check_radiograph(read: Radiograph) -> None:
    rows, columns = read.stored.shape
    least, greatest = int(read.stored.min()), int(read.stored.max())
    low, high = sorted((read.black, read.white))
    assert min(rows, columns) >= stored_pixels.MIN_SIDE_PX
    assert read.stored.dtype.kind in "iu"
    assert low <= least < greatest <= high
    assert (read.first, len(read.shown), read.shown.dtype.name) == (least, greatest - least + 1, "uint16")
    assert 0.1 <= read.pixel_aspect <= 10
    assert 0 <= pixels.grey_mean(read) <= 1
    for preprocessing in PREPROCESSING:
        try:
            prepared = pixels.network_input(read, preprocessing)
        except Refuse as refused:
            _check_refusal(refused)
            continue
        assert prepared.shape == (1, 32, 32)
        assert np.abs(prepared).max() <= RANGES[preprocessing.scaling] * SPARE  # which a NaN is not
    display = pixels.display_image(read, within=[WITHIN])
    assert len(display.pixels) == display.rows * display.columns
    assert (display.source_rows, display.source_columns) == (rows, columns)
    assert display.columns <= WITHIN[0]
    assert display.rows <= WITHIN[1]


def _check_values(read: Radiograph | Refuse, whole: Film) -> None:
    assert isinstance(read, Radiograph), read
    assert read.stored.shape == whole.values.shape
    assert np.abs(read.stored.astype(np.int64) - whole.values).max() <= whole.off_by


def _damaged(whole: Film, damages: Sequence[tuple[int, int, int]]) -> bytes:
    """First the header's, then the stream's, then the file's."""
    stream, touched = bytearray(whole.stream), dict[BaseTag, bytes]()
    for kind, place, value in damages:
        if kind % 8 == 0:
            _touch(whole.dataset, touched, TOUCHED[place % len(TOUCHED)], value)
        elif kind % 8 < 6:
            _lose(stream, kind % 8, place % max(1, len(stream)), value)
    file = bytearray(in_file(whole.dataset, bytes(stream), touched))
    for kind, place, value in damages:
        if kind % 8 >= 6:
            file[132 + place % (len(file) - 132)] ^= value or 1
    return bytes(file)


def _lose(stream: bytearray, kind: int, place: int, value: int) -> None:
    if kind == 1:
        stream[place : place + 1] = bytes([value])
    elif kind == 2:
        del stream[place : place + value]
    elif kind == 3:
        stream[place:place] = stream[place : place + value]
    elif kind == 4:
        stream[place:place] = bytes([value]) * 8
    else:
        del stream[place:]


def _touch(dataset: Dataset, touched: dict[BaseTag, bytes], keyword: str, value: int) -> None:
    """An attribute that is taken away, or has another value; of a look-up table the one in its item."""
    if keyword.startswith("LUT"):
        for item in dataset.get("VOILUTSequence") or dataset.get("ModalityLUTSequence") or ():
            item.pop(keyword, None)
            if value < GONE:
                item.add_new(keyword, "US", [NUMBERS[value % len(NUMBERS)]] * (value % 4))
        return
    dataset.pop(keyword, None)
    if value < GONE:
        representation = dictionary_VR(keyword)
        chosen = (
            struct.pack("<H", NUMBERS[value % len(NUMBERS)]) if representation == "US" else TEXTS[value % len(TEXTS)]
        )
        touched[Tag(keyword)] = b"" if representation == "SQ" else chosen + b" " * (len(chosen) % 2)


def pixels_seeds() -> Sequence[bytes]:
    """Of each syntax some layouts, and a stream that lost a byte; each presentation; files as they are."""
    whole = [
        FIXED.pack(syntax, layout, 0, 3 * layout, layout, layout)
        for syntax in range(len(SYNTAXES))
        for layout in (0, 1, 11)
    ]
    shown = [FIXED.pack(0, number, number, 0, 0, 1) for number in range(len(PRESENTATIONS))]
    lost = [FIXED.pack(syntax, 0, 1, 9, 9, 1) + DAMAGE.pack(2, 300, 1) for syntax in range(len(SYNTAXES))]
    return [*whole, *shown, *lost, *(bytes([RAW]) + film(syntax, 0, 0, 0, 0).file()[132:] for syntax in (0, 4, 8))]
