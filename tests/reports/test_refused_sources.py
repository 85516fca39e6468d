"""A source of which no valid result can be written is refused by a name, and nothing of it is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from domain.errors import Refuse
from domain.study import Study
from inference import pixels
from reports.write import PROFILES, write_results
from tests.factories.analyses import report_request
from tests.factories.sources import radiograph, stored_study


def _unchanged(_: Dataset) -> None:
    """The header says nothing wrong: `spoil` does."""


def _as_it_lies(content: bytes) -> bytes:
    return content


@dataclass(frozen=True)
class RefusedSource:
    """change: of the data set before it is written. spoil: of the file's bytes. names: what the message points at."""

    name: str
    reason: str
    names: str
    change: Callable[[Dataset], None] = _unchanged
    spoil: Callable[[bytes], bytes] = _as_it_lies


def setting(**values: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            dataset.pop(keyword, None)
            setattr(dataset, keyword, value)

    return change


def undefined_character_set(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "Müller"


def without_pixels(dataset: Dataset) -> None:
    del dataset.PixelData


TOO_LONG = "1.2." + "3" * 61  # 65 characters
BY_THEIR_HEADERS = (
    RefusedSource(
        "a study UID that is too long",
        "invalid_result",
        "StudyInstanceUID",
        setting(StudyInstanceUID=TOO_LONG),
    ),
    RefusedSource(
        "a study UID with a leading zero", "invalid_result", "StudyInstanceUID", setting(StudyInstanceUID="1.2.03")
    ),
    RefusedSource(
        "letters in a study UID", "invalid_result", "StudyInstanceUID", setting(StudyInstanceUID="1.2.840.ACME.7")
    ),
    RefusedSource(
        "an image UID that is too long",
        "invalid_result",
        "ReferencedSOPInstanceUID",
        setting(SOPInstanceUID=TOO_LONG),
    ),
    RefusedSource(
        "a name in a character set that nobody defines",
        "unknown_character_set",
        "character set",
        undefined_character_set,
        lambda content: content.replace(b"ISO_IR 192", b"ISO_IR 999"),
    ),
    RefusedSource("a file that is no DICOM file", "unreadable_source", "cannot be read", spoil=lambda _: b"not DICOM"),
    RefusedSource(
        "a file that is cut off in its header", "unreadable_source", "cannot be read", spoil=lambda c: c[:150]
    ),
)
BY_THEIR_PIXELS = (
    RefusedSource("no pixels", "no_image", "Pixel Data", without_pixels),
    RefusedSource("pixels of one value", "unreadable_pixels", "same value", setting(PixelData=bytes(64 * 56 * 2))),
    RefusedSource("a header that says more pixels than there are", "unreadable_pixels", "", setting(Rows=6400)),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("refused", BY_THEIR_HEADERS, ids=lambda refused: refused.name)
def test_a_header_of_which_no_valid_result_can_be_made_is_refused_by_name(
    tmp_path: Path, refused: RefusedSource, profile: str
) -> None:
    study = a_study(refused, tmp_path)
    with pytest.raises(Refuse) as error:
        write_results(report_request(study), profile=profile)
    assert error.value.reason == refused.reason
    assert refused.names in error.value.message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("refused", BY_THEIR_PIXELS, ids=lambda refused: refused.name)
def test_pixels_that_cannot_be_shown_are_refused_by_name_before_anything_is_written(
    tmp_path: Path, refused: RefusedSource
) -> None:
    study = a_study(refused, tmp_path)
    with pytest.raises(Refuse) as error:
        pixels.read(study.instances[0].path)
    assert error.value.reason == refused.reason
    assert refused.names in error.value.message


def a_study(refused: RefusedSource, folder: Path) -> Study:
    dataset = radiograph(1)
    with pydicom.config.disable_value_validation():
        refused.change(dataset)
        study = stored_study([dataset], folder)
    path = Path(study.instances[0].path)
    path.write_bytes(refused.spoil(path.read_bytes()))
    return study
