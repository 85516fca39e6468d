"""What every writer in reports/writers/ must keep. A new module there is tested by this without a word."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from config.clinics import DestinationSettings
from domain.identity import INSTANCE_CREATOR_UID, MODEL_NAME
from domain.study import Study
from reports.material import Material
from reports.request import ReportRequest
from reports.source import read_source
from reports.uids import fingerprint_of
from reports.validate import problems_in
from reports.write import EXTRAS, FORMS, INSTEAD, KINDS_OF_A_NOTE, KINDS_OF_A_REJECTION, PROFILES, all_writers
from reports.writer import Writer
from tests.factories.analyses import DEMONSTRATION_MODEL, analysis, rejection_request, report_request
from tests.factories.direct import written_directly
from tests.factories.sources import CASES, PLAIN_CASES, SourceCase, radiograph, stored_study

WRITERS = all_writers()
every_writer = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
ABOUT_ANALYSES = [writer for writer in WRITERS.values() if writer.kind not in KINDS_OF_A_REJECTION]
# A presentation state replaces how an image is shown, and there are images of which it could not repeat that.
MAY_BE_LEFT_OUT = {"gsps"}


def material(writer: Writer, study: Study) -> Material:
    """Something that it has to write about."""
    is_note = writer.kind in KINDS_OF_A_REJECTION
    return as_material(rejection_request(study) if is_note else report_request(study))


def as_material(request: ReportRequest) -> Material:
    source = read_source(request.study)
    return Material(request=request, source=source, fingerprint=fingerprint_of(request, source))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return stored_study([radiograph(1)], tmp_path)


def files(writer: Writer, given: Material) -> list[bytes]:
    return [draft.encode() for draft in writer.write(given)]


def test_a_writers_kind_is_the_name_of_its_module() -> None:
    assert {name: writer.kind for name, writer in WRITERS.items()} == {name: name for name in WRITERS}


def test_no_two_writers_share_a_series_number() -> None:
    assert len({writer.series_number for writer in WRITERS.values()}) == len(WRITERS)


@pytest.mark.parametrize(("key", "named"), [("profile", PROFILES), ("extras", EXTRAS)])
def test_what_a_destination_may_ask_for_in_the_configuration_is_what_is_written(
    key: str, named: dict[str, object]
) -> None:
    schema = DestinationSettings.model_json_schema()["properties"][key]
    schema = schema.get("items", schema)
    assert set(schema["enum"]) == set(named)


def test_every_kind_that_a_profile_names_has_a_writer() -> None:
    named = (*FORMS.values(), KINDS_OF_A_NOTE, KINDS_OF_A_REJECTION)
    assert {kind for kinds in named for kind in kinds} == set(WRITERS)


def test_every_form_that_stands_for_another_is_a_profile() -> None:
    assert set(INSTEAD) == set(PROFILES)
    assert {form for forms in INSTEAD.values() for form in forms} <= set(PROFILES)
    assert not set(PROFILES) & set(EXTRAS)


@every_writer
@pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda case: f"{case.number} {case.name}")
def test_a_writer_makes_valid_objects_of_every_source(tmp_path: Path, writer: Writer, case: SourceCase) -> None:
    given = material(writer, stored_study(case.make(), tmp_path))
    problems = [problems_in(content) for content in files(writer, given)]
    assert problems == [()] or (not problems and writer.kind in MAY_BE_LEFT_OUT)


@every_writer
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}")
def test_what_is_filled_into_a_mould_is_what_highdicom_builds(tmp_path: Path, writer: Writer, case: SourceCase) -> None:
    for draft in writer.write(material(writer, stored_study(case.make(), tmp_path))):
        assert draft.encode() == written_directly(draft)


@every_writer
def test_a_writer_writes_the_same_bytes_again(study: Study, writer: Writer) -> None:
    given = material(writer, study)
    assert files(writer, given) == files(writer, given)


@every_writer
def test_a_writers_objects_can_be_known_as_ours(study: Study, writer: Writer) -> None:
    for content in files(writer, material(writer, study)):
        dataset = pydicom.dcmread(BytesIO(content))
        assert dataset.ManufacturerModelName == MODEL_NAME
        assert dataset.InstanceCreatorUID == INSTANCE_CREATOR_UID


@every_writer
def test_a_writer_keeps_the_study_and_opens_a_series_of_its_own(study: Study, writer: Writer) -> None:
    for content in files(writer, material(writer, study)):
        dataset = pydicom.dcmread(BytesIO(content))
        assert dataset.StudyInstanceUID == "2.25.4711.1"
        assert dataset.SeriesInstanceUID != "2.25.4711.1.1"
        assert dataset.SeriesNumber == writer.series_number


@pytest.mark.parametrize("writer", ABOUT_ANALYSES, ids=lambda writer: writer.kind)
def test_a_writer_marks_a_demonstration(study: Study, writer: Writer) -> None:
    answered = report_request(study, analysis(study, model=DEMONSTRATION_MODEL))
    for content in files(writer, as_material(answered)):
        assert "DEMONSTRATION MODEL" in pydicom.dcmread(BytesIO(content)).SeriesDescription


@every_writer
def test_a_writer_names_the_sop_class_of_its_objects(writer: Writer, study: Study) -> None:
    classes = {str(pydicom.dcmread(BytesIO(file)).SOPClassUID) for file in files(writer, material(writer, study))}
    assert classes == {writer.sop_class_uid}
