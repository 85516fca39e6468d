"""The pixels of an image that lie within an outline."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reports.regions import Outline


def mask_of(outlines: Iterable[Outline], rows: int, columns: int) -> NDArray[np.bool_]:
    """(rows, columns) bool: those whose middle is inside of any of the outlines, which are closed."""
    mask = np.zeros((rows, columns), bool)
    for outline in outlines:
        _fill(mask, np.array(outline))
    return mask


def _fill(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> None:
    """Row by row: from each crossing of the row's middle to the next one."""
    starts, ends = points[:-1], points[1:]
    top, bottom = int(points[:, 1].min()), int(np.ceil(points[:, 1].max()))
    for row in range(top, min(bottom, mask.shape[0])):
        middle = row + 0.5
        crosses = (starts[:, 1] <= middle) != (ends[:, 1] <= middle)
        (x0, y0), (x1, y1) = starts[crosses].T, ends[crosses].T
        columns = np.sort(x0 + (middle - y0) * (x1 - x0) / (y1 - y0))
        for left, right in np.ceil(columns - 0.5).astype(int).reshape(-1, 2):
            mask[row, left:right] = True
