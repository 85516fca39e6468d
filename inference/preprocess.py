"""From a radiograph's pixels to a network's input: crop, resize, scale, with numpy alone.

    pixels -> crop -> resize to (S, S) on the scale black = -1, white = +1 -> scale as the network was taught

The resize equals `skimage.transform.resize` (Gaussian anti-aliasing, then linear interpolation), which is linear and
separable: one small matrix for the rows, one for the columns. What leaves here is what training saw, to rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Crop = Literal["centre_square", "padded_square", "none"]
Scaling = Literal["standardise", "xrv_1024", "unit"]
Float32 = NDArray[np.float32]

_BLOCK_ROWS = 16  # output rows that share a band of input rows: the matrix is nearly diagonal, most of it is zero


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """What a network expects of its input; part of its manifest.

    `scaling`: "standardise" gives each image mean 0 and standard deviation 1, so that neither bit depth nor window
    matters; "xrv_1024" is torchxrayvision's fixed scale, black -1024 and white +1024; "unit" is black 0, white 1.
    `channels`: 3 repeats the grey for networks that were taught colour pictures.
    """

    input_size: int
    crop: Crop
    scaling: Scaling
    channels: int = 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, self.input_size, self.input_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle of the source image, in source pixels. One that pads the image reaches over its edges."""

    left: int
    top: int
    width: int
    height: int


def network_input(pixels: NDArray[Any], *, black: float, white: float, preprocessing: Preprocessing) -> Float32:
    """Prepare one image.

    Args:
        pixels: (rows, columns), integer or floating.
        black, white: the pixel values of the darkest and the lightest grey. MONOCHROME1 has black > white.

    Returns:
        (channels, S, S) float32, to be stacked into the network's (N, channels, S, S).
    """
    image = SCALINGS[preprocessing.scaling](resized(pixels, black=black, white=white, preprocessing=preprocessing))
    return np.repeat(image, preprocessing.channels, axis=0)


def resized(pixels: NDArray[Any], *, black: float, white: float, preprocessing: Preprocessing) -> Float32:
    """Crop or pad, and resize; returns (1, S, S) float32 with black = -1 and white = +1. Padding is 0: mid-grey."""
    box = seen_box(pixels.shape[0], pixels.shape[1], preprocessing.crop)
    seen = pixels[max(box.top, 0) : box.top + box.height, max(box.left, 0) : box.left + box.width]
    # torchxrayvision pads its border with mid-grey; where each image is standardised, no border may depend on a range.
    is_padded = preprocessing.scaling == "xrv_1024"
    rows = _inside(resize_matrix(box.height, preprocessing.input_size, is_padded), -box.top, seen.shape[0])
    columns = _inside(resize_matrix(box.width, preprocessing.input_size, is_padded), -box.left, seen.shape[1])

    # The map from stored value to [-1, 1] is linear too, so it waits until only S x S values are left.
    gain = 2.0 / (white - black)
    offset = -1.0 - gain * black
    image = _times(columns, _times(rows, seen).T).T * gain
    image += np.outer(rows.sum(axis=1), columns.sum(axis=1)) * offset
    low, high = sorted((float(seen.min()) * gain + offset, float(seen.max()) * gain + offset))
    if preprocessing.crop == "padded_square":
        low, high = min(low, 0.0), max(high, 0.0)
    return np.asarray(np.clip(image, low, high), np.float32)[np.newaxis]


def standardised(image: Float32) -> Float32:
    """Mean 0 and standard deviation 1 over all pixels; a constant image becomes 0 everywhere."""
    centred = image - image.mean(dtype=np.float64)
    deviation = max(float(image.std(dtype=np.float64)), 1e-6)
    return np.asarray(centred / deviation, np.float32)


# From black = -1 and white = +1 to what the network was taught.
SCALINGS: Mapping[Scaling, Callable[[Float32], Float32]] = {
    "standardise": standardised,
    "xrv_1024": lambda image: image * np.float32(1024),
    "unit": lambda image: (image + np.float32(1)) * np.float32(0.5),
}


def seen_box(rows: int, columns: int, crop: Crop) -> Box:
    """The rectangle of a (rows, columns) image that fills the network's input."""
    if crop == "none":
        return Box(left=0, top=0, width=columns, height=rows)
    side = min(rows, columns) if crop == "centre_square" else max(rows, columns)
    return Box(left=columns // 2 - side // 2, top=rows // 2 - side // 2, width=side, height=side)


@lru_cache(maxsize=8)
def resize_matrix(length: int, size: int, is_padded: bool) -> Float32:
    """The matrix of `skimage.transform.resize(mode="constant", order=1)` along one axis.

    Args:
        length: pixels before.
        size: pixels after.
        is_padded: zeros lie beyond the border, as in skimage; else the weights at the border are made to sum to 1.

    Returns:
        (size, length) float32.
    """
    factor = length / size
    sigma = max(0.0, (factor - 1.0) / 2.0)
    radius = int(4.0 * sigma + 0.5)  # scipy.ndimage cuts its Gaussian at four standard deviations
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * np.square(offsets / sigma)) if radius else np.ones(1)
    kernel /= kernel.sum()

    centres = (np.arange(size) + 0.5) * factor - 0.5
    left = np.floor(centres).astype(np.int64)
    fraction = centres - left
    matrix = np.zeros((size, length))
    for tap, weight in ((left, 1.0 - fraction), (left + 1, fraction)):
        taken = tap[:, np.newaxis] + offsets
        is_inside = ((tap >= 0) & (tap < length))[:, np.newaxis] & (taken >= 0) & (taken < length)
        row, column = np.nonzero(is_inside)
        np.add.at(matrix, (row, taken[row, column]), (weight[:, np.newaxis] * kernel)[row, column])
    if not is_padded:
        matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix.astype(np.float32)


def _inside(matrix: Float32, start: int, length: int) -> Float32:
    """The columns of those pixels that the image has; the others would be multiplied by 0."""
    return matrix[:, max(start, 0) : max(start, 0) + length]


def _times(matrix: Float32, pixels: NDArray[Any]) -> Float32:
    """`matrix @ pixels`, band by band: the full-size image never becomes floating point at once."""
    product = np.empty((matrix.shape[0], pixels.shape[1]), np.float32)
    for start in range(0, matrix.shape[0], _BLOCK_ROWS):
        band = matrix[start : start + _BLOCK_ROWS]
        used = np.flatnonzero(band.any(axis=0))
        first, last = used[0], used[-1] + 1
        np.matmul(
            band[:, first:last],
            pixels[first:last].astype(np.float32),
            out=product[start : start + _BLOCK_ROWS],
        )
    return product
