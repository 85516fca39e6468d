"""The same input gives the same bytes and UIDs; any difference gives other UIDs."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest

from domain.findings import Finding, ModelIdentity
from domain.study import Study
from reports.request import Note, ReportRequest
from reports.uids import derived_uid
from reports.write import write_results
from tests.factories.analyses import FINDINGS, MODEL, NODE, activation, analysis, display, report_request


def uids(request: ReportRequest) -> set[str]:
    return {result.sop_instance_uid for result in write_results(request, profile="standard")}


def with_findings(*findings: Finding) -> Callable[[Study], ReportRequest]:
    return lambda study: report_request(study, analysis(study, findings=findings))


def with_model(model: ModelIdentity) -> Callable[[Study], ReportRequest]:
    return lambda study: report_request(study, analysis(study, model=model))


def with_another_map(study: Study) -> ReportRequest:
    answer = analysis(study)
    image = replace(answer.images[0], activation=replace(activation(), top=1.0))
    return report_request(study, replace(answer, images=(image,)))


def with_another_picture(study: Study) -> ReportRequest:
    request = report_request(study)
    pixels = bytes(64 * 56)
    return replace(request, displays={"2.25.4711.1.1.1": replace(display(), pixels=pixels)})


DIFFERENCES: dict[str, Callable[[Study], ReportRequest]] = {
    "a score": with_findings(replace(FINDINGS[0], certainty=0.84), *FINDINGS[1:]),
    "a threshold": with_findings(replace(FINDINGS[0], threshold=0.4), *FINDINGS[1:]),
    "a label less": with_findings(*FINDINGS[:2]),
    "the weights": with_model(replace(MODEL, device_uid="2.25.99", weights_sha256="00" * 32)),
    "the model's version": with_model(replace(MODEL, version="1.0.1")),
    "the model's clearance": with_model(replace(MODEL, is_cleared=True)),
    "the activation map": with_another_map,
    "the picture": with_another_picture,
    "the generation": lambda study: report_request(replace(study, generation=2)),
    "the moment": lambda study: report_request(replace(study, completed_at=study.completed_at + timedelta(seconds=1))),
    "the decision": lambda study: replace(report_request(study), decision=("Another rule matched.",)),
    "what other models saw": lambda study: replace(report_request(study), seen_by_others=("2.25.4711.1.1.9",)),
    "the node's software": lambda study: replace(report_request(study), node=replace(NODE, software_version="0.1.1")),
    "the node's serial number": lambda study: replace(report_request(study), node=replace(NODE, serial_number="2")),
    "the language": lambda study: replace(report_request(study), language="de"),
    "a note": lambda study: ReportRequest(study=study, node=NODE, note=Note(title="Over quota", lines=())),
    "another note": lambda study: ReportRequest(study=study, node=NODE, note=Note(title="Refused", lines=())),
}


def test_writing_a_study_again_gives_the_same_bytes(study: Study) -> None:
    first = write_results(report_request(study), profile="standard")
    assert write_results(report_request(study), profile="standard") == first


def test_the_same_result_in_another_profile_is_the_same_object(study: Study) -> None:
    text = write_results(report_request(study), profile="text")
    assert text[0] in write_results(report_request(study), profile="standard")


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_any_difference_gives_other_uids(study: Study, difference: str) -> None:
    assert uids(DIFFERENCES[difference](study)).isdisjoint(uids(report_request(study)))


def test_no_two_differences_share_a_uid(study: Study) -> None:
    everything = [uid for make in DIFFERENCES.values() for uid in uids(make(study))]
    assert len(everything) == len(set(everything)) == 3 * 15 + 2


def test_a_corrected_name_gives_other_uids(study: Study) -> None:
    before = uids(report_request(study))
    path = Path(study.instances[0].path)
    dataset = pydicom.dcmread(path)
    dataset.PatientName = "DOE^JOAN"
    dataset.save_as(path)
    assert uids(report_request(study)).isdisjoint(before)


def test_a_tracking_uid_follows_the_label_and_the_image_through_the_generations(study: Study) -> None:
    def tracking_uids(generation: int) -> list[str]:
        request = report_request(replace(study, generation=generation))
        results = {result.kind: result for result in write_results(request, profile="standard")}
        return re.findall(r"2\.25\.\d{36,40}", _tracking_text(results["measurement_sr"].content))

    assert tracking_uids(1) == tracking_uids(2)
    assert len(set(tracking_uids(1))) == 3


def _tracking_text(content: bytes) -> str:
    document = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
    items = (element for element in document.iterall() if element.keyword == "UID")
    return " ".join(str(element.value) for element in items)


def test_a_derived_uid_has_at_most_64_characters_and_depends_on_each_part() -> None:
    assert derived_uid("a", "b") == "2.25.319413814503613703153728065484548124556"  # in every process, for good
    assert len({derived_uid("a", "b"), derived_uid("ab"), derived_uid("b", "a"), derived_uid("a", "b", "")}) == 4
    assert re.fullmatch(r"2\.25\.[1-9]\d{30,38}", derived_uid("a", "b"))
