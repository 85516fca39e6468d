"""What the door of the reports room promises."""

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from domain.care import Rejection
from domain.errors import Misconfigured, Refuse
from domain.findings import Analysis
from domain.study import Study
from reports.request import Note, PreviousResult, ReportRequest
from reports.write import write_results
from tests.factories.analyses import (
    CLEARED_MODEL,
    COBB_ANGLE,
    DEMONSTRATION_MODEL,
    NODE,
    PLACES,
    analysis,
    finding,
    report_request,
)
from tests.factories.sources import case, radiograph, stored_study

NOTE = Note(
    title="Not analysed: no model is configured for this study.",
    lines=("The study was kept.", "Nothing was charged."),
)


def written(request: ReportRequest, profile: str = "standard") -> dict[str, pydicom.Dataset]:
    results = write_results(request, profile=profile)
    return {result.kind: pydicom.dcmread(BytesIO(result.content)) for result in results}


def texts(document: pydicom.Dataset) -> list[str]:
    """Every text of a report, in reading order."""
    return [str(element.value) for element in document.iterall() if element.keyword == "TextValue"]


@pytest.mark.parametrize(
    ("profile", "kinds"),
    [
        ("standard", ["overlay", "measurement_sr", "text_sr"]),
        ("ohif", ["overlay", "region_sr", "text_sr"]),
        ("text", ["text_sr"]),
        ("sc_only", ["overlay"]),
    ],
)
def test_a_profile_says_which_results_a_destination_gets(study: Study, profile: str, kinds: list[str]) -> None:
    assert list(written(report_request(study), profile)) == kinds


def test_an_unknown_profile_names_the_known_ones(study: Study) -> None:
    with pytest.raises(Misconfigured) as error:
        write_results(report_request(study), profile="everything")
    assert error.value.hint == "Use one of: air, ohif, sc_only, standard, text."


