"""What a destination may ask for besides its profile: key objects, a presentation state, a segmentation, a page."""

import re
import subprocess
import zlib
from base64 import a85decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from PIL import Image
from pydicom.dataset import Dataset

from domain.findings import Analysis, Finding, Region
from domain.study import Study
from reports.masks import mask_of
from reports.write import write_results
from tests.factories.analyses import CLEARED_MODEL, EFFUSION, PLACES, PNEUMONIA, activation, analysis, report_request
from tests.factories.sources import case, radiograph, stored_study


def extra(study: Study, name: str, answered: Analysis | None = None, **asked: Any) -> list[Dataset]:
    request = replace(report_request(study, answered), **asked)
    return [pydicom.dcmread(BytesIO(result.content)) for result in write_results(request, profile=name)]


def with_places(study: Study, *places: Region, findings: tuple[Finding, ...] = (PNEUMONIA, EFFUSION)) -> Analysis:
    given = analysis(study, findings=findings)
    return replace(given, images=(replace(given.images[0], activation=None, regions=places or PLACES),))


def below_threshold(study: Study) -> Analysis:
    return analysis(study, findings=(EFFUSION,))


# Where there is nothing to show


@pytest.mark.parametrize("name", ["kos", "gsps", "seg"])
def test_where_nothing_is_found_there_is_no_object(study: Study, name: str) -> None:
    assert extra(study, name, below_threshold(study)) == []


@pytest.mark.parametrize("name", ["gsps", "seg"])
def test_a_finding_without_a_place_has_no_marks_and_no_mask(study: Study, name: str) -> None:
    given = analysis(study)
    nowhere = replace(given, images=(replace(given.images[0], activation=None),))
    assert extra(study, name, nowhere) == []
    assert len(extra(study, "kos", nowhere)) == 1


# Key objects


def named_by(document: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in document.ContentSequence
        if item.ValueType == "IMAGE"
    ]


