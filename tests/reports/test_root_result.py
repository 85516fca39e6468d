"""The report of profile `air`: what it holds together, and what can be told from it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import pydicom
import pytest
from highdicom.sr import MeasurementReport
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from domain.findings import Finding
from domain.study import Study
from reports.codes import KNOWN_FINDINGS
from reports.provenance import as_code
from reports.request import PreviousResult, ReportRequest, WrittenResult
from reports.write import write_results
from tests.factories.analyses import EFFUSION, FINDINGS, MODEL, PLACES, PNEUMONIA, analysis, report_request
from tests.factories.sources import case, stored_study

TID1500READER = Path(sys.executable).with_name("tid1500reader")
EIGHTEEN = tuple(
    Finding(label=known.label, code=known.code, site=known.site, certainty=(number + 0.5) / 20, threshold=0.5)
    for number, known in enumerate(KNOWN_FINDINGS[:18])
)


def written(request: ReportRequest, profile: str = "air") -> dict[str, WrittenResult]:
    return {result.kind: result for result in write_results(request, profile=profile)}


def read(result: WrittenResult) -> Dataset:
    return pydicom.dcmread(BytesIO(result.content))


def report_of(request: ReportRequest) -> MeasurementReport:
    content = highdicom.sr.srread(BytesIO(written(request)["air_sr"].content)).content
    assert isinstance(content, MeasurementReport)
    return content


def with_places(study: Study, findings: Sequence[Finding] = FINDINGS) -> ReportRequest:
    given = analysis(study, findings=tuple(findings))
    image = replace(given.images[0], activation=None, regions=PLACES)
    return report_request(study, replace(given, images=(image,)))


def test_it_names_the_other_results_of_the_analysis_and_they_are_those_that_are_sent(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    results = write_results(report_request(study, analysis(study, images=2)), profile="air")
    root = read(next(result for result in results if result.kind == "air_sr"))
    named = {
        (item.ConceptNameCodeSequence[0].CodeValue, str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for item in root.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }
    sent = {(result.kind, result.sop_instance_uid) for result in results}
    assert named == {("125201", uid) for kind, uid in sent if kind == "overlay"} | {
        ("121111", uid) for kind, uid in sent if kind == "text_sr"
    }
    assert len(named) == 3


def test_what_it_names_is_among_its_evidence_in_the_series_that_it_lies_in(study: Study) -> None:
    results = written(report_request(study))
    evidence = read(results["air_sr"]).CurrentRequestedProcedureEvidenceSequence[0]
    series = {
        str(reference.ReferencedSOPInstanceUID): str(one.SeriesInstanceUID)
        for one in evidence.ReferencedSeriesSequence
        for reference in one.ReferencedSOPSequence
    }
    for kind in ("overlay", "text_sr"):
        assert series[results[kind].sop_instance_uid] == results[kind].series_instance_uid
    assert study.instances[0].sop_instance_uid in series


def test_it_is_a_comprehensive_3d_report_after_tid_1500(study: Study) -> None:
    root = read(written(report_request(study))["air_sr"])
    assert (root.SOPClassUID, root.ContentTemplateSequence[0].TemplateIdentifier) == (Comprehensive3DSRStorage, "1500")


def test_every_group_can_be_tracked_and_no_two_are_the_same_thing(study: Study) -> None:
    report = report_of(with_places(study))
    groups = [*report.get_image_measurement_groups(), *report.get_planar_roi_measurement_groups()]
    assert len(groups) == len(FINDINGS) + len(PLACES)
    assert len({group.tracking_uid for group in groups}) == len(groups)
    assert all(group.tracking_identifier for group in groups)


def test_highdicom_reads_back_the_findings_and_the_places_that_were_given(study: Study) -> None:
    report = report_of(with_places(study, [PNEUMONIA, EFFUSION]))
    images = report.get_image_measurement_groups()
    assert [group.finding_type for group in images] == [as_code(PNEUMONIA.code), as_code(EFFUSION.code)]
    assert [group.get_measurements()[0].value for group in images] == [83.0, 12.0]
    places = report.get_planar_roi_measurement_groups()
    outlines = [place.roi.value.tolist() for place in places if isinstance(place.roi, highdicom.sr.ImageRegion)]
    assert outlines[0] == [[10, 12], [30, 12], [30, 20], [10, 20], [10, 12]]


def test_the_model_is_contributing_equipment_under_a_device_uid_that_changes_with_it(study: Study) -> None:
    def equipment(device_uid: str) -> list[str]:
        request = report_request(study, analysis(study, model=replace(MODEL, device_uid=device_uid)))
        items = read(written(request)["air_sr"]).ContributingEquipmentSequence
        return [str(item.DeviceUID) for item in items if item.get("ContributionDescription") == "Processing Algorithm"]

    assert equipment("2.25.1") == ["2.25.1"]
    assert equipment("2.25.2") == ["2.25.2"]


def test_a_revised_report_names_the_one_that_it_replaces_and_no_other_kind(study: Study) -> None:
    before = written(report_request(study))
    previous = tuple(
        PreviousResult(
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            series_instance_uid=result.series_instance_uid,
        )
        for result in before.values()
    )
    revised = replace(report_request(replace(study, generation=2)), previous_results=previous)
    (reference,) = read(written(revised)["air_sr"]).PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    (named,) = reference.ReferencedSOPSequence
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (
        Comprehensive3DSRStorage,
        before["air_sr"].sop_instance_uid,
    )
    assert reference.SeriesInstanceUID == before["air_sr"].series_instance_uid


@pytest.mark.parametrize(("profile", "kind"), [("standard", "measurement_sr"), ("air", "air_sr")])
def test_dcmqi_reads_every_measurement(study: Study, tmp_path: Path, profile: str, kind: str) -> None:
    request = report_request(study, analysis(study, findings=EIGHTEEN))
    request = replace(
        request,
        analysis=replace(
            analysis(study, findings=EIGHTEEN),
            images=tuple(replace(image, activation=None) for image in request.analysed_images),
        ),
    )
    report, metadata = tmp_path / "report.dcm", tmp_path / "report.json"
    report.write_bytes(written(request, profile)[kind].content)
    # Its return code is 0 also for what it cannot read.
    subprocess.run(
        [TID1500READER, "--inputDICOM", report, "--outputMetadata", metadata], capture_output=True, check=False
    )
    groups = json.loads(metadata.read_text())["Measurements"]
    assert [group["Finding"]["CodeValue"] for group in groups] == [finding.code.value for finding in EIGHTEEN]
    certainties = [item["value"] for group in groups for item in group["measurementItems"][:1]]
    assert [float(value) for value in certainties] == [pytest.approx(one.certainty * 100) for one in EIGHTEEN]
