"""An object that breaks the standard does not leave."""

from collections.abc import Callable
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset

from domain.errors import Refuse
from domain.study import Study
from reports.validate import problems_in, require_valid
from reports.write import write_results
from tests.factories.analyses import report_request


def spoilt(study: Study, kind: str, spoil: Callable[[Dataset], object]) -> bytes:
    results = {result.kind: result for result in write_results(report_request(study), profile="standard")}
    dataset = pydicom.dcmread(BytesIO(results[kind].content))
    with pydicom.config.disable_value_validation():
        spoil(dataset)
        buffer = BytesIO()
        dataset.save_as(buffer)
    return buffer.getvalue()


def setting(keyword: str, value: object) -> Callable[[Dataset], object]:
    return lambda dataset: setattr(dataset, keyword, value)


def removing(keyword: str) -> Callable[[Dataset], object]:
    return lambda dataset: delattr(dataset, keyword)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("kind", "spoil", "problem"),
    [
        ("overlay", removing("ConversionType"), "ConversionType is missing"),
        ("overlay", removing("PatientID"), "PatientID is missing"),
        ("overlay", setting("Modality", ""), "Modality is empty"),
        ("overlay", setting("CompletionFlag", "COMPLETE"), "CompletionFlag does not belong to this IOD"),
        ("text_sr", removing("VerificationFlag"), "VerificationFlag is missing"),
        ("text_sr", setting("StudyInstanceUID", "1.2.03"), "StudyInstanceUID is not a UID"),
        ("text_sr", setting("StudyInstanceUID", "1." + "2" * 63), "StudyInstanceUID is not a UID"),
        ("text_sr", setting("SOPInstanceUID", "1.2"), "MediaStorageSOPInstanceUID and SOPInstanceUID differ"),
        ("text_sr", setting("PixelSpacing", [1, 1]), "PixelSpacing does not belong to this IOD"),
        (
            "measurement_sr",
            lambda dataset: delattr(
                dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0], "SeriesInstanceUID"
            ),
            "CurrentRequestedProcedureEvidenceSequence/ReferencedSeriesSequence/SeriesInstanceUID is missing",
        ),
        (
            "measurement_sr",
            lambda dataset: setattr(dataset.ContributingEquipmentSequence[0], "Manufacturer", ""),
            "ContributingEquipmentSequence/Manufacturer is empty",
        ),
    ],
)
def test_a_problem_is_named(study: Study, kind: str, spoil: Callable[[Dataset], object], problem: str) -> None:
    assert problem in problems_in(spoilt(study, kind, spoil))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_undefined_character_set_is_named(study: Study) -> None:
    content = spoilt(study, "text_sr", lambda dataset: None)
    assert problems_in(content.replace(b"ISO_IR 100", b"ISO_IR 999")) == (
        "Specific Character Set 'ISO_IR 999' is not defined",
    )


def test_an_invalid_object_is_refused_with_its_problems(study: Study) -> None:
    with pytest.raises(Refuse) as error:
        require_valid(spoilt(study, "overlay", removing("ConversionType")))
    assert error.value.reason == "invalid_result"
    assert error.value.message == "a result does not conform to its IOD: ConversionType is missing"


def test_bytes_that_are_no_dicom_file_are_refused() -> None:
    with pytest.raises(Refuse):
        require_valid(b"GIF89a")