def test_key_objects_are_the_images_with_findings_each_with_its_overlay(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    given = analysis(study, images=2)
    second_only = replace(given, images=(replace(given.images[0], findings=(EFFUSION,)), given.images[1]))
    overlays = [one.sop_instance_uid for one in write_results(report_request(study, second_only), profile="sc_only")]
    (document,) = extra(study, "kos", second_only)
    assert named_by(document) == [second_only.images[1].sop_instance_uid, overlays[1]]
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"


def test_highdicom_reads_the_key_objects_and_finds_each_in_the_evidence(study: Study) -> None:
    (dataset,) = extra(study, "kos")
    document = KeyObjectSelectionDocument.from_dataset(dataset)
    assert [document.resolve_reference(uid)[0] for uid in named_by(dataset)] == [study.study_instance_uid] * 2


def test_key_objects_say_what_was_found_and_what_it_is_not_for(study: Study) -> None:
    (document,) = extra(study, "kos")
    (description,) = [
        item.TextValue for item in document.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "113012"
    ]
    assert description.startswith("NOT FOR DIAGNOSTIC USE. Found: Pneumonia, certainty 83 % (threshold 50 %).")


# A presentation state


def changed(tmp_path: Path, **values: object) -> Study:
    dataset = radiograph(1)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return stored_study([dataset], tmp_path)


def state(study: Study) -> Dataset:
    (only,) = extra(study, "gsps", with_places(study))
    return only


def test_every_place_is_a_line_on_the_source_image_with_its_finding_beside_it(study: Study) -> None:
    (annotation,) = state(study).GraphicAnnotationSequence
    first, second = annotation.GraphicObjectSequence
    assert (first.GraphicType, first.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
    assert list(first.GraphicData) == [10, 12, 30, 12, 30, 20, 10, 20, 10, 12]
    assert list(second.GraphicData) == [30, 40, 56, 40, 56, 49.5, 30, 49.5, 30, 40]
    text = annotation.TextObjectSequence[0]
    said = str(text.UnformattedTextValue)
    assert said == "AI Pneumonia, certainty 83 % (threshold 50 %)\r\nNOT FOR DIAGNOSTIC USE"
    (image,) = annotation.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == study.instances[0].sop_instance_uid


def test_a_place_has_the_tracking_uid_that_it_has_in_the_reports(study: Study) -> None:
    given = with_places(study)
    report = next(one for one in write_results(report_request(study, given), profile="ohif") if one.kind == "region_sr")
    content = highdicom.sr.srread(BytesIO(report.content)).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    in_report = [group.tracking_uid for group in content.get_planar_roi_measurement_groups()]
    assert [one.TrackingUID for one in state(study).GraphicAnnotationSequence[0].GraphicObjectSequence] == in_report


def test_grey_values_are_shown_as_the_image_says(tmp_path: Path) -> None:
    shown = state(
        changed(
            tmp_path,
            WindowCenter=[2048, 1000],
            WindowWidth=[4096, 500],
            RescaleSlope="2.5",
            RescaleIntercept="-10",
            RescaleType="US",
        )
    )
    (window,) = shown.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (2048, 4096)
    assert (shown.RescaleSlope, shown.RescaleIntercept) == (2.5, -10)
    assert shown.PresentationLUTShape == "IDENTITY"


def test_an_image_whose_lowest_value_is_white_stays_so(tmp_path: Path) -> None:
    assert state(changed(tmp_path, PhotometricInterpretation="MONOCHROME1")).PresentationLUTShape == "INVERSE"


WINDOW: dict[str, object] = {"WindowCenter": 1500, "WindowWidth": 2000}


@pytest.mark.parametrize(
    "values",
    [
        {},
        WINDOW,
        {**WINDOW, "PhotometricInterpretation": "MONOCHROME1"},
        {**WINDOW, "RescaleSlope": "0.5", "RescaleIntercept": "100", "RescaleType": "US"},
    ],
    ids=["as it is", "a window", "lowest is white", "a rescale"],
)
def test_dcmtk_shows_the_image_with_the_state_as_it_does_without(
    tmp_path: Path, values: dict[str, object], require_program: Callable[[str], str]
) -> None:
    study = changed(tmp_path, **values)
    (result,) = write_results(report_request(study, with_places(study)), profile="gsps")
    (tmp_path / "state.dcm").write_bytes(result.content)
    image, window = study.instances[0].path, ["+Wi", "1"] if values else ["-W"]
    state, shown, alone = (str(tmp_path / name) for name in ("state.dcm", "shown.pgm", "alone.pgm"))
    subprocess.run([require_program("dcmp2pgm"), "-p", state, image, shown], capture_output=True, check=True)
    subprocess.run([require_program("dcmj2pnm"), "+op", *window, image, alone], capture_output=True, check=True)
    np.testing.assert_array_equal(np.asarray(Image.open(shown)), np.asarray(Image.open(alone)))


@pytest.mark.parametrize(
    ("values", "ratio"),
    [
        ({"ImagerPixelSpacing": [0.4, 0.4]}, [1, 1]),
        ({"ImagerPixelSpacing": [0.2, 0.4]}, [1, 2]),
        ({"PixelAspectRatio": ["3", "2"]}, [3, 2]),
        ({"NominalScannedPixelSpacing": [0.4, 0.2], "ImagerPixelSpacing": None}, [2, 1]),  # of a film digitiser
        ({"ImagerPixelSpacing": [0.0001, 0.4]}, [1, 1]),
    ],
)
def test_pixels_keep_their_shape(tmp_path: Path, values: dict[str, object], ratio: list[int]) -> None:
    (area,) = state(changed(tmp_path, **values)).DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == ratio


def look_up_table() -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "US", [0, 1, 2, 3])
    return table


@pytest.mark.parametrize(
    "values",
    [
        {"VOILUTSequence": [look_up_table()]},
        {"ModalityLUTSequence": [look_up_table()]},
        {"WindowCenter": "100"},
        {"WindowCenter": "100", "WindowWidth": "0"},
        {"RescaleSlope": "0", "RescaleIntercept": "0"},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
    ],
    ids=["by a look-up table", "values by a look-up table", "half a window", "no width", "no slope", "in colour"],
)
def test_an_image_that_could_not_look_the_same_gets_no_state(tmp_path: Path, values: dict[str, object]) -> None:
    study = changed(tmp_path, **values)
    assert extra(study, "gsps", with_places(study)) == []


def test_a_cleared_models_marks_carry_no_warning(study: Study) -> None:
    (marks,) = extra(study, "gsps", replace(with_places(study), model=CLEARED_MODEL))
    assert "DIAGNOSTIC" not in marks.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue


# A segmentation


def segmentation(study: Study, answered: Analysis) -> highdicom.seg.Segmentation:
    (result,) = write_results(report_request(study, answered), profile="seg")
    return highdicom.seg.segread(BytesIO(result.content))


def pixels(read: highdicom.seg.Segmentation) -> Any:
    return read.get_pixels_by_source_instance([str(read.SourceImageSequence[0].ReferencedSOPInstanceUID)])[0]


def test_highdicom_reads_back_the_pixels_of_each_finding(study: Study) -> None:
    second = replace(EFFUSION, certainty=0.9)
    other = Region(label="Effusion", certainty=0.9, left=0.0, top=0.0, width=5.0, height=5.0)
    read = segmentation(study, with_places(study, PLACES[0], other, findings=(PNEUMONIA, second)))
    expected = np.zeros((64, 56, 2), np.uint8)
    expected[12:20, 10:30, 0] = 1
    expected[0:5, 0:5, 1] = 1
    np.testing.assert_array_equal(pixels(read), expected)
    assert [one.segment_label for one in read.SegmentSequence] == ["AI Pneumonia", "AI Effusion"]


def test_places_of_one_finding_are_one_segment_and_may_overlap(study: Study) -> None:
    overlapping = replace(PLACES[0], left=20.0)
    read = segmentation(study, with_places(study, PLACES[0], overlapping))
    assert len(read.SegmentSequence) == 1
    assert pixels(read).sum() == 8 * 30


def test_a_place_without_a_single_pixel_is_no_segment(study: Study) -> None:
    speck = replace(PLACES[0], left=10.6, top=12.6, width=0.3, height=0.3)
    assert extra(study, "seg", with_places(study, speck)) == []


def test_a_segment_says_who_says_so_and_that_it_outlines_no_disease(study: Study) -> None:
    (segment,) = segmentation(study, with_places(study)).SegmentSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", study_model(study))
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Spatial and Relational Concept"
    assert "not the outline of a disease" in segment.SegmentDescription
    assert "NOT FOR DIAGNOSTIC USE" in segment.SegmentDescription


def study_model(study: Study) -> str:
    return analysis(study).model.title


def test_a_map_becomes_the_pixels_within_its_line(study: Study) -> None:
    read = segmentation(study, analysis(study))
    mask = pixels(read)[..., 0].astype(bool)
    warm = np.array(activation().values).reshape(14, 14) > 127
    assert mask.mean() == pytest.approx(warm.mean() * (56 * 56) / (64 * 56), rel=0.2)
    row, column = (float(one.mean()) for one in np.nonzero(mask))
    assert [column / 56, (row - 4) / 56] == pytest.approx([0.31, 0.6], abs=0.05)


def test_a_pixel_is_inside_when_its_middle_is() -> None:
    triangle = ((0.0, 0.0), (4.0, 0.0), (0.0, 4.0), (0.0, 0.0))
    assert mask_of([triangle], 4, 4).astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    outer = ((0.0, 0.0), (5.0, 0.0), (5.0, 3.0), (4.0, 3.0))
    hollow = (*outer, (4.0, 1.0), (1.0, 1.0), (1.0, 3.0), (0.0, 3.0), (0.0, 0.0))
    assert mask_of([hollow], 3, 5).astype(int).tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1]]


