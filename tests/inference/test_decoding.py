"""Pixels come out as other decoders give them, or not at all, with a reason."""

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from domain.errors import Refuse
from inference import pixel_data, pixels
from tests.factories.sources import radiograph
from tests.inference.images import frame_0, write, write_image

DECODED_BY_DCMTK = {
    "CR-ModalitySequenceLUT.dcm": "dcmdjpeg",
    "JPLL_RG3_JPLL": "dcmdjpeg",
    "xrv_chest.dcm": "dcmdjpeg",
    "JLSL_RG3_JLSL": "dcmdjpls",
    "JLSN_RG1_JLSN": "dcmdjpls",
    "RLE_RG3_RLE": "dcmdrle",
    "D_CLUNIE_CT1_RLE_FRAGS.dcm": "dcmdrle",
}
# JPEG Lossless with each selection value (ISO/IEC 10918-1 H.1.2.1), of 1 also as .70; JPEG-LS; RLE.
ENCODED_BY_DCMTK = (
    *(("dcmcjpeg", "+el", "+sv", str(value)) for value in range(1, 8)),
    ("dcmcjpeg", "+e1"),
    ("dcmcjpls",),
    ("dcmcrle",),
)
LARGEST_DIFFERENCE_FROM_THE_ORIGINAL = {
    "JPLL_RG3_JPLL": 0,
    "JLSL_RG3_JLSL": 0,
    "RLE_RG3_RLE": 0,
    "J2KR_RG3_J2KR": 0,
    "J2KI_RG3_J2KI": 9,
    "JPLY_RG3_JPLY": 48,
    "JLSN_RG1_JLSN": 4,
    "J2KI_RG1_J2KI": 403,  # of 32767
}


def refusal(path: Path) -> Refuse:
    with pytest.raises(Refuse) as caught:
        pixels.read(path)
    return caught.value


@pytest.mark.parametrize(("file", "program"), DECODED_BY_DCMTK.items())
def test_pixels_equal_those_of_dcmtk(
    shared_data: Path, require_program: Callable[[str], str], tmp_path: Path, file: str, program: str
) -> None:
    source = shared_data / "dicom" / file
    subprocess.run([require_program(program), source, tmp_path / "decoded.dcm"], check=True)
    np.testing.assert_array_equal(pixels.read(source).stored, frame_0(tmp_path / "decoded.dcm"))


