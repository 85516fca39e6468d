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

# A band makes so many output rows, of so many input rows at the most where more than one comes of them: OpenBLAS has a
# way of its own for products of less than a million multiplications, and it is twice as fast.
_BAND_ROWS, _BAND_INPUTS = 8, 90
_SPARSE = 16


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
    rows = resize_bands(box.height, size, is_padded=is_padded, begin=max(-box.top, 0), count=seen.shape[0])
    columns = resize_bands(box.width, size, is_padded=is_padded, begin=max(-box.left, 0), count=seen.shape[1])

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
        resize_bands(pixels.shape[0], rows, is_padded=False),
        resize_bands(pixels.shape[1], columns, is_padded=False),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Band:
    """The part of a resize matrix that is not zero for some neighbouring output pixels.

    outputs, inputs: which these are, and which pixels they are made from.
    weights: (output pixels, input pixels) float32.
    """

    outputs: slice
    inputs: slice
    weights: Float32


@lru_cache(maxsize=16)
def resize_bands(
    length: int, size: int, *, is_padded: bool, begin: int = 0, count: int | None = None
) -> tuple[Band, ...]:
    """The matrix of `skimage.transform.resize(mode="constant", order=1)` along one axis, (size, length), in bands.

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
    kernel = np.pad(kernel / kernel.sum(), 1)  # an input pixel further away weighs nothing

    # (bands, output pixels, input pixels); the last band is filled up with pixels that are dropped again.
    band_rows = max(1, min(_BAND_ROWS, int((_BAND_INPUTS - 2 * radius) / factor)))
    outputs = np.minimum(np.arange(-(-size // band_rows) * band_rows), size - 1)
    centres = ((outputs + 0.5) * factor - 0.5).reshape(-1, band_rows, 1)
    left = np.floor(centres).astype(np.int64)
    inputs = left[:, :1] - radius + np.arange(int((left[:, -1] - left[:, 0]).max()) + 2 * radius + 2)
    weights = np.zeros((*left.shape[:2], inputs.shape[2]))
    for tap, share in ((left, left + 1 - centres), (left + 1, centres - left)):
        distance = np.clip(inputs - tap, -radius - 1, radius + 1)
        weights += share * ((tap >= 0) & (tap < length)) * kernel[distance + radius + 1]
    weights *= (inputs >= 0) & (inputs < length)
    if not is_padded:
        weights /= weights.sum(axis=2, keepdims=True)

    end = length if count is None else min(length, begin + count)
    bands = []
    for at, used, band in zip(range(0, size, band_rows), inputs[:, 0], weights.astype(np.float32), strict=True):
        first, last = np.searchsorted(used, (begin, end))
        weighed = band[: size - at, first:last].copy()
        start = max(int(used[0] + first) - begin, 0)
        bands.append(
            Band(outputs=slice(at, at + len(weighed)), inputs=slice(start, start + weighed.shape[1]), weights=weighed)
        )
    return tuple(bands)


def _resampled(pixels: NDArray[Any], rows: tuple[Band, ...], columns: tuple[Band, ...]) -> Float32:
    """Band by band: the full-size image never becomes floating point at once, and nothing that large is transposed."""
    fewer_rows = np.empty((_size(rows), pixels.shape[1]), np.float32)
    for band in rows:
        used = np.asarray(pixels[band.inputs], np.float32)
        np.matmul(band.weights, used, out=fewer_rows[band.outputs])
    image = np.empty((len(fewer_rows), _size(columns)), np.float32)
    for band in columns:
        np.matmul(fewer_rows[:, band.inputs], np.ascontiguousarray(band.weights.T), out=image[:, band.outputs])
    return image


def _size(bands: tuple[Band, ...]) -> int:
    return int(bands[-1].outputs.stop)


def _sums(bands: tuple[Band, ...]) -> Float32:
    return np.concatenate([band.weights.sum(axis=1) for band in bands])


def _clipped(image: Float32, seen: NDArray[Any], gain: float, offset: float) -> Float32:
    """To the range of what was seen, as skimage does it: the zeros beyond the border may lie outside of that range."""
    for values in (seen[::_SPARSE, ::_SPARSE], seen):  # where a few pixels lie on both sides of 0, nothing does
        low, high = sorted((float(values.min()) * gain + offset, float(values.max()) * gain + offset))
        if low <= 0.0 <= high:
            return image
    return np.asarray(np.clip(image, low, high), np.float32)
