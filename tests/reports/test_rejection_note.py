"""The note that takes results back."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from domain.care import Rejection
from domain.errors import Refuse
from domain.study import Instance, InstanceFacts, Study
from reports.request import WrittenResult
from reports.write import write_rejection, write_results
from reports.writers.rejection_note import TITLES
from tests.factories.analyses import rejection_request, report_request
from tests.factories.sources import case, stored_study


def as_study(study: Study, results: tuple[WrittenResult, ...], folder: Path) -> Study:
    """The results as the instances of a study, on the disk."""
    for result in results:
        (folder / result.sop_instance_uid).write_bytes(result.content)
    return replace(
        study,
        instances=tuple(
            Instance(
                sop_instance_uid=result.sop_instance_uid,
                sop_class_uid=result.sop_class_uid,
                series_instance_uid=result.series_instance_uid,
                transfer_syntax_uid=result.transfer_syntax_uid,
                path=str(folder / result.sop_instance_uid),
                facts=InstanceFacts(),
            )
            for result in results
        ),
    )


def note(study: Study, rejection: Rejection = Rejection.SAFETY) -> Dataset:
    written = write_rejection(replace(rejection_request(study), rejection=rejection))
    return pydicom.dcmread(BytesIO(written.content))


def test_it_names_every_result_in_its_content_and_in_its_evidence(study: Study, tmp_path: Path) -> None:
    results = write_results(report_request(study), profile="standard")
    dataset = note(as_study(study, results, tmp_path))
    uids = {result.sop_instance_uid for result in results}
    named = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID): item.ValueType
        for item in dataset.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }
    (evidence,) = dataset.CurrentRequestedProcedureEvidenceSequence
    listed = {
        (str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID))
        for series in evidence.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert set(named) == uids
    assert sorted(named.values()) == ["COMPOSITE", "COMPOSITE", "IMAGE"]
    assert listed == {(result.series_instance_uid, result.sop_instance_uid) for result in results}


def test_it_names_nothing_that_the_node_was_sent(study: Study, tmp_path: Path) -> None:
    results = write_results(report_request(study), profile="standard")
    content = write_rejection(rejection_request(as_study(study, results, tmp_path))).content
    assert study.instances[0].sop_instance_uid.encode() not in content


@pytest.mark.parametrize("number", [1, 3, 4, 6, 11])
def test_the_patient_on_it_is_byte_for_byte_that_of_the_source_though_the_source_is_gone(
    tmp_path: Path, number: int
) -> None:
    source = case(number)
    study = stored_study(source.make(), tmp_path)
    results = write_results(report_request(study), profile="standard")
    for instance in study.instances:
        Path(instance.path).unlink()
    dataset = note(as_study(study, results, tmp_path))
    assert (dataset.get_item("PatientName").value or b"").rstrip(b" ") == source.patient_name


def test_a_result_that_cannot_be_read_is_not_silently_left_out(study: Study, tmp_path: Path) -> None:
    results = write_results(report_request(study), profile="standard")
    rejected = as_study(study, results, tmp_path)
    (tmp_path / results[1].sop_instance_uid).unlink()
    with pytest.raises(Refuse):
        note(rejected)


@pytest.mark.parametrize("rejection", Rejection)
def test_its_title_is_one_that_the_standard_has_for_rejecting(study: Study, rejection: Rejection) -> None:
    (title,) = note(study, rejection).ConceptNameCodeSequence
    known = {
        code.value: code.meaning
        for code in (
            codes.DCM.RejectedForPatientSafetyReasons,
            codes.DCM.RejectedForQualityReasons,
            codes.DCM.IncorrectModalityWorklistEntry,
            codes.DCM.DataRetentionPolicyExpired,
        )
    }
    assert known[title.CodeValue] == title.CodeMeaning
    assert len({one.value for one in TITLES.values()}) == len(Rejection) == len(known)


def test_another_reason_or_another_result_makes_another_note(study: Study, tmp_path: Path) -> None:
    results = write_results(report_request(study), profile="standard")
    all_of_it = as_study(study, results, tmp_path)
    one_of_it = replace(all_of_it, instances=all_of_it.instances[:1])
    notes = [note(all_of_it), note(all_of_it, Rejection.QUALITY), note(one_of_it)]
    assert len({one.SOPInstanceUID for one in notes}) == 3
    assert note(all_of_it).SOPInstanceUID == notes[0].SOPInstanceUID