def test_12_bit_jpeg_extended_equals_dcmtk_but_for_values_beyond_bits_stored(
    shared_data: Path, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    source = shared_data / "dicom" / "JPLY_RG3_JPLY"
    subprocess.run([require_program("dcmdjpeg"), source, tmp_path / "decoded.dcm"], check=True)
    by_dcmtk = frame_0(tmp_path / "decoded.dcm")
    assert by_dcmtk.max() == 1024  # of 10 bits: the codec's overshoot, white, must not wrap round to black
    np.testing.assert_array_equal(pixels.read(source).stored, np.minimum(by_dcmtk, 1023))


@pytest.mark.parametrize(("file", "difference"), LARGEST_DIFFERENCE_FROM_THE_ORIGINAL.items())
def test_a_compressed_file_holds_the_pixels_of_the_original(shared_data: Path, file: str, difference: int) -> None:
    original = get_testdata_file(f"{file.split('_')[1]}_UNCR.dcm")
    assert isinstance(original, str)
    decoded = pixels.read(shared_data / "dicom" / file).stored.astype(np.int64)
    assert np.abs(decoded - frame_0(original)).max() == difference


@pytest.mark.parametrize(
    ("file", "reason", "message"),
    [
        ("GH178.dcm", "no_image", "there is no Pixel Data (7FE0,0010)"),
        ("GH1261.dcm", "unreadable_pixels", "every pixel has the same value"),
    ],
)
def test_a_file_without_a_usable_image_is_refused_with_a_reason(
    shared_data: Path, file: str, reason: str, message: str
) -> None:
    refused = refusal(shared_data / "dicom" / file)
    assert (refused.reason, refused.message) == (reason, message)


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits_stored", [8, 10, 12, 16])
@pytest.mark.parametrize("command", ENCODED_BY_DCMTK, ids=" ".join)
def test_what_dcmtk_encodes_without_loss_is_decoded_to_the_same_pixels(
    require_program: Callable[[str], str], tmp_path: Path, command: tuple[str, ...], bits_stored: int, is_signed: bool
) -> None:
    low = -(1 << (bits_stored - 1)) if is_signed else 0
    values = np.random.default_rng(bits_stored).integers(low, low + (1 << bits_stored), 64 * 56)
    sample = np.uint8 if bits_stored == 8 else np.uint16
    write_image(
        tmp_path / "plain.dcm",
        BitsAllocated=8 * sample().itemsize,
        BitsStored=bits_stored,
        HighBit=bits_stored - 1,
        PixelRepresentation=int(is_signed),
        PixelData=(values & ((1 << bits_stored) - 1)).astype(sample).tobytes(),
    )
    program, *options = command
    subprocess.run(
        [require_program(program), *options, tmp_path / "plain.dcm", tmp_path / "encoded.dcm"],
        check=True,
        capture_output=True,
    )
    assert pydicom.dcmread(tmp_path / "encoded.dcm", stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(pixels.read(tmp_path / "encoded.dcm").stored.ravel(), values)


@pytest.mark.parametrize("bits_stored", [8, 12])
@pytest.mark.parametrize("photometric_interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("command", ENCODED_BY_DCMTK[-3:], ids=" ".join)
def test_an_image_of_an_odd_number_of_pixels_is_decoded_to_the_same_pixels(
    require_program: Callable[[str], str],
    tmp_path: Path,
    command: tuple[str, ...],
    photometric_interpretation: str,
    bits_stored: int,
) -> None:
    values = np.random.default_rng(bits_stored).integers(0, 1 << bits_stored, (17, 31))
    sample = np.uint8 if bits_stored == 8 else np.uint16
    content = values.astype(sample).tobytes()
    write_image(
        tmp_path / "plain.dcm",
        Rows=17,
        Columns=31,
        PhotometricInterpretation=photometric_interpretation,
        BitsAllocated=8 * sample().itemsize,
        BitsStored=bits_stored,
        HighBit=bits_stored - 1,
        PixelData=content + b"\0" * (len(content) % 2),
    )
    program, *options = command
    subprocess.run(
        [require_program(program), *options, tmp_path / "plain.dcm", tmp_path / "encoded.dcm"],
        check=True,
        capture_output=True,
    )
    np.testing.assert_array_equal(pixels.read(tmp_path / "encoded.dcm").stored, values)


@pytest.mark.parametrize(
    ("frames", "fragments", "has_offsets"),
    [(1, 1, True), (1, 1, False), (1, 3, True), (1, 3, False), (2, 1, True), (2, 1, False), (2, 3, True)],
)
def test_the_first_frame_is_read_however_it_lies_in_the_file(
    shared_data: Path, tmp_path: Path, frames: int, fragments: int, has_offsets: bool
) -> None:
    source = shared_data / "dicom" / "JPLL_RG3_JPLL"
    dataset = pydicom.dcmread(source)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    others = [frame[:1000] + frame[1000:][::-1]] * (frames - 1)  # no image at all
    dataset.PixelData = encapsulate([frame, *others], fragments_per_frame=fragments, has_bot=has_offsets)
    dataset.NumberOfFrames = frames
    path = write(dataset, tmp_path / "image.dcm")
    np.testing.assert_array_equal(pixels.read(path).stored, pixels.read(source).stored)


@pytest.mark.parametrize("rows", [63, 65])
def test_an_rle_frame_of_more_or_fewer_pixels_than_the_header_says_is_refused(
    require_program: Callable[[str], str], tmp_path: Path, rows: int
) -> None:
    write_image(tmp_path / "plain.dcm")
    program = require_program("dcmcrle")
    subprocess.run([program, tmp_path / "plain.dcm", tmp_path / "encoded.dcm"], check=True, capture_output=True)
    dataset = pydicom.dcmread(tmp_path / "encoded.dcm")
    dataset.Rows = rows
    assert refusal(write(dataset, tmp_path / "other.dcm")).reason == "unreadable_pixels"


@pytest.mark.parametrize("value", [0, 1, 4095])
@pytest.mark.parametrize("command", [(), *ENCODED_BY_DCMTK[-3:]], ids=" ".join)
def test_a_frame_of_one_value_is_refused_in_every_encoding(
    require_program: Callable[[str], str], tmp_path: Path, command: tuple[str, ...], value: int
) -> None:
    path = write_image(tmp_path / "plain.dcm", PixelData=np.full(64 * 56, value, np.uint16).tobytes())
    if command:
        program, *options = command
        subprocess.run([require_program(program), *options, path, tmp_path / "encoded.dcm"], check=True)
        path = tmp_path / "encoded.dcm"
    refused = refusal(path)
    assert (refused.reason, refused.message) == ("unreadable_pixels", "every pixel has the same value")


def test_dcmtk_sees_only_one_value_in_the_shared_file_that_is_refused_for_it(
    shared_data: Path, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    source = shared_data / "dicom" / "GH1261.dcm"
    subprocess.run([require_program("dcmdjpeg"), source, tmp_path / "decoded.dcm"], check=True)
    assert np.ptp(frame_0(tmp_path / "decoded.dcm")) == 0


def test_every_shared_file_is_covered_by_these_tests(shared_data: Path) -> None:
    refused = {"GH178.dcm", "GH1261.dcm"}
    files = {path.name for path in (shared_data / "dicom").iterdir()}
    assert files == {*DECODED_BY_DCMTK, *LARGEST_DIFFERENCE_FROM_THE_ORIGINAL, *refused}


@pytest.mark.parametrize("transfer_syntax_uid", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_pixels_are_read_in_every_encoding(tmp_path: Path, transfer_syntax_uid: str) -> None:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    read = pixels.read(write(dataset, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(read.stored, np.arange(64 * 56).reshape(64, 56))


def test_uncompressed_pixels_of_which_nothing_says_where_they_end_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.dcm")
    tag, size = b"\xe0\x7f\x10\x00OW\0\0", (64 * 56 * 2).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(tag + size) == 1
    path.write_bytes(content.replace(tag + size, tag + b"\xff\xff\xff\xff"))
    assert "uncompressed pixels without a length" in refusal(path).message


def test_what_lies_behind_the_pixels_is_none_of_them(tmp_path: Path) -> None:
    """A short Pixel Data is not filled up with the attribute that follows."""
    dataset = radiograph(1)
    dataset.PixelData = dataset.PixelData[:-100]
    dataset.add_new(0xFFFCFFFC, "OB", b"\x07" * 200)  # Data Set Trailing Padding (PS3.10 7.2)
    assert "cannot be decoded" in refusal(write(dataset, tmp_path / "image.dcm")).message


def test_pixels_stay_what_they_were_when_their_file_is_removed(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.dcm")
    read = pixels.read(path)
    path.unlink()
    np.testing.assert_array_equal(read.stored.ravel(), np.arange(64 * 56))


def test_big_endian_pixels_are_read(tmp_path: Path) -> None:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = np.arange(64 * 56, dtype=">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    read = pixels.read(write(dataset, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(read.stored, np.arange(64 * 56).reshape(64, 56))


@pytest.mark.parametrize("value_representation", ["OB", "OW"])
def test_big_endian_pixels_of_8_bits_equal_those_of_dcmtk_in_bytes_and_in_words(
    require_program: Callable[[str], str], tmp_path: Path, value_representation: str
) -> None:
    """In words each two of them lie the other way round."""
    values = np.arange(64 * 56, dtype=np.uint32) % 251
    dataset = radiograph(1)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = values.astype(np.uint8).tobytes()
    dataset["PixelData"].VR = value_representation
    write(dataset, tmp_path / "little.dcm")
    program = require_program("dcmconv")
    subprocess.run([program, "+tb", tmp_path / "little.dcm", tmp_path / "big.dcm"], check=True)
    big = pydicom.dcmread(tmp_path / "big.dcm")
    assert (big.file_meta.TransferSyntaxUID, big["PixelData"].VR) == (ExplicitVRBigEndian, value_representation)
    np.testing.assert_array_equal(pixels.read(tmp_path / "big.dcm").stored.ravel(), values)


def test_signed_pixels_keep_their_sign(tmp_path: Path) -> None:
    values = np.arange(-2000, -2000 + 64 * 56, dtype=np.int16)
    path = write_image(tmp_path / "image.dcm", PixelRepresentation=1, PixelData=(values & 0xFFF).tobytes())
    read = pixels.read(path)
    np.testing.assert_array_equal(read.stored.ravel(), values)
    assert (read.black, read.white) == (-2048, 2047)


@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "empty"])
def test_a_high_bit_that_is_not_said_is_the_highest_of_bits_stored(tmp_path: Path, is_there: bool) -> None:
    dataset = radiograph(1)
    del dataset.HighBit
    if is_there:
        dataset.HighBit = None
    read = pixels.read(write(dataset, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(read.stored.ravel(), np.arange(64 * 56))


def test_an_overlay_in_the_unused_bits_is_masked_away(tmp_path: Path) -> None:
    values = np.arange(64 * 56, dtype=np.uint16) | np.uint16(0x8000)
    read = pixels.read(write_image(tmp_path / "image.dcm", PixelData=values.tobytes()))
    np.testing.assert_array_equal(read.stored.ravel(), np.arange(64 * 56))


@pytest.mark.parametrize("photometric_interpretation", ["RGB", "YBR_FULL"])
def test_colours_reach_from_black_to_white_whatever_sign_the_header_gives_them(
    tmp_path: Path, photometric_interpretation: str
) -> None:
    colours = np.repeat(np.arange(64 * 56, dtype=np.uint32) % 256, 3).astype(np.uint8)
    read = pixels.read(
        write_image(
            tmp_path / "image.dcm",
            PhotometricInterpretation=photometric_interpretation,
            PixelRepresentation=1,
            PixelData=colours.tobytes(),
            **IN_COLOUR,
        )
    )
    assert (read.black, read.white, read.stored.min(), read.stored.max()) == (0, 255, 0, 255)


def test_an_rgb_image_becomes_its_luma(tmp_path: Path) -> None:
    colours = np.zeros((64, 56, 3), np.uint8)
    colours[:, :28] = (255, 0, 0)
    path = write_image(
        tmp_path / "image.dcm",
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=colours.tobytes(),
    )
    assert set(np.unique(pixels.read(path).stored)) == {0, 76}


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_picture_that_is_no_dicom_file_is_read(tmp_path: Path, mode: str) -> None:
    greys = np.arange(64 * 56).reshape(64, 56) // 16
    picture = (
        Image.fromarray((greys * 256).astype(np.uint16)) if mode == "I;16" else Image.fromarray(greys.astype("u1"))
    )
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "image.png")
    read = pixels.read(tmp_path / "image.png")
    np.testing.assert_array_equal(read.greys >> 8, greys)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"PixelData": None}, "there is no Pixel Data"),
        ({"Rows": None}, "missing: Rows"),
        ({"PhotometricInterpretation": None, "BitsStored": None}, "missing: PhotometricInterpretation, BitsStored"),
        ({"Rows": 60000, "Columns": 60000}, "60000 rows and 60000 columns"),
        ({"Rows": 8}, "8 rows and 56 columns"),
        ({"Rows": 65}, "cannot be decoded"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "'PALETTE COLOR' is not read"),
        ({"BitsAllocated": 32}, "1 samples of 32 bits are not read"),
        ({"BitsStored": 17}, "Bits Stored 17"),
        ({"HighBit": 16}, "High Bit 16 do not fit 16 bits"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 8}, "High Bit 8 do not fit 8 bits"),
        ({"PixelRepresentation": 2}, "Pixel Representation 2 is neither 0 nor 1"),
        ({"PixelData": bytes(64 * 56 * 2)}, "every pixel has the same value"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    refused = refusal(write_image(tmp_path / "image.dcm", **values))
    assert message in refused.message
    assert refused.reason in ("no_image", "unreadable_pixels")


def test_an_unknown_transfer_syntax_is_refused_by_name(tmp_path: Path) -> None:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([b"\xff\x4f"])
    dataset["PixelData"].VR = "OB"
    assert "High-Throughput JPEG 2000" in refusal(write(dataset, tmp_path / "image.dcm")).message


def test_what_a_file_says_of_itself_is_told_in_one_line(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.dcm")
    content = path.read_bytes()
    assert content.count(b"1.2.840.10008.1.2.1\0") == 1
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.1\r\n\x1b[0m\x85.12\0"))
    assert refusal(path).message == "the transfer syntax 1.2.840.1   [0m .12 is not read"


def test_a_codestream_of_another_size_than_the_header_says_is_refused(shared_data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(shared_data / "dicom" / "JPLL_RG3_JPLL")
    dataset.Rows = 1000
    assert "(1760, 1760)" in refusal(write(dataset, tmp_path / "image.dcm")).message


@pytest.mark.parametrize(
    "file", ["JPLL_RG3_JPLL", "JPLY_RG3_JPLY", "xrv_chest.dcm", "JLSL_RG3_JLSL", "J2KR_RG3_J2KR", "RLE_RG3_RLE"]
)
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_stream_that_is_cut_off_is_refused(shared_data: Path, tmp_path: Path, file: str, kept: float) -> None:
    dataset = pydicom.dcmread(shared_data / "dicom" / file)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: int(len(stream) * kept)]])
    assert refusal(write(dataset, tmp_path / "image.dcm")).reason == "unreadable_pixels"


@pytest.mark.parametrize("kept", [200, 1000, 3333])
@pytest.mark.parametrize("end", [b"", b"\0", bytes(16)], ids=["", "a zero", "zeros"])
def test_a_jpeg_ls_stream_without_an_end_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, kept: int
) -> None:
    """CharLS would look for it as long as the process may live."""
    stream = bytes(imagecodecs.jpegls_encode(np.random.default_rng(1).integers(0, 4096, (64, 56), np.uint16)))
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda *_: pytest.fail("it is decoded"))
    refused = refusal(encoded(tmp_path / "image.dcm", JPEGLSLossless, stream[:kept] + end))
    assert (refused.reason, refused.message) == ("unreadable_pixels", "the JPEG stream ends too early")


@pytest.mark.parametrize("bits_stored", [7, 8])
def test_a_sign_in_the_bits_above_bits_stored_is_no_other_value(tmp_path: Path, bits_stored: int) -> None:
    """A stream of 8 bits has fewer of them than the words in which pixels are kept here."""
    half = 1 << (bits_stored - 1)
    values = (np.arange(64 * 56) % (2 * half) - half).astype(np.int8).reshape(64, 56)
    path = encoded(
        tmp_path / "image.dcm",
        JPEGLSLossless,
        bytes(imagecodecs.jpegls_encode(values.view(np.uint8))),
        PixelRepresentation=1,
        **{**GREY_OF_8_BITS, "BitsStored": bits_stored, "HighBit": bits_stored - 1},
    )
    np.testing.assert_array_equal(pixels.read(path).stored, values)


GREY_OF_8_BITS: dict[str, object] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500])
def test_bytes_that_are_no_image_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.dcm").write_bytes(content)
    assert refusal(tmp_path / "image.dcm").reason in ("no_image", "unreadable_pixels")


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.dcm").message == "the file cannot be read: No such file or directory"


def encoded(path: Path, transfer_syntax_uid: UID, stream: bytes, **values: object) -> Path:
    """The plain radiograph as this stream."""
    dataset = radiograph(1)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    return write(dataset, path)


@pytest.mark.parametrize(
    ("slope", "intercept", "message"),
    [
        ("0", "0", "the modality LUT makes every pixel the same value"),
        ("0", "1000", "the modality LUT makes every pixel the same value"),
        ("nan", "0", "the modality LUT makes values that are not finite"),
        ("inf", "0", "the modality LUT makes values that are not finite"),
        ("1e308", "1e308", "the modality LUT makes values that are not finite"),
        ("1", "1e30", "the modality LUT makes every pixel the same value"),
        ("1e-20", "0", "every pixel is shown in the same grey"),
        ("", "", "Rescale Slope or Rescale Intercept is empty"),
    ],
)
def test_a_film_that_is_lost_in_its_rescaling_is_refused(
    tmp_path: Path, slope: str, intercept: str, message: str
) -> None:
    refused = refusal(write_image(tmp_path / "image.dcm", RescaleSlope=slope, RescaleIntercept=intercept))
    assert (refused.reason, refused.message) == ("unreadable_pixels", message)


def test_a_film_that_a_modality_lut_makes_constant_is_refused(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.add_new("LUTData", "OW", np.full(4096, 7, np.uint16).tobytes())
    refused = refusal(write_image(tmp_path / "image.dcm", ModalityLUTSequence=ItemSequence([table])))
    assert refused.message == "the modality LUT makes every pixel the same value"


def test_a_film_of_two_values_that_look_alike_is_refused(tmp_path: Path) -> None:
    """What lies between the two would look different, but does not occur."""
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new("LUTData", "OW", np.array([9, *range(100, 4194), 9], np.uint16).tobytes())
    values = np.repeat(np.array([0, 4095], np.uint16), 64 * 28)
    path = write_image(tmp_path / "image.dcm", VOILUTSequence=ItemSequence([table]), PixelData=values.tobytes())
    assert refusal(path).message == "every pixel is shown in the same grey"


def film(bits: int, *, bottom: int | None = None) -> NDArray[np.uint16]:
    """With noise; its lower half has one value, if any."""
    values = np.random.default_rng(bits).normal(0.5, 0.1, (203, 181)).clip(0, 1) * ((1 << bits) - 1)
    if bottom is not None:
        values[100:] = bottom
    return values.astype(np.uint16)


def lossless(values: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=12))


def extended(values: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, level=90, bitspersample=12))


def baseline(values: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values.astype(np.uint8), level=90))


