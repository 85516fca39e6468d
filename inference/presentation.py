"""How a viewer presents stored pixels: the grey of each value, and the shape of a pixel.

stored value -> modality LUT -> VOI -> inversion of MONOCHROME1 -> grey
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from domain.errors import Refuse
from domain.states import Reason
from inference.stored_pixels import Header, Pixels

Greys = NDArray[np.uint16]

MAX_GREY = 65535


def shown_values(stored: Pixels, dataset: Dataset, header: Header) -> tuple[int, Greys]:
    """The least stored value, and what a viewer shows of each from there to the greatest."""
    first, last = int(stored.min()), int(stored.max())
    occurring = np.arange(first, last + 1, dtype=stored.dtype)
    if header.samples_per_pixel == 3:
        fractions = occurring / 255.0
    else:
        fractions = _shown(_modality_values(occurring, dataset), dataset)
    if header.photometric_interpretation == "MONOCHROME1":
        fractions = 1.0 - fractions
    return first, np.rint(fractions * MAX_GREY).astype(np.uint16)


def _modality_values(occurring: Pixels, dataset: Dataset) -> NDArray[np.float64]:
    """By the Modality LUT, or by Rescale Slope (0028,1053) and Intercept (0028,1052): PS3.3 C.11.1."""
    rescale = [dataset[keyword].value for keyword in ("RescaleSlope", "RescaleIntercept") if keyword in dataset]
    if not dataset.get("ModalityLUTSequence") and len(rescale) == 2 and None in rescale:
        raise Refuse("Rescale Slope or Rescale Intercept is empty", reason=Reason.UNREADABLE_PIXELS)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
        values = np.asarray(apply_modality_lut(occurring, dataset), np.float64)
        span = np.ptp(values)
    if not np.isfinite(span):
        raise Refuse("the modality LUT makes values that are not finite", reason=Reason.UNREADABLE_PIXELS)
    if span == 0 and len(occurring) > 1:
        raise Refuse("the modality LUT makes every pixel the same value", reason=Reason.UNREADABLE_PIXELS)
    return values


def _shown(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """The first VOI LUT or window (PS3.3 C.11.2), as fractions of white in [0, 1].

    Without one, or where it would show nothing (a window beside all values is not rare), from the least to the
    greatest value.
    """
    if dataset.get("VOILUTSequence"):
        shown = apply_voi(values.astype(np.int32), dataset).astype(np.float64)
        shown /= float((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
    else:
        shown = _windowed(values, dataset)
    shown = np.clip(shown, 0.0, 1.0)
    if shown.min() < shown.max():
        return shown
    return np.asarray((values - values.min()) / max(float(np.ptp(values)), 1e-9))


def _windowed(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Window Center (0028,1050) and Width (0028,1051) by VOI LUT Function (0028,1056): PS3.3 C.11.2.1.2 and .3."""
    centre, width = (_first_number(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width <= 1):
        return np.zeros_like(values)
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1.0) + 0.5


def pixel_aspect(dataset: Dataset) -> float:
    """A pixel's height over its width; 1 where nothing usable is said. WG-04's RG1 says Pixel Spacing 0.000."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        spacing = dataset.get(keyword)
        if spacing is None or isinstance(spacing, (str, float, int)) or len(spacing) != 2:
            continue
        row_spacing, column_spacing = float(spacing[0]), float(spacing[1])
        if row_spacing > 0 and column_spacing > 0 and 0.1 <= row_spacing / column_spacing <= 10:
            return row_spacing / column_spacing
    return 1.0


def _first_number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    first = value if isinstance(value, (str, float, int)) else next(iter(value), None)
    return None if first is None else float(first)
