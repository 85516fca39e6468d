"""Every hard source gives results that other people's programs accept."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import pydicom
import pytest
from highdicom.sr import MeasurementReport
from pydicom.sr.coding import Code

from reports.request import ReportRequest, WrittenResult
from reports.validate import problems_in
from reports.write import FORMS, all_writers, write_rejection, write_results
from tests.factories.analyses import COBB_ANGLE, PLACES, analysis, rejection_request, report_request
from tests.factories.sources import CASES, SourceCase, stored_study

PRESENCE = Code("705057003", "SCT", "Presence")
DETECTED = Code("260373001", "SCT", "Detected")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
PLEURAL_THICKENING = Code("PLTHICK", "99COLLIM", "Pleural thickening")
LUNG = Code("39607008", "SCT", "Lung")
PLEURA = Code("3120008", "SCT", "Pleura")

DCIODVFY = Path(sys.executable).with_name("dciodvfy")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.number} {case.name}")
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SourceCase, dict[str, WrittenResult]]:
    case: SourceCase = request.param
    study = stored_study(case.make(), tmp_path_factory.mktemp(f"case{case.number}"))
    return case, results_of(report_request(study))


def results_of(request: ReportRequest) -> dict[str, WrittenResult]:
    """Every kind that a profile or an extra knows, and the note that takes back what it is about."""
    results = {result.kind: result for form in FORMS for result in write_results(request, profile=form)}
    note = write_rejection(rejection_request(request.study))
    return {**results, note.kind: note}


Written = tuple[SourceCase, dict[str, WrittenResult]]


def test_each_source_gets_every_kind(written: Written) -> None:
    assert set(all_writers()) - set(written[1]) <= {"gsps"}  # of what goes through a look-up table there is none


def test_dciodvfy_finds_no_error(written: Written, tmp_path: Path) -> None:
    for kind, result in written[1].items():
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(result.content)
        run = subprocess.run([DCIODVFY, "-new", path], capture_output=True, check=False)
        lines = (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()
        assert [line for line in lines if line.startswith("Error")] == [], kind


def test_dsrdump_reads_the_reports(written: Written, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    dsrdump = require_program("dsrdump")
    for kind in ("measurement_sr", "region_sr", "air_sr", "text_sr", "kos", "rejection_note"):
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(written[1][kind].content)
        assert subprocess.run([dsrdump, path], capture_output=True, check=False).returncode == 0


def test_our_own_validator_finds_nothing(written: Written) -> None:
    assert {kind: problems_in(result.content) for kind, result in written[1].items()} == dict.fromkeys(written[1], ())


def test_the_patients_name_is_the_sources_byte_for_byte(written: Written) -> None:
    case, results = written
    for result in results.values():
        dataset = pydicom.dcmread(BytesIO(result.content), stop_before_pixels=True)
        assert (dataset.get_item("PatientName").value or b"").rstrip(b" ") == case.patient_name


def test_highdicom_reads_back_the_findings_that_were_given(written: Written) -> None:
    document = highdicom.sr.srread(BytesIO(written[1]["measurement_sr"].content))
    assert isinstance(document.content, MeasurementReport)
    groups = document.content.get_image_measurement_groups()
    read: list[tuple[object, ...]] = [
        (
            group.finding_type,
            group.finding_sites[0].value,
            [(measurement.name.value, measurement.value) for measurement in group.get_measurements()],
            group.get_qualitative_evaluations(name=PRESENCE)[0].value,
        )
        for group in groups
    ]
    assert read == [
        (PNEUMONIA, LUNG, [("111012", 83.0), ("122411", 50.0)], DETECTED),
        (EFFUSION, PLEURA, [("111012", 12.0), ("122411", 50.0)], NOT_DETECTED),
        (PLEURAL_THICKENING, PLEURA, [("111012", 5.0), ("122411", 50.0)], NOT_DETECTED),
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The plain source, with places and a value that a model found in it."""
    case = CASES[0]
    study = stored_study(case.make(), tmp_path_factory.mktemp("measured"))
    given = analysis(study)
    image = replace(given.images[0], activation=None, regions=PLACES, measurements=(COBB_ANGLE,))
    request = report_request(study, replace(given, images=(image,)))
    return case, results_of(request)


def test_places_and_measured_values_are_accepted_as_well(
    measured: Written, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    test_our_own_validator_finds_nothing(measured)
    test_dciodvfy_finds_no_error(measured, tmp_path)
    test_dsrdump_reads_the_reports(measured, tmp_path, require_program)


def test_highdicom_reads_back_the_value_that_was_measured(measured: Written) -> None:
    document = highdicom.sr.srread(BytesIO(measured[1]["measurement_sr"].content))
    assert isinstance(document.content, MeasurementReport)
    group = document.content.get_image_measurement_groups()[-1]
    assert group.finding_type == Code("COBB", "99COLLIM", "Cobb angle")
    assert [(one.name.value, one.value, one.unit.value) for one in group.get_measurements()] == [
        ("COBB", 24.96, "deg"),
        ("122411", 25.0, "deg"),
    ]
    assert group.get_qualitative_evaluations(name=PRESENCE)[0].value == NOT_DETECTED