def with_restarts(values: NDArray[np.uint16]) -> bytes:
    """An interval of 23 blocks is a row of them."""
    buffer = BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "JPEG", quality=90, restart_marker_blocks=23)
    return buffer.getvalue()


JPEGS = {
    "lossless": (lossless, JPEGLosslessSV1, 12),
    "extended": (extended, JPEGExtended12Bit, 12),
    "baseline": (baseline, JPEGBaseline8Bit, 8),
    "with restarts": (with_restarts, JPEGBaseline8Bit, 8),
}
Encode = Callable[[NDArray[np.uint16]], bytes]


def eight_or_twelve(bits: int) -> dict[str, object]:
    allocated = 8 if bits == 8 else 16
    return {"Rows": 203, "Columns": 181, "BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1}


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("what", ["is cut off", "has lost a tenth", "begins a marker where it is cut"])
@pytest.mark.parametrize(("encode", "transfer_syntax_uid", "bits"), JPEGS.values(), ids=list(JPEGS))
def test_a_jpeg_stream_of_which_a_part_is_missing_is_refused_though_its_end_marker_is_there(
    tmp_path: Path, encode: Encode, transfer_syntax_uid: UID, bits: int, what: str, kept: float
) -> None:
    """libjpeg makes grey of it, and only warns."""
    stream = encode(film(bits))
    at = int(len(stream) * kept)
    rest = {
        "is cut off": b"\xff\xd9",
        "has lost a tenth": stream[at + len(stream) // 10 - 50 :],
        "begins a marker where it is cut": b"\xff\x01" + stream[at + len(stream) // 10 - 50 :],
    }[what]
    path = encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream[:at] + rest, **eight_or_twelve(bits))
    refused = refusal(path)
    assert refused.reason == "unreadable_pixels"
    assert refused.message == "a part of the JPEG stream is missing"


@pytest.mark.parametrize("lost", [3, 20])
@pytest.mark.parametrize("name", ["extended", "baseline", "with restarts"])
def test_a_lossy_jpeg_stream_that_lacks_a_piece_of_its_last_block_is_refused(
    tmp_path: Path, name: str, lost: int
) -> None:
    """As one does that lost a byte anywhere, where the decoder needs more of the rest for as many blocks."""
    encode, transfer_syntax_uid, bits = JPEGS[name]
    stream = encode(film(bits))[: -2 - lost] + b"\xff\xd9"
    refused = refusal(encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream, **eight_or_twelve(bits)))
    assert refused.message == "a part of the JPEG stream is missing"


@pytest.mark.parametrize("lost", [1, 2, 3, 100])
@pytest.mark.parametrize("codec", ["J2K", "JP2"])
def test_a_jpeg_2000_stream_that_lost_some_bytes_is_refused_though_it_could_be_decoded(
    tmp_path: Path, codec: str, lost: int
) -> None:
    stream = bytes(imagecodecs.jpeg2k_encode(film(12), level=0, codecformat=codec, reversible=True, bitspersample=12))
    values = eight_or_twelve(12)
    path = encoded(tmp_path / "image.dcm", JPEG2000Lossless, stream + bytes(len(stream) % 2), **values)
    np.testing.assert_array_equal(pixels.read(path).stored, film(12))
    path = encoded(tmp_path / "image.dcm", JPEG2000Lossless, stream[:20_000] + stream[20_000 + lost :], **values)
    assert refusal(path).message == "a part of the JPEG 2000 stream is missing"


def test_a_jpeg_2000_stream_whose_last_tile_part_reaches_to_the_end_is_read(tmp_path: Path) -> None:
    """Its length is 0 then (ISO/IEC 15444-1 A.4.2)."""
    stream = jpeg_2000(SMALL, 12)
    at = stream.index(b"\xff\x90") + 6
    path = encoded(tmp_path / "image.dcm", JPEG2000Lossless, stream[:at] + bytes(4) + stream[at + 4 :])
    np.testing.assert_array_equal(pixels.read(path).stored, SMALL)
    path = encoded(tmp_path / "image.dcm", JPEG2000Lossless, stream[:at] + bytes(4) + stream[at + 4 : -20])
    assert refusal(path).reason == "unreadable_pixels"


@pytest.mark.parametrize("bottom", ["black", "white", "middle grey"])
@pytest.mark.parametrize("padding", [b"", b"\0", bytes(6)])
@pytest.mark.parametrize(("encode", "transfer_syntax_uid", "bits"), JPEGS.values(), ids=list(JPEGS))
def test_a_film_is_read_whatever_grey_its_lower_half_has(
    tmp_path: Path, encode: Encode, transfer_syntax_uid: UID, bits: int, padding: bytes, bottom: str
) -> None:
    value = {"black": 0, "white": (1 << bits) - 1, "middle grey": 1 << (bits - 1)}[bottom]
    stream = encode(film(bits, bottom=value))
    path = encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream + padding, **eight_or_twelve(bits))
    read = pixels.read(path).stored
    np.testing.assert_array_equal(read, imagecodecs.jpeg8_decode(stream))
    assert set(np.unique(read[-90:])) == {value}


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "encode"),
    [
        (JPEGLSLossless, lambda colours: imagecodecs.jpegls_encode(colours)),
        (JPEGLosslessSV1, lambda colours: imagecodecs.jpeg8_encode(colours, lossless=True, outcolorspace="RGB")),
        (JPEG2000Lossless, lambda colours: imagecodecs.jpeg2k_encode(colours, level=0, codecformat="J2K", mct=False)),
    ],
    ids=["JPEG-LS", "JPEG Lossless", "JPEG 2000"],
)
@pytest.mark.parametrize(
    ("photometric_interpretation", "red", "blue"),
    [("RGB", (255, 0, 0), (0, 0, 255)), ("YBR_FULL", (76, 85, 255), (29, 255, 107))],
)
def test_colours_become_their_luma_whatever_they_are_made_of(
    tmp_path: Path,
    photometric_interpretation: str,
    red: tuple[int, int, int],
    blue: tuple[int, int, int],
    transfer_syntax_uid: UID,
    encode: Callable[[NDArray[np.uint8]], bytes],
) -> None:
    colours = np.empty((64, 56, 3), np.uint8)
    colours[:, :28], colours[:, 28:] = red, blue
    path = encoded(
        tmp_path / "image.dcm",
        transfer_syntax_uid,
        bytes(encode(colours)),
        PhotometricInterpretation=photometric_interpretation,
        **IN_COLOUR,
    )
    read = pixels.read(path).stored
    assert (read[0, 0], read[0, -1]) == (76, 29)


