"""A network gets what it was taught on: the same crop, resize and scale as where it was made."""

from pathlib import Path

import numpy as np
import pytest
from skimage import transform

from inference import pixels
from inference.convert import import_torchxrayvision
from inference.preprocess import Box, Preprocessing, network_input, reduced, resized, seen_box

XRV = Preprocessing(input_size=224, crop="centre_square", scaling="xrv_1024")
WHOLE = Preprocessing(input_size=144, crop="none", scaling="standardise")


def noise(rows: int, columns: int) -> "np.typing.NDArray[np.uint16]":
    return np.random.default_rng(rows * columns).integers(0, 4096, (rows, columns), dtype=np.uint16)


@pytest.mark.parametrize(("rows", "columns"), [(224, 224), (225, 600), (620, 500), (150, 100), (2022, 2021)])
def test_the_input_of_an_xrv_network_equals_torchxrayvisions_own(rows: int, columns: int) -> None:
    xrv = import_torchxrayvision()
    image = noise(rows, columns)
    normalised = xrv.datasets.normalize(image.astype(np.float32), 4095)[np.newaxis]
    expected = xrv.datasets.XRayResizer(224, engine="skimage")(xrv.datasets.XRayCenterCrop()(normalised))
    ours = network_input(image, black=0, white=4095, preprocessing=XRV)
    assert ours.shape == expected.shape == (1, 224, 224)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 0.01  # of -1024 to 1024


@pytest.mark.parametrize(("rows", "columns"), [(144, 144), (500, 700), (90, 150)])
def test_resizing_without_a_border_equals_skimage_inside(rows: int, columns: int) -> None:
    image = noise(rows, columns).astype(np.float64) / 4095 * 2 - 1
    options = {"order": 1, "mode": "constant", "anti_aliasing": rows > 144 or columns > 144}
    expected = transform.resize(image, (144, 144), **options)  # type: ignore[no-untyped-call]
    ours = resized(noise(rows, columns), black=0, white=4095, preprocessing=WHOLE)[0]
    edge = 16
    assert np.abs(ours - expected)[edge:-edge, edge:-edge].max() < 1e-5


def test_a_standardised_input_does_not_depend_on_depth_or_range() -> None:
    image = noise(300, 300)
    ours = network_input(image, black=0, white=4095, preprocessing=WHOLE)
    brighter = network_input(image.astype(np.float64) * 7 + 900, black=0, white=65535, preprocessing=WHOLE)
    assert abs(float(ours.mean())) < 1e-6
    assert abs(float(ours.std()) - 1) < 1e-4
    np.testing.assert_allclose(ours, brighter, atol=1e-3)


def test_an_image_stored_inverted_becomes_the_same_input() -> None:
    image = noise(300, 260)
    ours = network_input(image, black=0, white=4095, preprocessing=XRV)
    inverted = network_input(4095 - image, black=4095, white=0, preprocessing=XRV)
    np.testing.assert_allclose(ours, inverted, atol=0.01)


@pytest.mark.parametrize("length", [16, 143, 144, 145, 1000])
def test_without_padding_every_output_pixel_is_a_mean_of_input_pixels(length: int) -> None:
    np.testing.assert_allclose(reduced(np.ones((length, 20)), rows=144, columns=9), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [
        (100, 60, Box(left=0, top=20, width=60, height=60)),
        (60, 101, Box(left=20, top=0, width=60, height=60)),
        (60, 60, Box(left=0, top=0, width=60, height=60)),
    ],
)
def test_the_centre_square_is_seen(rows: int, columns: int, box: Box) -> None:
    assert seen_box(rows, columns, "centre_square") == box
    assert seen_box(rows, columns, "none") == Box(left=0, top=0, width=columns, height=rows)


def test_a_real_chest_becomes_what_torchxrayvision_makes_of_it(shared_data: Path) -> None:
    xrv = import_torchxrayvision()
    radiograph = pixels.read(shared_data / "dicom" / "xrv_chest.dcm")
    normalised = xrv.datasets.normalize(radiograph.stored.astype(np.float32), 255)[np.newaxis]
    expected = xrv.datasets.XRayResizer(224, engine="skimage")(xrv.datasets.XRayCenterCrop()(normalised))
    assert np.abs(pixels.network_input(radiograph, XRV) - expected).max() < 0.01
