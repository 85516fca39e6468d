"""How an image's grey values are shown: what a presentation state has to repeat, for it replaces all of it.

A state without a window would show the whole range of the stored values, and one without INVERSE a MONOCHROME1 image as
a negative: Photometric Interpretation counts for nothing once a state is applied (PS3.4 N.2.4).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

READ_FOR_GRAYSCALE = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelAspectRatio",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
]
DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
# Pixels are of a size within a factor of this, or the spacing is wrong.
MOST_STRETCHED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Grayscale:
    """is_inverted: the lowest value is white. window: (center, width), the first of several. rescale: (slope,
    intercept). aspect_ratio: a pixel's height to its width, in whole numbers.
    """

    is_inverted: bool
    window: tuple[float, float] | None
    voi_lut_function: str
    rescale: tuple[float, float] | None
    aspect_ratio: tuple[int, int]


def read_grayscale(header: Dataset) -> Grayscale | None:
    """None: it is in colour, or its values go through a look-up table or by rules that do not add up."""
    photometric = _text(header, "PhotometricInterpretation")
    window, rescale = _pair(header, "WindowCenter", "WindowWidth"), _pair(header, "RescaleSlope", "RescaleIntercept")
    function = _text(header, "VOILUTFunction") or "LINEAR"
    is_by_table = "ModalityLUTSequence" in header or ("VOILUTSequence" in header and window is None)
    is_whole = all(
        (
            photometric in ("MONOCHROME1", "MONOCHROME2"),
            window is not None or not _has_value(header, "WindowCenter", "WindowWidth"),
            rescale is not None or not _has_value(header, "RescaleSlope", "RescaleIntercept"),
            window is None or (window[1] >= (1 if function == "LINEAR" else 0) and window[1] > 0),
            rescale is None or rescale[0] != 0,
            function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
        )
    )
    if is_by_table or not is_whole:
        return None
    return Grayscale(
        is_inverted=photometric == "MONOCHROME1",
        window=window,
        voi_lut_function=function,
        rescale=rescale,
        aspect_ratio=_aspect_ratio(header),
    )


def _pair(header: Dataset, first: str, second: str) -> tuple[float, float] | None:
    """The first value of each."""
    values = [_text(header, keyword).split("\\")[0].strip() for keyword in (first, second)]
    if not all(DECIMAL.fullmatch(value) for value in values):
        return None
    return float(values[0]), float(values[1])


def _aspect_ratio(header: Dataset) -> tuple[int, int]:
    for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = [value.strip() for value in _text(header, keyword).split("\\")]
        if len(values) == 2 and all(DECIMAL.fullmatch(value) and float(value) > 0 for value in values):
            ratio = (Fraction(values[0]) / Fraction(values[1])).limit_denominator(1000)
            if Fraction(1, MOST_STRETCHED) <= ratio <= MOST_STRETCHED:
                return ratio.numerator, ratio.denominator
    return 1, 1


def _has_value(header: Dataset, *keywords: str) -> bool:
    return any(_text(header, keyword) for keyword in keywords)


def _text(header: Dataset, keyword: str) -> str:
    element = header.get_item(keyword) if keyword in header else None
    value = element.value if isinstance(element, RawDataElement) else None
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""
