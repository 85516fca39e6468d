"""Where a finding lies on the source image: outlines in its own pixels, never in the overlay's.

    a detector's box                                ──> its four corners, cut off at the image's edge
    a class activation map at half of its maximum   ──> the line that the overlay draws

Only of findings at or above their threshold. (0, 0) is the upper left corner of the first pixel, (columns, rows) the
lower right corner of the last one (PS3.3 C.18.6.1.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from PIL import Image

from domain.findings import ActivationMap, Finding, ImageAnalysis, Region
from reports.source import SourceInstance

Outline = tuple[tuple[float, float], ...]
HALF = 127.5  # of the map, whose maximum is 255
FINER = 4  # points of the grid on which a line is drawn, for each value of the map
SMALLEST_SHARE = 0.005  # of what the network saw: a smaller speck is no place
DECIMALS = 2  # of a pixel: finer nobody sees
# Graphic Data (0070,0022) is FL, whose length has 16 bits (PS3.5 7.1.2): 8191 pairs of four bytes, the first one again.
MOST_CORNERS = 8190


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedRegion:
    """outline: (column, row) of each corner; the first one is also the last. certainty: of this place, in [0, 1]."""

    finding: Finding
    certainty: float
    outline: Outline


def marked_regions(image: ImageAnalysis, source: SourceInstance) -> tuple[MarkedRegion, ...]:
    """The places of one image, the most certain finding first."""
    return tuple(region for finding in image.detected for region in _of_finding(finding, image, source))


def _of_finding(finding: Finding, image: ImageAnalysis, source: SourceInstance) -> Iterator[MarkedRegion]:
    for region in image.regions:
        if region.label == finding.label and (outline := _of_box(region, source)):
            yield MarkedRegion(finding=finding, certainty=region.certainty, outline=outline)
    if image.activation is not None and image.activation.label == finding.label:
        for outline in _of_map(image.activation, source):
            yield MarkedRegion(finding=finding, certainty=finding.certainty, outline=outline)


def _of_box(region: Region, source: SourceInstance) -> Outline:
    """Empty: nothing of it lies on the image, or less than the outline's decimals can say."""
    left, right = (_within(x, source.columns) for x in (region.left, region.left + region.width))
    top, bottom = (_within(y, source.rows) for y in (region.top, region.top + region.height))
    if left >= right or top >= bottom:
        return ()
    return _closed(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))


def _within(place: float, length: int) -> float:
    return round(min(max(place, 0.0), length), DECIMALS)


def _of_map(activation: ActivationMap, source: SourceInstance) -> Iterator[Outline]:
    """The outer line of each area; a hole in it is left out."""
    values = _finer(activation)
    x = _between(activation.left, activation.width, values.shape[1])
    y = _between(activation.top, activation.height, values.shape[0])
    areas = contour_generator(x, y, _to_the_edge(values), fill_type=FillType.OuterOffset)
    smallest = SMALLEST_SHARE * activation.width * activation.height
    for points, offsets in zip(*areas.filled(HALF, np.inf), strict=True):
        outer = points[: offsets[1]]
        outer = np.clip(outer, (0, 0), (source.columns, source.rows))
        if _area(outer) >= smallest:
            yield _closed(outer)


def _finer(activation: ActivationMap) -> NDArray[np.float32]:
    small = Image.frombytes("L", (activation.columns, activation.rows), bytes(activation.values)).convert("F")
    size = (activation.columns * FINER, activation.rows * FINER)
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC))


def _between(start: float, length: float, cells: int) -> NDArray[np.float64]:
    """The middle of each cell, and both ends: a line may run along the edge of what the network saw."""
    middles = (np.arange(cells) + 0.5) / cells
    return start + length * np.concatenate([[0.0], middles, [1.0]])


def _to_the_edge(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(values, 1, mode="edge")


def _closed(points: NDArray[np.float64]) -> Outline:
    """Rounded to hundredths of a pixel, without a point twice in a row, and closed. Of more points than a line may
    have, as of a large map of noise, every so many.
    """
    few = points[:: ceil(len(points) / MOST_CORNERS)]
    rounded = [(float(x), float(y)) for x, y in np.round(few, DECIMALS)]
    corners = [corner for corner, before in zip(rounded, [None, *rounded], strict=False) if corner != before]
    return tuple(corners if corners[0] == corners[-1] else [*corners, corners[0]])


def _area(points: NDArray[np.float64]) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
