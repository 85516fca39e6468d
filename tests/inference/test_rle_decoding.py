"""Of an RLE frame only that is read which lies in it, each segment for itself (PS3.5 Annex G)."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from domain.errors import Refuse
from inference import pixels
from tests.factories.sources import radiograph
from tests.inference.images import write

ROWS, COLUMNS = 64, 56
VALUES = np.random.default_rng(0).integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
COLOURS = np.random.default_rng(0).integers(0, 256, (3, ROWS * COLUMNS)).astype(np.uint8)


def frame(*segments: bytes) -> bytes:
    """The segments behind the header that says where they begin."""
    encoded = [bytes(imagecodecs.packbits_encode(segment)) for segment in segments]
    encoded = [segment + b"\0" * (len(segment) % 2) for segment in encoded]
    begins = np.cumsum([64, *map(len, encoded)])[:-1]
    return struct.pack("<16L", len(encoded), *begins, *[0] * (15 - len(encoded))) + b"".join(encoded)


def film(path: Path, stream: bytes, *, is_colour: bool = False) -> Path:
    dataset = in_colour() if is_colour else radiograph(1)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([stream or bytes(2)])
    dataset["PixelData"].VR = "OB"
    return write(dataset, path)


def in_colour() -> Dataset:
    dataset = radiograph(1)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 1, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    return dataset


def refusal(path: Path) -> str:
    with pytest.raises(Refuse) as caught:
        pixels.read(path)
    assert caught.value.reason == "unreadable_pixels"
    return caught.value.message


HIGH, LOW = (VALUES >> 8).astype(np.uint8).tobytes(), (VALUES & 0xFF).astype(np.uint8).tobytes()
WHOLE = frame(HIGH, LOW)


def said(stream: bytes, *numbers: int) -> bytes:
    """With these numbers at the beginning of its header."""
    return struct.pack(f"<{len(numbers)}L", *numbers) + stream[4 * len(numbers) :]


def test_a_whole_frame_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels.read(film(tmp_path / "image.dcm", WHOLE)).stored, VALUES)
    luma = COLOURS[0] * 0.299 + COLOURS[1] * 0.587 + COLOURS[2] * 0.114
    read = pixels.read(film(tmp_path / "colour.dcm", frame(*(colour.tobytes() for colour in COLOURS)), is_colour=True))
    assert np.abs(read.stored.ravel() - luma).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "stream",
    [
        WHOLE[:66],
        WHOLE[:1000],
        WHOLE[:40],
        b"",
        said(WHOLE, 1),
        said(WHOLE, 3),
        said(WHOLE, 0),
        said(WHOLE, 2, 0),
        said(WHOLE, 2, 64, 64),
        said(WHOLE, 2, 64, len(WHOLE)),
        said(WHOLE, 2, 64, 0xFFFFFFFF),
        said(WHOLE, 2, 4000, 64),
        said(WHOLE, 0xFFFFFFFF),
    ],
    ids=range(13),
)
def test_a_frame_whose_segments_lie_outside_of_it_is_refused_before_the_codec_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bytes
) -> None:
    """It would read on in memory, or die of it."""
    monkeypatch.setattr(imagecodecs, "dicomrle_decode", lambda *_, **__: pytest.fail("it is decoded"))
    assert refusal(film(tmp_path / "image.dcm", stream)) == "the RLE stream has no 2 segments inside of it"


@pytest.mark.parametrize("short", [0, 1])
def test_a_frame_of_which_a_segment_is_too_short_is_refused(tmp_path: Path, short: int) -> None:
    segments = [HIGH, LOW]
    segments[short] = segments[short][:-1]
    assert refusal(film(tmp_path / "image.dcm", frame(*segments))) == "a part of the RLE stream is missing"


def test_a_colour_that_has_too_little_takes_nothing_of_the_next_one(tmp_path: Path) -> None:
    """All three together are as long as they should be."""
    red, green, blue = (colour.tobytes() for colour in COLOURS)
    path = film(tmp_path / "image.dcm", frame(red[:-8], green, blue + red[-8:]), is_colour=True)
    assert refusal(path) == "a part of the RLE stream is missing"