def test_every_analysed_image_gets_an_overlay_and_the_others_none(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    for images in (1, 2):
        results = write_results(report_request(study, analysis(study, images=images)), profile="sc_only")
        assert len(results) == images
        assert len({result.series_instance_uid for result in results}) == 1


def test_an_image_that_was_not_analysed_is_evidence_all_the_same(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    document = written(report_request(study))["measurement_sr"]
    series = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referenced = {item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence}
    assert referenced == {"2.25.4711.13.1.1", "2.25.4711.13.2.1"}


def test_every_result_is_signed_by_the_node_and_never_by_the_scanner(study: Study) -> None:
    for dataset in written(report_request(study)).values():
        assert dataset.Manufacturer == "Collimator project"
        assert dataset.ManufacturerModelName == "Collimator"
        assert dataset.SoftwareVersions == "0.1.0"
        assert dataset.InstanceCreatorUID == "2.25.148394796090695659376820782267867090426"
        assert dataset.file_meta.ImplementationClassUID == "2.25.247679724950296037513493025397774644502"
        assert dataset.file_meta.ImplementationVersionName == "COLLIMATOR_0_1"


def test_every_result_is_dated_with_the_moment_the_study_was_complete(study: Study) -> None:
    for dataset in written(report_request(study)).values():
        assert (dataset.ContentDate, dataset.ContentTime) == ("20261120", "102030")
        assert (dataset.SeriesDate, dataset.SeriesTime) == ("20261120", "102030")
        assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20261120", "102030")


def test_a_moment_in_utc_is_written_in_the_time_zone_that_the_study_names(tmp_path: Path) -> None:
    study = stored_study(case(6).make(), tmp_path)
    study = replace(study, completed_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    document = written(report_request(study), "text")["text_sr"]
    assert document.TimezoneOffsetFromUTC == "+0200"
    assert (document.ContentDate, document.ContentTime) == ("20261121", "013000")


def test_a_time_zone_that_the_source_does_not_name_is_not_added(study: Study) -> None:
    for dataset in written(report_request(study)).values():
        assert "TimezoneOffsetFromUTC" not in dataset


def test_a_report_is_complete_but_neither_verified_nor_final(study: Study) -> None:
    results = written(report_request(study))
    for kind in ("measurement_sr", "text_sr"):
        assert results[kind].CompletionFlag == "COMPLETE"
        assert results[kind].VerificationFlag == "UNVERIFIED"
        assert results[kind].PreliminaryFlag == "PRELIMINARY"


def test_the_model_is_contributing_equipment_with_its_device_uid(study: Study) -> None:
    for dataset in written(report_request(study)).values():
        model = next(
            item
            for item in dataset.ContributingEquipmentSequence
            if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        )
        assert model.ManufacturerModelName == "torchxrayvision densenet121-res224-all"
        assert model.DeviceUID == "2.25.123456789012345678901234567890"


def test_the_overlay_cannot_be_measured_on(study: Study) -> None:
    overlay = written(report_request(study))["overlay"]
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "FrameOfReferenceUID", "WindowCenter"):
        assert keyword not in overlay
    assert overlay.ConversionType == "WSD"
    assert overlay.BurnedInAnnotation == "YES"
    assert overlay.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
    assert overlay.SourceImageSequence[0].ReferencedSOPInstanceUID == "2.25.4711.1.1.1"


def test_a_demonstration_says_so_in_every_result(study: Study) -> None:
    results = written(report_request(study, analysis(study, model=DEMONSTRATION_MODEL)))
    for dataset in results.values():
        assert "DEMONSTRATION MODEL - NOT FOR DIAGNOSTIC USE" in dataset.SeriesDescription
        assert dataset.ContentQualification == "RESEARCH"
    assert texts(results["text_sr"])[1:3] == ["DEMONSTRATION MODEL", "NOT FOR DIAGNOSTIC USE"]
    assert texts(results["measurement_sr"])[-1].startswith("DEMONSTRATION MODEL. NOT FOR DIAGNOSTIC USE.")


def test_only_a_cleared_model_goes_without_the_warning(study: Study) -> None:
    for model_analysis, descriptions in (
        (analysis(study), {"AI Overlay - NOT FOR DIAGNOSTIC USE", "AI Results - NOT FOR DIAGNOSTIC USE"}),
        (analysis(study, model=CLEARED_MODEL), {"AI Overlay", "AI Results"}),
    ):
        results = written(report_request(study, model_analysis))
        assert {results[kind].SeriesDescription for kind in ("overlay", "measurement_sr")} == descriptions


def test_the_text_report_says_what_was_found_then_what_was_not_then_what_was_not_looked_for(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    document = written(report_request(study), "text")["text_sr"]
    assert texts(document) == [
        "Collimator",
        "NOT FOR DIAGNOSTIC USE",
        "Found: Pneumonia, certainty 83 % (threshold 50 %).",
        "Not found: Effusion 12 %, Pleural Thickening 5 % (threshold 50 %).",
        "Not looked for: anything other than Pneumonia, Effusion, Pleural Thickening. Not analysed: Image 2 (DX, LL).",
        "torchxrayvision densenet121-res224-all, version 1.0.0, by mlmed.",
        "A machine wrote this result; no person has checked it.",
        "Certainty is the model's own score against its tested threshold. It is not a probability of disease.",
        "Weights SHA-256: 56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899.",
        "Image 1 (DX, PA): analysed, SOP Instance UID 2.25.4711.13.1.1.",
        "Image 2 (DX, LL): not analysed, SOP Instance UID 2.25.4711.13.2.1.",
        "Body Part Examined is CHEST.",
        "The patient is 56 years old; the model is made for 18 and older.",
        "Intended use: Research on adult chest radiographs, PA or AP.",
        "It reads frontal views of adults only.",
        "It was never tested on portable films.",
    ]


def test_where_several_images_were_analysed_each_has_its_own_line(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    both = analysis(study, images=2)
    frontal, lateral = both.images
    lateral = replace(lateral, findings=tuple(replace(one, certainty=0.2) for one in lateral.findings))
    lines = texts(written(report_request(study, replace(both, images=(frontal, lateral))), "text")["text_sr"])
    assert lines[2:7] == [
        "Found on Image 1 (DX, PA): Pneumonia, certainty 83 % (threshold 50 %).",
        "No finding on Image 2 (DX, LL) reached its threshold.",
        "Not found on Image 1 (DX, PA): Effusion 12 %, Pleural Thickening 5 % (threshold 50 %).",
        "Not found on Image 2 (DX, LL): Pneumonia 20 %, Effusion 20 %, Pleural Thickening 20 % (threshold 50 %).",
        "Not looked for: anything other than Pneumonia, Effusion, Pleural Thickening.",
    ]


def test_where_everything_was_found_the_second_answer_is_there_all_the_same(study: Study) -> None:
    lines = texts(
        written(report_request(study, analysis(study, findings=(finding("Pneumonia", 0.9),))), "text")["text_sr"]
    )
    assert lines[2:4] == ["Found: Pneumonia, certainty 90 % (threshold 50 %).", "Nothing else was looked for."]


def detected_and_measured(study: Study, **changes: object) -> Analysis:
    given = analysis(study)
    (image,) = given.images
    marked = replace(image, activation=None, regions=PLACES, measurements=(COBB_ANGLE,))
    return replace(given, images=(replace(marked, **changes),))  # type: ignore[arg-type]


def test_the_text_report_tells_a_measured_value_and_how_many_places_are_marked(study: Study) -> None:
    lines = texts(written(report_request(study, detected_and_measured(study)), "text")["text_sr"])
    assert lines[2:5] == [
        "Found: Pneumonia, certainty 83 % (threshold 50 %), 2 places marked.",
        "Not found: Effusion 12 %, Pleural Thickening 5 % (threshold 50 %).",
        # One decimal would say that it reaches its threshold.
        "Measured: Cobb angle 24.96 deg (threshold 25.00 deg).",
    ]
    assert "Not looked for: anything other than Cobb angle, Pneumonia, Effusion, Pleural Thickening." in lines


def test_a_value_at_its_threshold_is_found_and_one_without_a_threshold_is_only_told(study: Study) -> None:
    at = detected_and_measured(study, findings=(), measurements=(replace(COBB_ANGLE, value=25.0),))
    assert texts(written(report_request(study, at), "text")["text_sr"])[2] == (
        "Found: Cobb angle 25.0 deg (threshold 25.0 deg)."
    )
    told = detected_and_measured(study, findings=(), measurements=(replace(COBB_ANGLE, threshold=None),))
    assert texts(written(report_request(study, told), "text")["text_sr"])[2:4] == [
        "No finding reached its threshold. This does not exclude disease.",
        "Measured: Cobb angle 25.0 deg.",
    ]


def test_a_measured_value_that_is_no_number_is_never_written(study: Study) -> None:
    wrong = detected_and_measured(study, measurements=(replace(COBB_ANGLE, value=float("nan")),))
    with pytest.raises(ValueError, match="the value must be a number"):
        report_request(study, wrong)


def test_a_study_without_findings_is_not_called_healthy(study: Study) -> None:
    negative = analysis(study, findings=(finding("Pneumonia", 0.2),))
    assert "No finding reached its threshold. This does not exclude disease." in texts(
        written(report_request(study, negative))["text_sr"]
    )


def test_a_note_is_a_text_report_alone_where_the_profile_takes_one(study: Study) -> None:
    request = ReportRequest(study=study, node=NODE, note=NOTE)
    for profile in ("standard", "ohif", "text"):
        results = written(request, profile)
        assert list(results) == ["text_sr"]
        assert results["text_sr"].SeriesDescription == "AI Note"
        assert texts(results["text_sr"]) == [
            "Collimator",
            "Not analysed: no model is configured for this study.",
            "The study was kept.",
            "Nothing was charged.",
            "This study was not analysed: no finding was looked for.",
            "Image 1 (DX, PA): not analysed, SOP Instance UID 2.25.4711.1.1.1.",
        ]


def test_a_note_is_a_picture_where_pictures_are_all_that_is_taken_or_the_clinic_wants_both(study: Study) -> None:
    request = ReportRequest(study=study, node=NODE, note=NOTE)
    assert list(written(request, "sc_only")) == ["overlay"]
    both = written(replace(request, note=replace(NOTE, is_drawn=True)))
    assert list(both) == ["overlay", "text_sr"]
    picture = both["overlay"]
    assert (picture.SeriesDescription, picture.Rows, picture.Columns) == ("AI Note", 860, 1280)
    assert picture.ImageType == ["ORIGINAL", "SECONDARY", "OTHER"]
    assert "SourceImageSequence" not in picture
    assert "DerivationDescription" not in picture


def test_a_revised_report_names_the_one_it_replaces(study: Study) -> None:
    before = PreviousResult(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33",
        sop_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
    )
    results = written(replace(report_request(replace(study, generation=2)), previous_results=(before,)))
    item = results["measurement_sr"].PredecessorDocumentsSequence[0]
    assert item.StudyInstanceUID == "2.25.4711.1"
    assert item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.1"
    assert "PredecessorDocumentsSequence" not in results["text_sr"]
    assert "Result 2 of this study: more images came after the one before." in texts(results["text_sr"])


def test_the_order_that_a_study_was_made_for_is_referenced(tmp_path: Path) -> None:
    study = stored_study(case(16).make(), tmp_path)
    request = written(report_request(study), "text")["text_sr"].ReferencedRequestSequence[0]
    assert (request.AccessionNumber, request.RequestedProcedureID) == ("ORDER-7", "RP7")


def test_routing_words_in_the_patients_script_stay_in_it(tmp_path: Path) -> None:
    japanese = stored_study(case(3).make(), tmp_path)
    decision = ("Study Description is 胸部.",)
    assert decision[0] in texts(written(replace(report_request(japanese), decision=decision), "text")["text_sr"])


def test_words_that_the_studys_character_set_lacks_are_replaced_and_not_lost(study: Study) -> None:
    request = replace(report_request(study), decision=("Study Description is 胸部.",))
    assert "Study Description is ??." in texts(written(request, "text")["text_sr"])


def test_a_private_code_brings_its_coding_scheme_with_it(study: Study) -> None:
    report = written(report_request(study))["measurement_sr"]
    assert [item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence] == ["99COLLIM"]
    public = analysis(study, findings=(finding("Pneumonia", 0.2),))
    assert "CodingSchemeIdentificationSequence" not in written(report_request(study, public))["measurement_sr"]


def test_a_study_whose_analysed_image_cannot_be_read_is_refused(study: Study) -> None:
    Path(study.instances[0].path).write_bytes(b"not DICOM")
    with pytest.raises(Refuse) as error:
        write_results(report_request(study), profile="standard")
    assert error.value.reason == "unreadable_source"


def test_a_name_in_an_undefined_character_set_is_refused(tmp_path: Path) -> None:
    dataset = radiograph(1)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Müller"
    study = stored_study([dataset], tmp_path)
    path = Path(study.instances[0].path)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR 999"))
    with pytest.warns(UserWarning, match="ISO_IR 999"), pytest.raises(Refuse) as error:
        write_results(report_request(study), profile="text")
    assert error.value.reason == "unknown_character_set"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_study_uid_that_is_none_is_refused_before_anything_is_sent(study: Study) -> None:
    with pytest.raises(Refuse) as error:
        write_results(report_request(replace(study, study_instance_uid="1.2.03")), profile="text")
    assert error.value.reason == "invalid_result"
    assert "StudyInstanceUID is not a UID" in error.value.message


def test_a_study_of_private_objects_is_refused(study: Study) -> None:
    private = replace(study, instances=(replace(study.instances[0], sop_class_uid="1.3.46.670589.2.1.1"),))
    with pytest.raises(Refuse) as error:
        write_results(report_request(private), profile="text")
    assert error.value.reason == "unsupported_source"


@pytest.mark.parametrize("certainty", [1.2, -0.1, float("nan")])
def test_a_certainty_outside_0_to_1_is_a_fault_of_the_model_and_never_written(study: Study, certainty: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        report_request(study, analysis(study, findings=(finding("Pneumonia", certainty),)))


def test_a_report_is_about_one_thing_an_analysis_a_note_or_a_rejection(study: Study) -> None:
    answer: Analysis = analysis(study)
    safety = Rejection.SAFETY
    for found, note, rejection in ((answer, NOTE, None), (answer, None, safety), (None, NOTE, safety), (None,) * 3):
        with pytest.raises(ValueError, match="about an analysis, a note that says why there is none, or a rejection"):
            ReportRequest(study=study, node=NODE, analysis=found, note=note, rejection=rejection)
