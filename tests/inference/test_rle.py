"""Pictures that are compressed on their way: nothing of them is lost, and nothing else is changed."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from domain.findings import DisplayImage
from inference.rle import with_rle_lossless
from reports.write import write_results
from tests.factories.analyses import display, report_request
from tests.factories.sources import case, stored_study

SHAPES = {"a small page": (64, 56), "a page with odd sides": (501, 333), "a wide page": (100, 400)}


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def overlay(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    study = stored_study(case(3).make(), tmp_path)
    asked = report_request(study)
    shown = {uid: noisy(*request.param) for uid in asked.displays}
    return write_results(replace(asked, displays=shown), profile="sc_only")[0].content


def noisy(rows: int, columns: int) -> DisplayImage:
    pixels = np.random.default_rng(7).integers(0, 256, (rows, columns), np.uint8).tobytes()
    return replace(display(rows, columns), pixels=pixels)


@pytest.mark.parametrize("decoder", ["pydicom", "pylibjpeg"])
def test_the_picture_is_the_same_pixel_for_pixel(overlay: bytes, decoder: str) -> None:
    compressed = with_rle_lossless(overlay)
    assert pydicom.dcmread(BytesIO(compressed)).file_meta.TransferSyntaxUID == RLELossless
    decoded = pixel_array(BytesIO(compressed), decoding_plugin=decoder)
    assert (decoded == pixel_array(BytesIO(overlay))).all()


def test_nothing_but_the_pixels_is_changed(overlay: bytes) -> None:
    plain, compressed = (pydicom.dcmread(BytesIO(content)) for content in (overlay, with_rle_lossless(overlay)))
    for keyword in ("PatientName", "PatientID", "SpecificCharacterSet"):
        assert compressed.get_item(keyword) == plain.get_item(keyword)
    for dataset in (plain, compressed):
        del dataset.PixelData, dataset.PlanarConfiguration
    assert compressed == plain
