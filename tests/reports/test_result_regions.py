"""Where a finding lies: outlines in the source image's pixels, and the report that has viewers draw them."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
from highdicom.sr import MeasurementReport
from pydicom.sr.coding import Code

from domain.findings import ActivationMap, Analysis, Finding, ImageAnalysis, Region
from domain.study import Study
from inference.adapters.classifier import LARGEST_MAP
from reports.regions import marked_regions
from reports.source import SourceInstance
from reports.write import write_results
from tests.factories.analyses import EFFUSION, PLACES, PNEUMONIA, activation, analysis, report_request
from tests.factories.sources import case, stored_study

PlanarGroup = highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations
SOURCE = SourceInstance(
    sop_instance_uid="2.25.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    series_instance_uid="2.25.2",
    modality="DX",
    view_position="PA",
    rows=64,
    columns=56,
    patient_orientation=None,
    imager_pixel_spacing_mm=None,
    equipment=(),
    lossy_compression=(),
)


def image(*findings: Finding, places: tuple[Region, ...] = (), warm: ActivationMap | None = None) -> ImageAnalysis:
    return ImageAnalysis(sop_instance_uid="2.25.1", findings=findings, activation=warm, regions=places)


def warm_square(left: int, top: int, right: int, bottom: int, *, cells: int = 20) -> ActivationMap:
    """A map of the whole of a 56 by 64 image, warm between these cells."""
    values = np.zeros((cells, cells), int)
    values[top:bottom, left:right] = 255
    return ActivationMap(
        label="Pneumonia", rows=cells, columns=cells, values=tuple(values.ravel().tolist()),
        left=0.0, top=0.0, width=56.0, height=64.0,
    )  # fmt: skip


def test_a_box_is_cut_off_at_the_edge_of_the_image() -> None:
    first, second = marked_regions(image(PNEUMONIA, places=PLACES), SOURCE)
    assert first.outline == ((10, 12), (30, 12), (30, 20), (10, 20), (10, 12))
    assert second.outline == ((30, 40), (56, 40), (56, 49.5), (30, 49.5), (30, 40))
    assert [place.certainty for place in (first, second)] == [0.83, 0.61]


def test_a_box_that_lies_beside_the_image_is_no_place() -> None:
    beside = replace(PLACES[0], left=60.0)
    assert marked_regions(image(PNEUMONIA, places=(beside,)), SOURCE) == ()


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [(10.0, 10.0, 0.0, 0.0), (10.0, 10.0, 0.001, 0.001), (-5.0, 0.0, 5.001, 50.0)],
)
def test_a_box_that_is_thinner_than_an_outline_can_say_is_no_place(
    study: Study, left: float, top: float, width: float, height: float
) -> None:
    sliver = replace(PLACES[0], left=left, top=top, width=width, height=height)
    given = image(PNEUMONIA, places=(sliver,))
    assert marked_regions(given, SOURCE) == ()
    for profile in ("standard", "ohif", "air", "gsps", "seg"):
        write_results(report_request(study, only(study, given)), profile=profile)


@pytest.mark.parametrize("profile", ["standard", "ohif", "air", "gsps", "seg"])
def test_boxes_far_beyond_the_image_are_drawn_as_far_as_it_goes(study: Study, profile: str) -> None:
    """An adapter allows a hundred sides of the input, which may stand for a large film."""
    far = 1e6
    around, beside = (replace(PLACES[0], left=left, top=left, width=2 * far, height=2 * far) for left in (-far, far))
    request = report_request(study, only(study, image(PNEUMONIA, places=(around, beside))))
    assert write_results(request, profile=profile)


@pytest.mark.parametrize("profile", ["standard", "ohif", "air", "gsps", "seg"])
@pytest.mark.parametrize("shape", [(1, 1), (1, LARGEST_MAP), (LARGEST_MAP, LARGEST_MAP)])
def test_a_map_of_noise_of_every_size_that_a_network_may_give_is_drawn(
    study: Study, profile: str, shape: tuple[int, int]
) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape[0] * shape[1])
    noise = replace(activation(), rows=shape[0], columns=shape[1], values=tuple(values.tolist()))
    given = image(PNEUMONIA, warm=noise)
    assert all(len(place.outline) * 2 * 4 <= 65534 for place in marked_regions(given, SOURCE))
    write_results(report_request(study, only(study, given)), profile=profile)


def test_a_finding_below_its_threshold_has_no_place() -> None:
    box = replace(PLACES[0], label="Effusion")
    assert marked_regions(image(EFFUSION, places=(box,)), SOURCE) == ()
    cold = replace(PNEUMONIA, certainty=0.49)
    assert marked_regions(image(cold, warm=activation()), SOURCE) == ()


def test_the_map_of_another_label_marks_nothing() -> None:
    assert marked_regions(image(PNEUMONIA, warm=activation(label="Effusion")), SOURCE) == ()


def test_a_map_is_outlined_at_half_of_its_maximum() -> None:
    (place,) = marked_regions(image(PNEUMONIA, warm=warm_square(5, 5, 10, 15)), SOURCE)
    columns, rows = zip(*place.outline, strict=True)
    assert (min(columns), max(columns)) == pytest.approx((5 * 2.8, 10 * 2.8), abs=0.3)
    assert (min(rows), max(rows)) == pytest.approx((5 * 3.2, 15 * 3.2), abs=0.3)
    assert place.outline[0] == place.outline[-1]
    assert place.certainty == PNEUMONIA.certainty


def test_a_line_runs_along_the_edge_of_what_the_network_saw_and_no_further() -> None:
    (place,) = marked_regions(image(PNEUMONIA, warm=warm_square(0, 0, 5, 5)), SOURCE)
    columns, rows = zip(*place.outline, strict=True)
    assert (min(columns), min(rows)) == (0.0, 0.0)
    assert (max(columns), max(rows)) == pytest.approx((14.0, 16.0), abs=0.3)


def test_two_warm_areas_are_two_places_and_a_speck_is_none() -> None:
    areas = np.array(warm_square(1, 1, 6, 6).values) + np.array(warm_square(12, 12, 18, 18).values)
    two = replace(warm_square(0, 0, 0, 0), values=tuple(areas.tolist()))
    assert len(marked_regions(image(PNEUMONIA, warm=two), SOURCE)) == 2
    speck = warm_square(30, 30, 31, 31, cells=60)
    assert marked_regions(image(PNEUMONIA, warm=speck), SOURCE) == ()


def roi(group: PlanarGroup) -> highdicom.sr.ImageRegion:
    assert isinstance(group.roi, highdicom.sr.ImageRegion)
    return group.roi


def image_of(group: PlanarGroup) -> str:
    return str(roi(group).ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def only(study: Study, given: ImageAnalysis) -> Analysis:
    """What a model said about the study's first image, and about no other."""
    return replace(analysis(study), images=(replace(given, sop_instance_uid=study.instances[0].sop_instance_uid),))


