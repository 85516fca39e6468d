"""The report for viewers that draw on the source image: TID 1500 with a group for each place, in a Comprehensive SR.

    Imaging Measurement Report                      TID 1500
    ├── language, observer, procedure, Image Library
    ├── Imaging Measurements
    │   └── Measurement Group, one a place          TID 1410
    │       ├── Tracking Identifier, Tracking UID, Finding, Finding Site, algorithm
    │       ├── Image Region: a closed polyline in the source image's pixels
    │       └── Certainty of Finding, Threshold Value, Presence
    └── Qualitative Evaluations
        ├── each label and analysed image: Detected | Not detected
        └── Comment: warnings and the result in a sentence

OHIF 3.13 shows an empty page for a TID 1500 report in which a group has no place: what concerns a whole image is an
evaluation here, and where no place is at or above its threshold there is no such report at all.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from highdicom.sr import (
    GraphicTypeValues,
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
)
from pydicom.uid import UID, ComprehensiveSRStorage

from domain.findings import Analysis, Code, ModelIdentity
from reports.codes import CERTAINTY_OF_FINDING, DETECTED, NOT_DETECTED, PERCENT, THRESHOLD_VALUE
from reports.content import Item, code
from reports.draft import Draft
from reports.material import Material
from reports.measurement_report import about_group, measurement_report, number, presence, rounded, tracking_uid
from reports.regions import Outline, marked_regions
from reports.writer import Writer

KIND = "region_sr"
SERIES_NUMBER = 9003


def write(material: Material) -> Iterable[Draft]:
    """One document for the study, if there is a place to draw."""
    analysis = material.request.analysis
    groups = tuple(_groups(material, analysis)) if analysis is not None else ()
    if analysis is not None and groups:
        yield measurement_report(
            material,
            analysis,
            kind=KIND,
            series_number=SERIES_NUMBER,
            title="AI Regions",
            groups=groups,
            evaluations=tuple(_evaluations(analysis)),
        )


def _evaluations(analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        for finding in image.findings:
            yield code(finding.code, DETECTED if finding.is_detected else NOT_DETECTED)


def _groups(material: Material, analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        source = material.source_of(image)
        for place, region in enumerate(marked_regions(image, source), start=1):
            finding = region.finding
            fixed = (analysis.model, finding.label, finding.code, finding.site, source.sop_class_uid)
            scores = (rounded(region.certainty * 100), rounded(finding.threshold * 100))
            tracking = tracking_uid(analysis.model, image, f"{finding.label} {place}")
            yield Item(_group, fixed, (tracking, *scores, UID(source.sop_instance_uid), region.outline))


def _group(
    model: ModelIdentity,
    label: str,
    code: Code,
    site: Code | None,
    sop_class_uid: str,
    tracking: UID,
    certainty_percent: float,
    threshold_percent: float,
    sop_instance_uid: UID,
    outline: Outline,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    source = SourceImageForRegion(referenced_sop_class_uid=sop_class_uid, referenced_sop_instance_uid=sop_instance_uid)
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        **about_group(model, label, code, site, tracking),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE, graphic_data=np.array(outline), source_image=source
        ),
        measurements=[
            number(CERTAINTY_OF_FINDING, certainty_percent, PERCENT),
            number(THRESHOLD_VALUE, threshold_percent, PERCENT),
        ],
        qualitative_evaluations=[presence(is_detected=True)],
    )


WRITER = Writer(kind=KIND, sop_class_uid=ComprehensiveSRStorage, series_number=SERIES_NUMBER, write=write)
