"""Measurement Groups about a whole image, TID 1501: one for each label, and one for each value that was measured.

Measurement Group
├── Tracking Identifier, Tracking UID, Finding, Finding Site
├── algorithm                                   TID 4019
├── Certainty of Finding, Threshold Value, in percent
├── Presence = Detected | Not detected
└── source image
"""

from collections.abc import Iterator

from highdicom.sr import MeasurementsAndQualitativeEvaluations, SourceImageForMeasurementGroup
from pydicom.uid import UID

from domain.findings import Analysis, Code, ModelIdentity
from reports.codes import CERTAINTY_OF_FINDING, PERCENT, THRESHOLD_VALUE
from reports.material import Material
from reports.sr.content import Item
from reports.sr.measurement_report import about_group, number, presence, rounded, tracking_uid


def finding_groups(material: Material, analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        source = material.source_of(image)
        about = (UID(source.sop_class_uid), UID(source.sop_instance_uid))
        for finding in image.findings:
            fixed = (analysis.model, finding.label, finding.code, finding.site, finding.is_detected)
            scores = (rounded(finding.certainty * 100), rounded(finding.threshold * 100))
            tracking = tracking_uid(analysis.model, image, finding.label)
            yield Item(_finding_group, fixed, (tracking, *scores, *about))
        for measured in image.measurements:
            judged = measured.is_detected if measured.threshold is not None else None
            of_value = (analysis.model, measured.label, measured.code, measured.site, measured.unit, judged)
            numbers = (measured.value,) if measured.threshold is None else (measured.value, measured.threshold)
            tracking = tracking_uid(analysis.model, image, measured.label)
            yield Item(_measured_group, of_value, (tracking, *about, *map(rounded, numbers)))


def _finding_group(
    model: ModelIdentity,
    label: str,
    code: Code,
    site: Code | None,
    is_detected: bool,
    tracking: UID,
    certainty_percent: float,
    threshold_percent: float,
    *about: UID,
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        **about_group(model, label, code, site, tracking),
        source_images=_source(about),
        measurements=[
            number(CERTAINTY_OF_FINDING, certainty_percent, PERCENT),
            number(THRESHOLD_VALUE, threshold_percent, PERCENT),
        ],
        qualitative_evaluations=[presence(is_detected)],
    )


def _measured_group(
    model: ModelIdentity,
    label: str,
    code: Code,
    site: Code | None,
    unit: Code,
    is_detected: bool | None,
    tracking: UID,
    sop_class_uid: UID,
    sop_instance_uid: UID,
    value: float,
    *threshold: float,
) -> MeasurementsAndQualitativeEvaluations:
    """A value that the model measured, in its own unit; with a threshold it is judged as well."""
    return MeasurementsAndQualitativeEvaluations(
        **about_group(model, label, code, site, tracking),
        source_images=_source((sop_class_uid, sop_instance_uid)),
        measurements=[number(code, value, unit), *(number(THRESHOLD_VALUE, bound, unit) for bound in threshold)],
        qualitative_evaluations=[presence(is_detected)] if is_detected is not None else None,
    )


def _source(about: tuple[UID, ...]) -> list[SourceImageForMeasurementGroup]:
    sop_class_uid, sop_instance_uid = about
    return [
        SourceImageForMeasurementGroup(
            referenced_sop_class_uid=sop_class_uid, referenced_sop_instance_uid=sop_instance_uid
        )
    ]