def groups(study: Study, given: ImageAnalysis) -> list[PlanarGroup]:
    results = write_results(report_request(study, only(study, given)), profile="ohif")
    documents = [highdicom.sr.srread(BytesIO(one.content)) for one in results if one.kind == "region_sr"]
    if not documents:
        return []
    (document,) = documents
    assert isinstance(document.content, MeasurementReport)
    assert document.content.get_image_measurement_groups() == []
    return list(document.content.get_planar_roi_measurement_groups())


def test_every_place_is_a_group_with_its_outline_on_the_source_image(study: Study) -> None:
    read = groups(study, image(PNEUMONIA, EFFUSION, places=PLACES))
    assert [group.finding_type for group in read] == [Code("233604007", "SCT", "Pneumonia")] * 2
    assert [group.get_measurements()[0].value for group in read] == [83.0, 61.0]
    assert len({group.tracking_uid for group in read}) == 2
    outlines = [roi(group).value.tolist() for group in read]
    assert outlines[1] == [[30, 40], [56, 40], [56, 49.5], [30, 49.5], [30, 40]]
    assert {image_of(group) for group in read} == {study.instances[0].sop_instance_uid}


def test_what_concerns_the_whole_image_is_an_evaluation_beside_the_groups(study: Study) -> None:
    request = report_request(study, analysis(study, findings=(PNEUMONIA, EFFUSION)))
    (report,) = [one for one in write_results(request, profile="ohif") if one.kind == "region_sr"]
    evaluations = highdicom.sr.srread(BytesIO(report.content)).ContentSequence[-1]
    said = [
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.ConceptCodeSequence[0].CodeMeaning)
        for item in evaluations.ContentSequence
        if item.ValueType == "CODE"
    ]
    assert said == [("Pneumonia", "Detected"), ("Pleural effusion", "Not detected")]


def test_without_a_place_there_is_no_report_that_would_show_an_empty_page(study: Study) -> None:
    assert groups(study, image(EFFUSION, warm=activation(label="Effusion"))) == []


def test_each_analysed_view_has_its_own_places(tmp_path: Path) -> None:
    study = stored_study(case(13).make(), tmp_path)
    results = write_results(report_request(study, analysis(study, images=2)), profile="ohif")
    (report,) = [one for one in results if one.kind == "region_sr"]
    document = highdicom.sr.srread(BytesIO(report.content))
    assert isinstance(document.content, MeasurementReport)
    images = {image_of(group) for group in document.content.get_planar_roi_measurement_groups()}
    assert images == {instance.sop_instance_uid for instance in study.instances}
