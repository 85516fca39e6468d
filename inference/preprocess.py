"""From a radiograph's pixels to a network's input: crop, resize, scale, with numpy alone.

    pixels -> crop -> resize to (S, S) on the scale black = -1, white = +1 -> scale as the network was taught

The resize equals `skimage.transform.resize` (Gaussian anti-aliasing, then linear interpolation), which is linear and
separable: one matrix for the rows, one for the columns, both nearly diagonal. What leaves here is what training saw, to
rounding.
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

_SPARSE = 16
_STRIP_PIXELS = 64  # input rows, or columns, that are read at once: they fit into the processor's cache


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
    size = preprocessing.input_size
    rows = resizing(box.height, size, is_padded=is_padded, begin=max(-box.top, 0), count=seen.shape[0])
    columns = resizing(box.width, size, is_padded=is_padded, begin=max(-box.left, 0), count=seen.shape[1])

    # The map from stored value to [-1, 1] is linear too, so it waits until only S x S values are left.
    gain = 2.0 / (white - black)
    offset = -1.0 - gain * black
    image = _resampled(seen, rows, columns) * gain
    image += np.outer(_sums(rows), _sums(columns)) * offset
    if is_padded and preprocessing.crop != "padded_square":
        image = _clipped(image, seen, gain, offset)
    return np.asarray(image, np.float32)[np.newaxis]


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


def reduced(pixels: NDArray[Any], *, rows: int, columns: int) -> Float32:
    """The whole image at another size, (rows, columns) float32 on the scale of its own values."""
    return _resampled(
        pixels,
        resizing(pixels.shape[0], rows, is_padded=False),
        resizing(pixels.shape[1], columns, is_padded=False),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Strip:
    """What some neighbouring input pixels give to the output: a piece of the resize matrix, and nearly all of it is 0.

    first, at: of these input pixels and of the output pixels that they are part of, the first one.
    weights: (output pixels, input pixels) float32.
    """

    first: int
    at: int
    weights: Float32


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Resizing:
    """Along one axis. `size`: pixels after."""

    size: int
    strips: tuple[Strip, ...]


@lru_cache(maxsize=16)
def resizing(length: int, size: int, *, is_padded: bool, begin: int = 0, count: int | None = None) -> Resizing:
    """The matrix of `skimage.transform.resize(mode="constant", order=1)` along one axis, (size, length), in strips.

    Args:
        length: pixels before.
        size: pixels after.
        is_padded: zeros lie beyond the border, as in skimage; else the weights at the border are made to sum to 1.
        begin, count: only these of the `length` pixels exist, the others would be multiplied by 0. Default all.
    """
    factor = length / size
    sigma = max(0.0, (factor - 1.0) / 2.0)
    radius = int(4.0 * sigma + 0.5)  # scipy.ndimage cuts its Gaussian at four standard deviations
    kernel = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma)) if radius else np.ones(1)
    kernel = kernel / kernel.sum()

    # (output pixels, input pixels that each is made from): linear interpolation between two blurred pixels.
    centres = ((np.arange(size) + 0.5) * factor - 0.5)[:, np.newaxis]
    left = np.floor(centres).astype(np.int64)
    inputs = left + np.arange(-radius, radius + 2)
    weights = (left + 1 - centres) * ((left >= 0) & (left < length)) * np.append(kernel, 0.0)
    weights += (centres - left) * ((left + 1 >= 0) & (left + 1 < length)) * np.append(0.0, kernel)
    weights *= (inputs >= 0) & (inputs < length)
    if not is_padded:
        weights /= weights.sum(axis=1, keepdims=True)

    end = length if count is None else min(length, begin + count)
    strips = []
    for first in range(begin, end, _STRIP_PIXELS):
        last = min(first + _STRIP_PIXELS, end)
        at, beyond = int(np.searchsorted(inputs[:, -1], first)), int(np.searchsorted(inputs[:, 0], last))
        piece = np.zeros((beyond - at, last - first), np.float32)
        rows, taps = np.nonzero((inputs[at:beyond] >= first) & (inputs[at:beyond] < last))
        piece[rows, inputs[at:beyond][rows, taps] - first] = weights[at:beyond][rows, taps]
        strips.append(Strip(first=first - begin, at=at, weights=piece))
    return Resizing(size=size, strips=tuple(strips))


def _resampled(pixels: NDArray[Any], rows: Resizing, columns: Resizing) -> Float32:
    """Each pixel becomes floating point once, some rows at a time: the image as a whole never does."""
    lower = np.zeros((rows.size, pixels.shape[1]), np.float32)
    for strip in rows.strips:
        outputs, inputs = strip.weights.shape
        used = np.asarray(pixels[strip.first : strip.first + inputs], np.float32)
        lower[strip.at : strip.at + outputs] += strip.weights @ used
    small = np.zeros((rows.size, columns.size), np.float32)
    for strip in columns.strips:
        outputs, inputs = strip.weights.shape
        small[:, strip.at : strip.at + outputs] += lower[:, strip.first : strip.first + inputs] @ strip.weights.T
    return small


def _sums(along: Resizing) -> Float32:
    """Of the weights of each output pixel: less than 1 where it reaches beyond the border."""
    sums = np.zeros(along.size, np.float32)
    for strip in along.strips:
        sums[strip.at : strip.at + len(strip.weights)] += strip.weights.sum(axis=1)
    return sums


def _clipped(image: Float32, seen: NDArray[Any], gain: float, offset: float) -> Float32:
    """To the range of what was seen, as skimage does it: the zeros beyond the border may lie outside of that range."""
    sparse = seen[::_SPARSE, ::_SPARSE]
    for values in (sparse, seen):  # where a few of its pixels lie on both sides of 0, there is nothing to clip
        low, high = sorted((float(values.min()) * gain + offset, float(values.max()) * gain + offset))
        if low <= 0.0 <= high:
            return image
    return np.asarray(np.clip(image, low, high), np.float32)