IN_COLOUR: dict[str, object] = {
    "SamplesPerPixel": 3,
    "PlanarConfiguration": 0,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
}


def test_what_jpeg_2000_turns_back_to_rgb_itself_becomes_its_luma(tmp_path: Path) -> None:
    colours = np.empty((64, 56, 3), np.uint8)
    colours[:, :28], colours[:, 28:] = (255, 0, 0), (0, 0, 255)
    stream = imagecodecs.jpeg2k_encode(colours, level=0, codecformat="J2K", reversible=True, mct=True)
    path = encoded(
        tmp_path / "image.dcm", JPEG2000Lossless, bytes(stream), PhotometricInterpretation="YBR_RCT", **IN_COLOUR
    )
    read = pixels.read(path).stored
    assert (read[0, 0], read[0, -1]) == (76, 29)


SMALL = np.arange(64 * 56, dtype=np.uint16).reshape(64, 56)  # up to 3583, so of 12 bits
LARGE = SMALL * 18  # up to 64494


def jpeg_2000(values: NDArray[np.uint16] | NDArray[np.int16], bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat="J2K", reversible=True, bitspersample=bits))


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "stream", "values", "message"),
    [
        (
            JPEGBaseline8Bit,
            bytes(imagecodecs.jpeg8_encode(np.dstack([SMALL >> 4] * 3).astype(np.uint8))),
            {},
            "the encoded image has 3 components, Samples per Pixel says 1",
        ),
        (
            JPEGLSLossless,
            bytes(imagecodecs.jpegls_encode(SMALL)),
            {"PhotometricInterpretation": "RGB", **IN_COLOUR},
            "the encoded image has 1 components, Samples per Pixel says 3",
        ),
        (
            JPEGLosslessSV1,
            bytes(imagecodecs.jpeg8_encode((SMALL >> 4).astype(np.uint8), lossless=True)),
            {},
            "the encoded image has samples of 8 bits, Bits Stored says 12",
        ),
        (
            JPEGLosslessSV1,
            bytes(imagecodecs.jpeg8_encode(LARGE, lossless=True, bitspersample=16)),
            {},
            "the encoded values reach 64494, Bits Stored says 12",
        ),
        (
            JPEGLSLossless,
            bytes(imagecodecs.jpegls_encode(LARGE)),
            {},
            "the encoded values reach 64494, Bits Stored says 12",
        ),
        (JPEG2000Lossless, jpeg_2000(LARGE, 16), {}, "the encoded values reach 64494, Bits Stored says 12"),
        (JPEG2000, jpeg_2000(LARGE, 16), {}, "the encoded values reach from 0 to 64494, Bits Stored says 12"),
        (
            JPEG2000Lossless,
            jpeg_2000(SMALL, 12),
            {"PixelRepresentation": 1},
            "the encoded values are unsigned and reach from 0 to 3583, Pixel Representation says 1",
        ),
        (
            JPEG2000Lossless,
            jpeg_2000((SMALL.astype(np.int16) - 1800), 12),
            {},
            "the encoded values are signed and reach from -1800 to 1783, Pixel Representation says 0",
        ),
        (
            JPEG2000Lossless,
            jpeg_2000((SMALL.astype(np.int16) - 1800), 16),
            {"BitsStored": 16, "HighBit": 15},
            "the encoded values are signed and reach from -1800 to 1783, Pixel Representation says 0",
        ),
    ],
)
def test_a_stream_that_contradicts_the_header_is_refused_with_both_values(
    tmp_path: Path, transfer_syntax_uid: UID, stream: bytes, values: dict[str, object], message: str
) -> None:
    refused = refusal(encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream, **values))
    assert (refused.reason, refused.message) == ("unreadable_pixels", message)


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "stream", "values"),
    [
        (JPEGLosslessSV1, bytes(imagecodecs.jpeg8_encode(SMALL, lossless=True, bitspersample=16)), {}),
        (JPEGLSLossless, bytes(imagecodecs.jpegls_encode(SMALL)), {}),
        (JPEG2000Lossless, jpeg_2000(SMALL, 16), {}),
        (JPEG2000Lossless, jpeg_2000(SMALL, 12), {"BitsStored": 14, "HighBit": 13}),
        (JPEG2000Lossless, jpeg_2000(SMALL, 12), {"BitsStored": 14, "HighBit": 13, "PixelRepresentation": 1}),
        (JPEG2000Lossless, jpeg_2000(SMALL.astype(np.int16), 16), {}),
    ],
    ids=[
        "JPEG 16 for 12",
        "JPEG-LS 16 for 12",
        "JPEG 2000 16 for 12",
        "12 for 14",
        "no sign for one",
        "one for none",
    ],
)
def test_a_stream_that_says_otherwise_of_the_same_values_is_read(
    tmp_path: Path, transfer_syntax_uid: UID, stream: bytes, values: dict[str, object]
) -> None:
    read = pixels.read(encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream, **values))
    np.testing.assert_array_equal(read.stored, SMALL)


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_are_read_with_and_without_their_sign_in_the_bits_above_them(tmp_path: Path, bits: int) -> None:
    values = SMALL.astype(np.int16) - 1800
    stream = imagecodecs.jpeg8_encode(
        values.view(np.uint16) & np.uint16((1 << bits) - 1), lossless=True, bitspersample=bits
    )
    path = encoded(tmp_path / "image.dcm", JPEGLosslessSV1, bytes(stream), PixelRepresentation=1)
    np.testing.assert_array_equal(pixels.read(path).stored, values)


