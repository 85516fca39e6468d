"""Measurement Groups about a place on an image, TID 1410: one for each place at or above its threshold.

Measurement Group
├── Tracking Identifier, Tracking UID, Finding, Finding Site, algorithm
├── Image Region: a closed polyline in the source image's pixels
└── Certainty of Finding, Threshold Value, Presence
"""

from collections.abc import Iterator

import numpy as np
from highdicom.sr import (
    GraphicTypeValues,
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
)
from pydicom.uid import UID

from domain.findings import Analysis, Code, ModelIdentity
from reports.codes import CERTAINTY_OF_FINDING, PERCENT, THRESHOLD_VALUE
from reports.material import Material
from reports.places import places_of
from reports.regions import Outline
from reports.sr.content import Item
from reports.sr.measurement_report import about_group, number, presence, rounded


def region_groups(material: Material, analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        source = material.source_of(image)
        for place in places_of(material, analysis, image):
            finding = place.region.finding
            fixed = (analysis.model, finding.label, finding.code, finding.site, source.sop_class_uid)
            scores = (rounded(place.region.certainty * 100), rounded(finding.threshold * 100))
            about = (UID(source.sop_instance_uid), place.region.outline)
            yield Item(_group, fixed, (place.tracking_uid, *scores, *about))


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
