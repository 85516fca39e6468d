"""What is taken from a source header, and what is not."""

from pathlib import Path

import pydicom
import pytest

from domain.study import Study
from reports.source import SourceStudy, read_source
from tests.factories.sources import case, radiograph, stored_study


def source_of(number: int, folder: Path) -> SourceStudy:
    return read_source(stored_study(case(number).make(), folder))


@pytest.mark.parametrize(
    ("number", "keyword", "value"),
    [
        (1, "PatientID", b"PID0001"),
        (1, "IssuerOfPatientID", b"HOSP"),
        (1, "PatientSex", b"F"),
        (2, "AccessionNumber", b""),
        (6, "TimezoneOffsetFromUTC", b"+0200"),
        (12, "PatientSex", b""),
        (14, "PatientID", b""),
        (17, "PatientBirthDate", b""),
        (17, "StudyDate", b""),
        (17, "StudyTime", b""),
        (17, "PatientAge", b""),
    ],
)
def test_identity_is_kept_and_a_malformed_date_or_code_is_not(
    tmp_path: Path, number: int, keyword: str, value: bytes
) -> None:
    assert source_of(number, tmp_path).value_of(keyword).rstrip(b" ") == value


def test_an_over_long_accession_number_is_kept_because_the_pacs_matches_on_it(tmp_path: Path) -> None:
    dataset = radiograph(1)
    del dataset.AccessionNumber
    with pydicom.config.disable_value_validation():
        dataset.AccessionNumber = "A-12345678901234567890"
        study = stored_study([dataset], tmp_path)
    assert read_source(study).value_of("AccessionNumber") == b"A-12345678901234567890"


@pytest.mark.parametrize(
    ("number", "orientation", "spacing_mm"),
    [(1, ("L", "F"), (0.4, 0.4)), (10, ("L", "F"), (0.2, 0.4)), (11, None, None), (18, None, (0.4, 0.4))],
)
def test_orientation_and_spacing_are_taken_or_left_and_never_invented(
    tmp_path: Path, number: int, orientation: tuple[str, str] | None, spacing_mm: tuple[float, float] | None
) -> None:
    image = source_of(number, tmp_path).instances[0]
    assert (image.patient_orientation, image.imager_pixel_spacing_mm) == (orientation, spacing_mm)


def test_a_name_without_a_character_set_goes_through_as_it_is(tmp_path: Path) -> None:
    """Latin-1 bytes with no Specific Character Set: common, wrong, and not ours to guess."""
    dataset = radiograph(1)
    dataset.PatientName = "Müller"
    study = stored_study([dataset], tmp_path)
    path = Path(study.instances[0].path)
    path.write_bytes(path.read_bytes().replace(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b""))
    source = read_source(study)
    assert source.value_of("PatientName") == b"M\xfcller"
    assert source.character_set == b""


def test_identity_comes_from_the_analysed_image(tmp_path: Path) -> None:
    first, second = radiograph(1), radiograph(1, series=2)
    second.PatientName = "DOE^JANE^ANN"
    study = stored_study([first, second], tmp_path)
    source = read_source(study, first=["2.25.4711.1.2.1"])
    assert source.value_of("PatientName").rstrip() == b"DOE^JANE^ANN"


def test_an_unreadable_instance_is_left_out(tmp_path: Path) -> None:
    study: Study = stored_study(case(13).make(), tmp_path)
    Path(study.instances[1].path).write_bytes(b"")
    assert [one.sop_instance_uid for one in read_source(study).instances] == ["2.25.4711.13.1.1"]


def test_the_loss_of_a_compressed_source_is_remembered(tmp_path: Path) -> None:
    dataset = radiograph(1)
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = ["10.5"]
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    source = read_source(stored_study([dataset], tmp_path))
    assert dict(source.instances[0].lossy_compression) == {
        "LossyImageCompression": ("01",),
        "LossyImageCompressionRatio": ("10.5",),
        "LossyImageCompressionMethod": ("ISO_10918_1",),
    }