# A page


def texts(document: Dataset) -> str:
    """What the PDF's pages say, in order."""
    pdf = bytes(document.EncapsulatedDocument)
    streams = re.findall(rb"/Filter \[ /ASCII85Decode /FlateDecode \][^>]*>>\s*stream\s(.*?)endstream", pdf, re.DOTALL)
    pages = [zlib.decompress(a85decode(one.strip().removesuffix(b"~>"))) for one in streams]
    said = [re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", page) for page in pages]
    return " ".join(re.sub(rb"\\(.)", rb"\1", text).decode("cp1252") for page in said for text in page)


def test_a_page_says_what_the_readable_report_says(study: Study) -> None:
    (document,) = extra(study, "pdf")
    said = texts(document)
    for sentence in (
        "NOT FOR DIAGNOSTIC USE",
        "Found: Pneumonia, certainty 83 % (threshold 50 %).",
        "Body Part Examined is CHEST.",
        f"Study Instance UID {study.study_instance_uid}",
    ):
        assert sentence in said
    assert "DOE" not in said


def test_a_page_is_in_the_readers_language(study: Study) -> None:
    (document,) = extra(study, "pdf", language="de")
    assert "Schwelle" in texts(document)


def test_a_page_is_a_pdf_of_the_length_that_it_says(study: Study) -> None:
    (document,) = extra(study, "pdf")
    content = bytes(document.EncapsulatedDocument)[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_two_views_are_two_pictures_on_the_page(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    one, two = (extra(study, "pdf", analysis(study, images=count))[0] for count in (1, 2))
    assert [bytes(page.EncapsulatedDocument).count(b"/Subtype /Image") for page in (one, two)] == [1, 2]
