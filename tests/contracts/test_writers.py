"""What every writer in reports/writers/ must keep. A new module there is tested by this without a word."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from domain.identity import INSTANCE_CREATOR_UID, MODEL_NAME
from reports.material import Material
from reports.source import read_source
from reports.uids import fingerprint_of
from reports.validate import problems_in
from reports.write import KINDS_OF_A_NOTE, PROFILES, all_writers
from reports.writer import Writer
from tests.factories.analyses import DEMONSTRATION_MODEL, analysis, report_request
from tests.factories.direct import written_directly
from tests.factories.sources import CASES, PLAIN_CASES, SourceCase, radiograph, stored_study

WRITERS = all_writers()
every_writer = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)


def material(folder: Path, *, demonstration: bool = False) -> Material:
    study = stored_study([radiograph(1)], folder)
    answer = analysis(study, model=DEMONSTRATION_MODEL) if demonstration else analysis(study)
    request = report_request(study, answer)
    source = read_source(study)
    return Material(request=request, source=source, fingerprint=fingerprint_of(request, source))


def files(writer: Writer, given: Material) -> list[bytes]:
    return [draft.encode() for draft in writer.write(given)]


def test_a_writers_kind_is_the_name_of_its_module() -> None:
    assert {name: writer.kind for name, writer in WRITERS.items()} == {name: name for name in WRITERS}


def test_no_two_writers_share_a_series_number() -> None:
    assert len({writer.series_number for writer in WRITERS.values()}) == len(WRITERS)


def test_every_kind_that_a_profile_names_has_a_writer() -> None:
    assert {kind for kinds in (*PROFILES.values(), KINDS_OF_A_NOTE) for kind in kinds} <= set(WRITERS)


@every_writer
@pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda case: f"{case.number} {case.name}")
def test_a_writer_makes_valid_objects_of_every_source(tmp_path: Path, writer: Writer, case: SourceCase) -> None:
    study = stored_study(case.make(), tmp_path)
    request = report_request(study)
    source = read_source(study)
    given = Material(request=request, source=source, fingerprint=fingerprint_of(request, source))
    assert [problems_in(content) for content in files(writer, given)] == [()]


@every_writer
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}")
def test_what_is_filled_into_a_mould_is_what_highdicom_builds(tmp_path: Path, writer: Writer, case: SourceCase) -> None:
    study = stored_study(case.make(), tmp_path)
    request = report_request(study)
    source = read_source(study)
    given = Material(request=request, source=source, fingerprint=fingerprint_of(request, source))
    for draft in writer.write(given):
        assert draft.encode() == written_directly(draft)


@every_writer
def test_a_writer_writes_the_same_bytes_again(tmp_path: Path, writer: Writer) -> None:
    given = material(tmp_path)
    assert files(writer, given) == files(writer, given)


@every_writer
def test_a_writers_objects_can_be_known_as_ours(tmp_path: Path, writer: Writer) -> None:
    for content in files(writer, material(tmp_path)):
        dataset = pydicom.dcmread(BytesIO(content))
        assert dataset.ManufacturerModelName == MODEL_NAME
        assert dataset.InstanceCreatorUID == INSTANCE_CREATOR_UID


@every_writer
def test_a_writer_keeps_the_study_and_opens_a_series_of_its_own(tmp_path: Path, writer: Writer) -> None:
    for content in files(writer, material(tmp_path)):
        dataset = pydicom.dcmread(BytesIO(content))
        assert dataset.StudyInstanceUID == "2.25.4711.1"
        assert dataset.SeriesInstanceUID != "2.25.4711.1.1"
        assert dataset.SeriesNumber == writer.series_number


@every_writer
def test_a_writer_marks_a_demonstration(tmp_path: Path, writer: Writer) -> None:
    for content in files(writer, material(tmp_path, demonstration=True)):
        assert "DEMONSTRATION MODEL" in pydicom.dcmread(BytesIO(content)).SeriesDescription


@every_writer
def test_a_writer_names_the_sop_class_of_its_objects(writer: Writer, tmp_path: Path) -> None:
    classes = {str(pydicom.dcmread(BytesIO(file)).SOPClassUID) for file in files(writer, material(tmp_path))}
    assert classes == {writer.sop_class_uid}
