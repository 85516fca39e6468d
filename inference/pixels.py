"""From a file to a radiograph: frame 0's stored pixels, and the greys that a viewer would show.

    file -> header and Pixel Data -> stored pixels (stored_pixels.py) -> greys (presentation.py)

Decoding parses hostile input: inside the node only the limited child process of inference/children.py comes here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

from domain.errors import Refuse
from domain.findings import DisplayImage
from domain.states import Reason
from inference import preprocess
from inference.pixel_data import check_inflated_size, locate
from inference.preprocess import Float32, Preprocessing
from inference.presentation import MAX_GREY, Greys, is_inverted, pixel_aspect, shown_values
from inference.stored_pixels import Header, Pixels, check_size, in_one_line, read_stored

_STRIP_ROWS = 16
SPARSE = 8
# What reading a frame takes beside the frame itself: code that is loaded late, and OpenJPEG's six bytes a sample.
_ROOM_BYTES = 16 << 20
_ROOM_OF_A_SAMPLE_BYTES = 8
# Of an input from -1024 to 1024. Of 80 films none had less than 134; one of 12 bits of which the header says that they
# are 16 has about 20.
LEAST_DEVIATION = 50


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Radiograph:
    """One decoded image.

    `stored` is (rows, columns), integer. `black` and `white` are the ends of its stored range, in the order in which
    they are shown: MONOCHROME1 has black > white, and so has what a falling look-up table or a negative Rescale Slope
    turns round. `shown` is the grey of each stored value from `first`, the least,
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
    """(channels, S, S) float32 for the network whose manifest says `preprocessing`.

    torchxrayvision's networks were taught the stored pixels on their full range; a standardising network the greys
    that a reader sees, as in the JPEG files that such networks learn from.

    Raises:
        Refuse: on its full range the film is next to one grey.
    """
    if preprocessing.scaling != "xrv_1024":
        return preprocess.network_input(radiograph.greys, black=0.0, white=float(MAX_GREY), preprocessing=preprocessing)
    black, white = radiograph.black, radiograph.white
    image = preprocess.network_input(radiograph.stored, black=black, white=white, preprocessing=preprocessing)
    if image.std() < LEAST_DEVIATION:
        raise Refuse(
            f"on the range from {min(black, white)} to {max(black, white)}, as Bits Stored says it, the film is next "
            "to one grey: the network would see nothing of it",
            reason=Reason.UNREADABLE_PIXELS,
        )
    return image


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
    samples = 0
    try:
        with open(path, "rb") as file:
            check_inflated_size(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            pixel_data = locate(file, dataset)
            header = Header.of(dataset)
            samples = header.rows * header.columns * header.samples_per_pixel
            stored = read_stored(dataset, pixel_data, header)
        first, shown = shown_values(stored, dataset, header)
        aspect = pixel_aspect(dataset)
    except Refuse:
        raise
    except MemoryError:
        raise  # perhaps this process holds too much already: a fresh one may read it
    except (InvalidDicomError, EOFError) as error:
        raise Refuse(f"not a readable DICOM file: {in_one_line(error)}", reason=Reason.UNREADABLE_PIXELS) from error
    except Exception as error:  # codecs and parsers fail in every way that there is; none of them is our bug to report
        _require_room(samples)
        name = type(error).__name__
        raise Refuse(
            f"the pixels cannot be decoded ({name}: {in_one_line(error)})", reason=Reason.UNREADABLE_PIXELS
        ) from error
    low, high = header.stored_range
    black, white = (high, low) if is_inverted(shown, header) else (low, high)
    return Radiograph(stored=stored, black=black, white=white, first=first, shown=shown, pixel_aspect=aspect)


def _require_room(samples: int) -> None:
    """Where memory has run out, OpenJPEG and some others only say that they failed: the image is not to blame then.

    Raises:
        MemoryError: it has.
    """
    np.empty(_ROOM_BYTES + _ROOM_OF_A_SAMPLE_BYTES * samples, np.uint8)


def _read_picture(path: Path | str) -> Radiograph:
    """JPEG and PNG, 8 or 16 bit, by Pillow; colour becomes luma."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            check_size(picture.height, picture.width)
            is_deep = picture.mode.startswith("I")
            stored = np.asarray(picture if is_deep else picture.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refuse(
            f"neither DICOM nor a readable JPEG or PNG: {in_one_line(error)}", reason=Reason.UNREADABLE_PIXELS
        ) from error
    return unwindowed(stored, white=MAX_GREY if is_deep else 255)


def _looked_up(table: NDArray[Any], values: Pixels, first: int) -> NDArray[Any]:
    """`table[value - first]` for each value, some rows at a time: their indexes stay in the processor's cache."""
    if first > 0:  # then values are indexes as they are, and a fifth of the time is saved
        table, first = np.pad(table, (first, 0)), 0
    found = np.empty(values.shape, table.dtype)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        indexes = np.subtract(values[strip], first, dtype=np.intp) if first else values[strip]
        np.take(table, indexes, out=found[strip], mode="clip")
    return found
