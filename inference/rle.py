"""RLE Lossless (PS3.5 Annex G) for the pictures that the node sends: its pages are half background.

Where pydicom's own encoder takes seconds for such a page, the PackBits of imagecodecs takes milliseconds.
"""

from io import BytesIO

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

HEADER_LENGTH = 64  # of a frame: the count of segments and where each begins, in fifteen numbers (PS3.5 G.5)


def with_rle_lossless(content: bytes) -> bytes:
    """A complete file of ours (8-bit RGB, one frame, uncompressed) with its pixels compressed; all else is as it was.

    Planar Configuration says what the segments are: one for each colour (PS3.5 8.2.2).
    """
    dataset = pydicom.dcmread(BytesIO(content))
    picture = np.frombuffer(dataset.PixelData, np.uint8, dataset.Rows * dataset.Columns * 3)
    dataset.PixelData = encapsulate([_frame(picture.reshape(dataset.Rows, dataset.Columns, 3))])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.PlanarConfiguration = 1
    dataset.file_meta.TransferSyntaxUID = RLELossless
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _frame(picture: NDArray[np.uint8]) -> bytes:
    """PS3.5 G.4: a segment for each colour, in each of which every row is encoded by itself."""
    segments = [_segment(np.ascontiguousarray(picture[..., colour])) for colour in range(3)]
    begins = np.cumsum([HEADER_LENGTH, *(len(segment) for segment in segments[:-1])])
    header = np.zeros(HEADER_LENGTH // 4, "<u4")
    header[0], header[1:4] = len(segments), begins
    return b"".join([header.tobytes(), *segments])


def _segment(plane: NDArray[np.uint8]) -> bytes:
    encoded = bytes(imagecodecs.packbits_encode(plane))
    return encoded + b"\0" * (len(encoded) % 2)