def enlarged(stream: bytes, marker: bytes, *places: int) -> bytes:
    """With 65000 for each side, in as many bytes as it has behind the marker."""
    size = 2 if len(places) == 2 else 4
    begin = stream.index(marker)
    for place in places:
        stream = stream[: begin + place] + (65000).to_bytes(size) + stream[begin + place + size :]
    return stream


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "stream"),
    [
        (JPEGLosslessSV1, enlarged(lossless(SMALL), b"\xff\xc3", 5, 7)),
        (JPEGLSLossless, enlarged(bytes(imagecodecs.jpegls_encode(SMALL)), b"\xff\xf7", 5, 7)),
        (JPEG2000Lossless, enlarged(jpeg_2000(SMALL, 12), b"\xff\x51", 6, 10, 22, 26)),
        (
            JPEG2000Lossless,
            enlarged(bytes(imagecodecs.jpeg2k_encode(SMALL, level=0, codecformat="JP2")), b"\xff\x51", 6, 10, 22, 26),
        ),
    ],
    ids=["JPEG", "JPEG-LS", "JPEG 2000", "a JP2 file"],
)
def test_a_stream_that_claims_four_thousand_million_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer_syntax_uid: UID, stream: bytes
) -> None:
    for decoder in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode"):
        monkeypatch.setattr(imagecodecs, decoder, lambda *_: pytest.fail("it is decoded"))
    refused = refusal(encoded(tmp_path / "image.dcm", transfer_syntax_uid, stream))
    assert refused.message == "the encoded image is (65000, 65000), Rows and Columns say (64, 56)"
    assert refused.reason == "unreadable_pixels"


@pytest.mark.parametrize(
    "stream",
    [b"\xff\xd8\xff\xd9", b"\xff\xd8" + bytes(100) + b"\xff\xd9", b"\xff\xd8\xff\xc3\0\2\xff\xd9"],
    ids=["nothing", "zeros", "an empty one"],
)
def test_a_stream_without_a_frame_header_is_refused(tmp_path: Path, stream: bytes) -> None:
    assert "no frame header" in refusal(encoded(tmp_path / "image.dcm", JPEGLosslessSV1, stream)).message


def test_a_small_file_that_inflates_to_a_huge_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0xFFFCFFFC, "OB", bytes(1 << 20))  # Data Set Trailing Padding (PS3.10 7.2)
    path = write(dataset, tmp_path / "image.dcm")
    assert path.stat().st_size < 20_000
    assert pixels.read(path).stored.shape == (64, 56)
    monkeypatch.setattr(pixel_data, "MAX_INFLATED_BYTES", 1 << 20)
    refused = refusal(path)
    assert refused.message == "the deflated data set has more than 1048576 bytes"
    assert refused.reason == "unreadable_pixels"
