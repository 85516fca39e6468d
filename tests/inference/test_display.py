"""The greys are those that a viewer shows: window, inversion and the shape of a pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import Tag

from domain.errors import Refuse
from inference import pixels
from inference.preprocess import Preprocessing, Scaling
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


def look_up_table(entries: NDArray[Any], bits: int, *, first: int = 0, bytes_each: int = 2) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, bits]
    packed = entries.astype(np.uint8).tobytes() if bytes_each == 1 else entries.tobytes()
    table.add_new("LUTData", "OW", packed + b"\0" * (len(packed) % 2))
    return table


RISING: NDArray[Any] = np.arange(4096, dtype=np.uint16)


@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("table", "greys"),
    [
        (look_up_table(RISING, 12), [0, 24, 49, 73]),
        (look_up_table(RISING >> 4, 8), [0, 24, 49, 73]),
        (look_up_table(RISING >> 4, 8, bytes_each=1), [0, 24, 49, 73]),  # as PS3.3 C.11.2.1.1 has it
        (look_up_table(RISING[::-1] >> 4, 8, bytes_each=1), [100, 76, 51, 27]),
        (look_up_table(RISING[:2001] * 2, 12, first=1000), [0, 0, 49, 98]),
        (look_up_table(RISING[:1001] * 4, 12, first=1000), [0, 0, 98, 98]),
        (look_up_table(RISING[:255], 8, first=1999, bytes_each=1), [0, 0, 0, 100]),
    ],
    ids=["12 bits", "8 bits in words", "8 bits in bytes", "falling", "a few entries", "fewer", "an odd number"],
)
def test_greys_follow_a_voi_lut(
    tmp_path: Path, table: Dataset, greys: list[int], photometric_interpretation: str
) -> None:
    path = write_image(
        tmp_path / "image.dcm",
        PhotometricInterpretation=photometric_interpretation,
        VOILUTSequence=ItemSequence([table]),
    )
    expected = greys if photometric_interpretation == "MONOCHROME2" else [100 - grey for grey in greys]
    assert shown(path) == expected


@pytest.mark.parametrize(("bits", "bytes_each"), [(8, 1), (8, 2), (12, 2), (16, 2)])
def test_greys_follow_a_modality_lut_of_any_depth(tmp_path: Path, bits: int, bytes_each: int) -> None:
    entries = (RISING.astype(np.uint32) * ((1 << bits) - 1) // 4095).astype(np.uint16)
    table = look_up_table(entries, bits, bytes_each=bytes_each)
    table.ModalityLUTType = "US"
    path = write_image(tmp_path / "image.dcm", ModalityLUTSequence=ItemSequence([table]))
    assert shown(path) == pytest.approx([0, 28, 56, 84], abs=1)  # from the least value to the greatest


def test_values_far_behind_a_voi_lut_get_its_last_entry(tmp_path: Path) -> None:
    """Also where they are more than 65535 behind its first."""
    table = look_up_table(RISING, 12)
    path = write_image(
        tmp_path / "image.dcm", RescaleSlope=40, RescaleIntercept=0, VOILUTSequence=ItemSequence([table])
    )
    assert shown(path) == [0, 100, 100, 100]


@pytest.mark.parametrize(
    ("bits", "said", "message"),
    [
        (12, 4097, "a look-up table has 4096 entries, LUT Descriptor says 4097"),
        (12, 0, "a look-up table has 4096 entries, LUT Descriptor says 65536"),
        (32, 4096, "a look-up table of 32 bits is not read"),
    ],
)
def test_a_look_up_table_that_contradicts_its_descriptor_is_refused(
    tmp_path: Path, bits: int, said: int, message: str
) -> None:
    table = look_up_table(RISING, 12)
    table.LUTDescriptor = [said, 0, bits]
    path = write_image(tmp_path / "image.dcm", VOILUTSequence=ItemSequence([table]))
    with pytest.raises(Refuse) as refused:
        pixels.read(path)
    assert (refused.value.reason, refused.value.message) == ("unreadable_pixels", message)


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "PixelSpacing", "PixelAspectRatio"])
def test_a_number_that_is_none_is_as_if_it_were_not_said(tmp_path: Path, keyword: str) -> None:
    """Nothing is wrong with the pixels of a film whose writer put decimal commas."""
    path = write_image(tmp_path / "image.dcm", WindowCenter=2048, WindowWidth=4096, ImagerPixelSpacing=None)
    dataset = pydicom.dcmread(path)
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), 8, b"0,1\\0,1 ", 0, False, True)
    dataset.save_as(path)
    read = pixels.read(path)
    assert read.pixel_aspect == 1
    assert shown(path) == ([0, 28, 56, 84] if keyword.startswith("Window") else [0, 24, 49, 73])


def test_an_infinite_pixel_aspect_ratio_is_as_if_it_were_not_said(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.dcm", ImagerPixelSpacing=None, PixelAspectRatio=[123, 1])
    path.write_bytes(path.read_bytes().replace(b"123\\1 ", b"inf\\1 "))
    assert pixels.read(path).pixel_aspect == 1


def test_monochrome1_has_black_above_white(tmp_path: Path) -> None:
    read = pixels.read(write_image(tmp_path / "image.dcm", PhotometricInterpretation="MONOCHROME1"))
    assert (read.black, read.white) == (4095, 0)


@pytest.mark.parametrize(
    ("photometric_interpretation", "shape"),
    [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY"), ("MONOCHROME1", ""), ("MONOCHROME2", "LIN OD")],
)
def test_a_presentation_lut_shape_that_says_the_same_again_inverts_nothing(
    tmp_path: Path, photometric_interpretation: str, shape: str
) -> None:
    values = {"PhotometricInterpretation": photometric_interpretation}
    path = write_image(tmp_path / "image.dcm", PresentationLUTShape=shape, **values)
    assert shown(path) == shown(write_image(tmp_path / "plain.dcm", **values))


@pytest.mark.parametrize(
    ("photometric_interpretation", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")]
)
def test_a_film_of_which_viewers_do_not_agree_what_is_light_is_refused(
    tmp_path: Path, photometric_interpretation: str, shape: str
) -> None:
    path = write_image(
        tmp_path / "image.dcm", PhotometricInterpretation=photometric_interpretation, PresentationLUTShape=shape
    )
    with pytest.raises(Refuse) as refused:
        pixels.read(path)
    assert refused.value.reason == "unreadable_pixels"
    assert refused.value.message == (
        f"{photometric_interpretation} with Presentation LUT Shape {shape}: nobody knows what is to be light"
    )


FALLING_TABLE = ItemSequence([look_up_table(RISING[::-1], 12)])


@pytest.mark.parametrize("scaling", ["xrv_1024", "unit", "standardise"])
@pytest.mark.parametrize(
    "inverted_by",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048, "WindowWidth": 4096},
        {"VOILUTSequence": FALLING_TABLE},
    ],
    ids=["MONOCHROME1", "a negative slope", "a falling look-up table"],
)
def test_a_network_gets_the_same_of_a_film_that_is_stored_inverted_however_that_is_said(
    tmp_path: Path, inverted_by: dict[str, object], scaling: Scaling
) -> None:
    """Bones are light in what networks were taught, as they are to a reader."""
    preprocessing = Preprocessing(input_size=32, crop="centre_square", scaling=scaling)
    values = np.random.default_rng(0).integers(0, 4096, 64 * 56).astype(np.uint16)
    values[:2] = 0, 4095
    whole = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = pixels.read(write_image(tmp_path / "plain.dcm", PixelData=values.tobytes(), **whole))
    inverted = {**whole, **inverted_by, "PixelData": (4095 - values).tobytes()}
    turned = pixels.read(write_image(tmp_path / "inverted.dcm", **inverted))
    assert (turned.black, turned.white) == (4095, 0)
    assert pixels.grey_mean(turned) == pytest.approx(pixels.grey_mean(plain))
    np.testing.assert_allclose(
        pixels.network_input(turned, preprocessing), pixels.network_input(plain, preprocessing), atol=0.01
    )


@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("stored", "is_signed"), [(16, False), (16, True), (15, True)])
def test_a_film_that_is_next_to_one_grey_on_the_range_that_its_header_says_is_not_given_to_a_network_of_that_range(
    tmp_path: Path, photometric_interpretation: str, stored: int, is_signed: bool
) -> None:
    """Of 12 bits, in a header of 16; what shows it to a reader, its window, shows it to the other networks, too."""
    path = write_image(
        tmp_path / "image.dcm",
        PhotometricInterpretation=photometric_interpretation,
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=int(is_signed),
        WindowCenter=1500,
        WindowWidth=3000,
        PixelData=np.random.default_rng(0).normal(1500, 700, 64 * 56).clip(0, 4095).astype(np.uint16).tobytes(),
    )
    film = pixels.read(path)
    with pytest.raises(Refuse) as refused:
        pixels.network_input(film, Preprocessing(input_size=32, crop="centre_square", scaling="xrv_1024"))
    low, high = sorted((film.black, film.white))
    assert refused.value.reason == "unreadable_pixels"
    assert refused.value.message == (
        f"on the range from {low} to {high}, as Bits Stored says it, the film is next to one grey: "
        "the network would see nothing of it"
    )
    greys = pixels.network_input(film, Preprocessing(input_size=32, crop="centre_square", scaling="unit"))
    assert greys.std() > 0.05


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
