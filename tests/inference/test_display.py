"""The greys are those that a viewer shows: window, inversion and the shape of a pixel."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from inference import pixels
from inference.presentation import MAX_GREY
from tests.inference.images import write_image


def shown(path: Path) -> list[int]:
    """Greys of the stored values 0, 1000, 2000 and 3000, in percent of white."""
    greys = pixels.read(path).greys.ravel()
    return [round(100 * int(greys[value]) / MAX_GREY) for value in (0, 1000, 2000, 3000)]


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ({}, [0, 28, 56, 84]),  # from the least value, 0, to the greatest, 3583
        ({"PhotometricInterpretation": "MONOCHROME1"}, [100, 72, 44, 16]),
        ({"WindowCenter": 1500.5, "WindowWidth": 3001}, [0, 33, 67, 100]),
        ({"WindowCenter": ["1500.5", "9"], "WindowWidth": ["3001", "9"]}, [0, 33, 67, 100]),
        ({"WindowCenter": 2000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 50, 100]),
        ({"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "SIGMOID"}, [12, 27, 50, 73]),
        ({"WindowCenter": 500, "WindowWidth": 1001, "RescaleSlope": 0.5, "RescaleIntercept": -500}, [0, 0, 50, 100]),
        ({"WindowCenter": 90000, "WindowWidth": 10}, [0, 28, 56, 84]),  # a window beside all values shows nothing
        ({"WindowCenter": 1000, "WindowWidth": 0}, [0, 28, 56, 84]),
        ({"WindowCenter": None, "WindowWidth": 100}, [0, 28, 56, 84]),
    ],
    ids=lambda value: "".join(f"{key}={item} " for key, item in value.items()) if isinstance(value, dict) else "",
)
def test_greys_follow_window_and_photometric_interpretation(
    tmp_path: Path, values: dict[str, object], greys: list[int]
) -> None:
    assert shown(write_image(tmp_path / "image.dcm", **values)) == greys


def test_monochrome1_has_black_above_white(tmp_path: Path) -> None:
    read = pixels.read(write_image(tmp_path / "image.dcm", PhotometricInterpretation="MONOCHROME1"))
    assert (read.black, read.white) == (4095, 0)


def test_a_real_chest_stored_inverted_is_shown_with_a_light_spine_on_dark_lungs() -> None:
    path = get_testdata_file("RG1_UNCR.dcm")
    assert isinstance(path, str)
    assert pydicom.dcmread(path, stop_before_pixels=True).PhotometricInterpretation == "MONOCHROME1"
    greys = pixels.read(path).greys
    rows, columns = greys.shape
    middle = slice(rows * 2 // 5, rows * 3 // 5)
    spine = greys[middle, columns * 48 // 100 : columns * 52 // 100].mean()
    lungs = greys[middle, columns // 5 : columns // 3].mean()
    assert spine > lungs


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"ImagerPixelSpacing": [0.4, 0.2]}, (64 * 2, 56)),  # twice as high as wide: each row is shown as two
        ({"ImagerPixelSpacing": [0.2, 0.4]}, (64, 56 * 2)),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [2, 1]}, (64 * 2, 56)),
        ({"PixelSpacing": [0.0, 0.0], "ImagerPixelSpacing": None}, (64, 56)),  # as in WG-04's RG1
        ({"PixelSpacing": [1000.0, 0.001], "ImagerPixelSpacing": None}, (64, 56)),
        ({"ImagerPixelSpacing": None}, (64, 56)),
    ],
)
def test_shown_pixels_are_square(tmp_path: Path, values: dict[str, object], size: tuple[int, int]) -> None:
    image = pixels.display_image(pixels.read(write_image(tmp_path / "image.dcm", **values)), within=[(1000, 1000)])
    assert (image.rows, image.columns) == size
    assert (image.source_rows, image.source_columns) == (64, 56)
    assert len(image.pixels) == image.rows * image.columns


def test_a_large_image_is_shown_no_larger_than_asked() -> None:
    greys = np.zeros((3000, 2400), np.uint16)
    image = pixels.display_image(pixels.unwindowed(greys, white=MAX_GREY), within=[(1500, 1500), (9999, 600)])
    assert (image.rows, image.columns) == (1500, 1200)


@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_a_large_image_shown_smaller_has_the_same_greys_in_the_same_places(
    tmp_path: Path, photometric_interpretation: str
) -> None:
    down, across = np.meshgrid(np.linspace(0, 1500, 400), np.linspace(0, 2500, 300), indexing="ij")
    path = write_image(
        tmp_path / "image.dcm",
        Rows=400,
        Columns=300,
        PhotometricInterpretation=photometric_interpretation,
        WindowCenter=2000,
        WindowWidth=3000,
        ImagerPixelSpacing=None,
        PixelData=(down + across).astype(np.uint16).tobytes(),
    )
    radiograph = pixels.read(path)
    image = pixels.display_image(radiograph, within=[(150, 200)])
    expected = (radiograph.greys / 256).reshape(200, 2, 150, 2).mean(axis=(1, 3))
    shown = np.frombuffer(image.pixels, np.uint8).reshape(image.rows, image.columns)
    edge = 4
    assert np.abs(shown - expected)[edge:-edge, edge:-edge].max() <= 1.5


def test_an_image_that_fits_is_shown_pixel_by_pixel(tmp_path: Path) -> None:
    radiograph = pixels.read(write_image(tmp_path / "image.dcm"))
    image = pixels.display_image(radiograph, within=[(56, 64)])
    np.testing.assert_array_equal(np.frombuffer(image.pixels, np.uint8).reshape(64, 56), radiograph.greys >> 8)
