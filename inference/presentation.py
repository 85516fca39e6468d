"""How a viewer presents stored pixels: the grey of each value, and the shape of a pixel.

    stored value -> modality LUT -> VOI -> inversion of MONOCHROME1 -> grey

Look-up tables are read here: pydicom's own indexes one of 8 bits by the lowest byte of a value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from domain.errors import Refuse
from domain.states import Reason
from inference.stored_pixels import Header, Pixels

Greys = NDArray[np.uint16]

MAX_GREY = 65535
SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}  # Presentation LUT Shape of each, PS3.3 C.8.11.3.1.2


def shown_values(stored: Pixels, dataset: Dataset, header: Header) -> tuple[int, Greys]:
    """The least stored value, and what a viewer shows of each from there to the greatest.

    Raises:
        Refuse: viewers do not show the same, or nothing.
    """
    _check_shape(dataset, header)
    first, last = int(stored.min()), int(stored.max())
    occurring = np.arange(first, last + 1, dtype=stored.dtype)
    if header.samples_per_pixel == 3:
        fractions = occurring / 255.0
    else:
        fractions = _shown(_modality_values(occurring, dataset), dataset)
    if header.photometric_interpretation == "MONOCHROME1":
        fractions = 1.0 - fractions
    return first, np.rint(fractions * MAX_GREY).astype(np.uint16)


def _check_shape(dataset: Dataset, header: Header) -> None:
    """Where the two contradict each other, some viewers (DCMTK) go by the one, and some (cornerstone) by the other."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    interpretation = header.photometric_interpretation
    if shape in SHAPES.values() and shape != SHAPES.get(interpretation, shape):
        raise Refuse(
            f"{interpretation} with Presentation LUT Shape {shape}: nobody knows what is to be light",
            reason=Reason.UNREADABLE_PIXELS,
        )


def is_inverted(shown: Greys, header: Header) -> bool:
    """Whether the least stored value is lighter than the greatest: not only MONOCHROME1 may say so."""
    if shown[0] == shown[-1]:
        return header.photometric_interpretation == "MONOCHROME1"
    return bool(shown[0] > shown[-1])


def _modality_values(occurring: Pixels, dataset: Dataset) -> NDArray[np.float64]:
    """By the Modality LUT, or by Rescale Slope (0028,1053) and Intercept (0028,1052): PS3.3 C.11.1."""
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
        if dataset.get("ModalityLUTSequence"):
            values, _ = _through_lut(occurring, dataset, "ModalityLUTSequence")
        else:
            values = _rescaled(occurring, dataset)
        span = np.ptp(values)
    if not np.isfinite(span):
        raise Refuse("the modality LUT makes values that are not finite", reason=Reason.UNREADABLE_PIXELS)
    if span == 0 and len(occurring) > 1:
        raise Refuse("the modality LUT makes every pixel the same value", reason=Reason.UNREADABLE_PIXELS)
    return values


def _rescaled(occurring: Pixels, dataset: Dataset) -> NDArray[np.float64]:
    values = occurring.astype(np.float64)
    rescale = [dataset[keyword].value for keyword in ("RescaleSlope", "RescaleIntercept") if keyword in dataset]
    if len(rescale) < 2:
        return values
    if None in rescale:
        raise Refuse("Rescale Slope or Rescale Intercept is empty", reason=Reason.UNREADABLE_PIXELS)
    slope, intercept = rescale
    return values * float(slope) + float(intercept)


def _shown(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """The first VOI LUT or window (PS3.3 C.11.2), as fractions of white in [0, 1].

    Without one, or where it would show nothing (a window beside all values is not rare), from the least to the
    greatest value.
    """
    if dataset.get("VOILUTSequence"):
        entries, bits = _through_lut(values, dataset, "VOILUTSequence")
        shown = entries / ((1 << bits) - 1)
    else:
        shown = _windowed(values, dataset)
    shown = np.clip(shown, 0.0, 1.0)
    if shown.min() < shown.max():
        return shown
    return np.asarray((values - values.min()) / max(float(np.ptp(values)), 1e-9))


def _through_lut(values: NDArray[Any], dataset: Dataset, sequence: str) -> tuple[NDArray[np.float64], int]:
    """The entry of each value in the first look-up table of the sequence (PS3.3 C.11.1.1.1), and an entry's bits.

    What lies before the first entry gets that, what lies behind the last one that. The number of entries is unsigned
    whatever the Value Representation: 0 are 65536.
    """
    item = dataset[sequence].value[0]
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = (count & 0xFFFF) or 1 << 16
    if not 8 <= bits <= 16:
        raise Refuse(f"a look-up table of {bits} bits is not read", reason=Reason.UNREADABLE_PIXELS)
    entries = _lut_entries(item, count, bits, is_little_endian=dataset.original_encoding[1] is not False)
    places = np.clip(np.rint(values.astype(np.float64) - first), 0, count - 1)
    return entries[places.astype(np.intp)].astype(np.float64), bits


def _lut_entries(item: Dataset, count: int, bits: int, *, is_little_endian: bool) -> NDArray[np.uint16]:
    """LUT Data (0028,3006). Entries of 8 bits lie two in a word, or, of some writers, each in one of its own."""
    data = item.LUTData
    if isinstance(data, bytes):
        words = np.frombuffer(data, "<u2" if is_little_endian else ">u2").astype(np.uint16)
    else:
        words = np.atleast_1d(np.asarray(data, np.uint16))
    if bits == 8 and len(words) == (count + 1) // 2:
        words = np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    if len(words) < count:
        raise Refuse(
            f"a look-up table has {len(words)} entries, LUT Descriptor says {count}", reason=Reason.UNREADABLE_PIXELS
        )
    return words[:count]


def _windowed(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Window Center (0028,1050) and Width (0028,1051) by VOI LUT Function (0028,1056): PS3.3 C.11.2.1.2 and .3."""
    centre, width = (_numbers(dataset, keyword)[0] for keyword in ("WindowCenter", "WindowWidth"))
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
        match _numbers(dataset, keyword):
            case [float(row_spacing), float(column_spacing)] if row_spacing > 0 and column_spacing > 0:
                if 0.1 <= row_spacing / column_spacing <= 10:
                    return row_spacing / column_spacing
    return 1.0


def _numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    """The values of a DS or IS, at least one; None where none is said, or nothing that is a number.

    Some writers give a decimal comma (PS3.5 6.2 has none). The pixels are the same for that.
    """
    try:
        value = dataset.get(keyword)
        values = [value] if value is None or isinstance(value, (str, float, int)) else list(value)
        return [None if one in (None, "") else float(one) for one in values] or [None]
    except (TypeError, ValueError, OverflowError):  # the last for an IS that says that it is infinite
        return [None]
