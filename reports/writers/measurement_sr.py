"""The report for machines: TID 1500 Measurement Report in a Comprehensive SR (1.2.840.10008.5.1.4.1.1.88.33).

    Imaging Measurement Report                      TID 1500
    ├── language, the model as observer             TID 1204, TID 1002/1004
    ├── Procedure reported
    ├── Image Library                               TID 1600: every image of the study
    ├── Imaging Measurements
    │   └── Measurement Group, one a label and analysed image         TID 1501
    │       ├── Tracking Identifier, Tracking UID, Finding, Finding Site
    │       ├── algorithm                           TID 4019
    │       ├── Certainty of Finding, Threshold Value, in percent
    │       ├── Presence = Detected | Not detected
    │       └── source image
    └── Qualitative Evaluations
        └── Comment: warnings and the result in a sentence

Comprehensive SR rather than Comprehensive 3D SR: a radiograph has no third coordinate, and some readers of TID 1500
take only this one.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from highdicom.sr.value_types import ContainerContentItem, ContentSequence, TextContentItem
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage

from domain.findings import Analysis, Code, ImageAnalysis, ModelIdentity
from domain.identity import LOCAL_CODING_SCHEME, MANUFACTURER, MODEL_NAME
from reports.codes import (
    ARTIFICIAL_INTELLIGENCE,
    CERTAINTY_OF_FINDING,
    COMMENT,
    DETECTED,
    DEVICE,
    NOT_DETECTED,
    PERCENT,
    PRESENCE,
    QUALITATIVE_EVALUATIONS,
    THRESHOLD_VALUE,
    procedure_reported,
)
from reports.content import CONTAINS, Item
from reports.document import structured_report
from reports.draft import Draft
from reports.image_library import image_library
from reports.material import Material
from reports.provenance import Form, as_code
from reports.request import NodeIdentity
from reports.uids import derived_uid
from reports.words import (
    DEMONSTRATION_REASON,
    NOTHING_FOUND,
    finding_in_words,
    in_ascii,
    label_in_words,
    measurement_in_words,
    model_in_words,
    warnings_for,
)
from reports.writer import Writer

KIND = "measurement_sr"
SERIES_NUMBER = 9001


def write(material: Material) -> Iterable[Draft]:
    """One document for the study."""
    analysis = material.request.analysis
    if analysis is None:
        return
    form = Form(
        kind=KIND, series_number=SERIES_NUMBER, title="AI Results", coding_schemes=_private_coding_schemes(analysis)
    )
    images = [instance for instance in material.source.instances if instance.is_image]
    root = Item(
        _report,
        (analysis.model, material.request.node, procedure_reported(_finding_sites(analysis))),
        (material.source.writable(" ".join(_sentences(analysis))),),
        ((image_library(images),) if images else (), tuple(_measurement_groups(material, analysis))),
    )
    yield structured_report(ComprehensiveSRStorage, material, root, form)


def _report(
    model: ModelIdentity,
    node: NodeIdentity,
    procedure: Code,
    comment: str,
    libraries: list[ContainerContentItem],
    groups: list[MeasurementsAndQualitativeEvaluations],
) -> MeasurementReport:
    report = MeasurementReport(
        observation_context=_observation_context(model, node),
        procedure_reported=as_code(procedure),
        imaging_measurements=groups,
    )
    root = report[0]
    # TID 1500 has the library before the measurements and the evaluations, its row 12, at the end.
    for library in libraries:
        root.ContentSequence.insert(_place_of_measurements(root), library)
    evaluations = ContainerContentItem(name=as_code(QUALITATIVE_EVALUATIONS), relationship_type=CONTAINS)
    evaluations.ContentSequence = ContentSequence(
        [TextContentItem(name=as_code(COMMENT), value=comment, relationship_type=CONTAINS)]
    )
    root.ContentSequence.append(evaluations)
    return report


def _observation_context(model: ModelIdentity, node: NodeIdentity) -> ObservationContext:
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(as_code(DEVICE)),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=model.device_uid,
                name=MODEL_NAME,
                manufacturer_name=MANUFACTURER,
                model_name=node.model_name,
                serial_number=node.serial_number,
            ),
        )
    )


def _finding_sites(analysis: Analysis) -> frozenset[str]:
    answers = (answer for image in analysis.images for answer in image.answers)
    return frozenset(answer.site.value for answer in answers if answer.site)


def _place_of_measurements(root: Dataset) -> int:
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in root.ContentSequence]
    return names.index("126010")  # Imaging Measurements


def _measurement_groups(material: Material, analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        source = material.source_of(image)
        about = (UID(source.sop_class_uid), UID(source.sop_instance_uid))
        for finding in image.findings:
            fixed = (analysis.model, finding.label, finding.code, finding.site, finding.is_detected)
            scores = (_rounded(finding.certainty * 100), _rounded(finding.threshold * 100))
            tracking = _tracking_uid(analysis.model, image, finding.label)
            yield Item(_finding_group, fixed, (tracking, *scores, *about))
        for measured in image.measurements:
            judged = measured.is_detected if measured.threshold is not None else None
            of_value = (analysis.model, measured.label, measured.code, measured.site, measured.unit, judged)
            numbers = (measured.value,) if measured.threshold is None else (measured.value, measured.threshold)
            tracking = _tracking_uid(analysis.model, image, measured.label)
            yield Item(_measured_group, of_value, (tracking, *about, *map(_rounded, numbers)))


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
        **_identity(model, label, code, site, tracking, about),
        measurements=[
            _value(CERTAINTY_OF_FINDING, certainty_percent, PERCENT),
            _value(THRESHOLD_VALUE, threshold_percent, PERCENT),
        ],
        qualitative_evaluations=[_presence(is_detected)],
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
        **_identity(model, label, code, site, tracking, (sop_class_uid, sop_instance_uid)),
        measurements=[_value(code, value, unit), *(_value(THRESHOLD_VALUE, bound, unit) for bound in threshold)],
        qualitative_evaluations=[_presence(is_detected)] if is_detected is not None else None,
    )


def _identity(
    model: ModelIdentity, label: str, code: Code, site: Code | None, tracking: UID, about: tuple[UID, ...]
) -> dict[str, Any]:
    """What a group is about, by which model, and on which image."""
    sop_class_uid, sop_instance_uid = about
    return {
        "tracking_identifier": TrackingIdentifier(identifier=f"AI {label_in_words(in_ascii(label))}", uid=tracking),
        "finding_type": as_code(code),
        "finding_sites": [FindingSite(as_code(site))] if site else None,
        "algorithm_id": _algorithm(model),
        "source_images": [
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=sop_class_uid, referenced_sop_instance_uid=sop_instance_uid
            )
        ],
    }


def _presence(is_detected: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(name=as_code(PRESENCE), value=as_code(DETECTED if is_detected else NOT_DETECTED))


def _algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=in_ascii(model.title),
        version=in_ascii(model.version),
        family=as_code(ARTIFICIAL_INTELLIGENCE),
        manufacturer=in_ascii(model.manufacturer) or None,
        parameters=[f"weights SHA-256 {model.weights_sha256}"] if model.weights_sha256 else None,
    )


def _tracking_uid(model: ModelIdentity, image: ImageAnalysis, label: str) -> UID:
    """The same thing, seen again by the same model in a later generation, keeps its Tracking UID."""
    return UID(derived_uid(image.sop_instance_uid, model.device_uid, label, "tracking"))


def _rounded(value: float) -> float:
    # Four decimals: what a single precision score can say, within the 16 characters of a Decimal String.
    return round(float(value), 4)


def _value(name: Code, value: float, unit: Code) -> Measurement:
    return Measurement(name=as_code(name), value=value, unit=as_code(unit))


def _sentences(analysis: Analysis) -> Iterator[str]:
    for warning in warnings_for(analysis.model):
        yield f"{warning}."
    if analysis.model.is_demonstration:
        yield DEMONSTRATION_REASON
    detected = [
        *(measurement_in_words(one) for image in analysis.images for one in image.measurements if one.is_detected),
        *(finding_in_words(finding) for image in analysis.images for finding in image.detected),
    ]
    yield f"At or above the threshold: {'; '.join(detected)}." if detected else NOTHING_FOUND
    yield f"Model: {model_in_words(analysis.model)}."


def _private_coding_schemes(analysis: Analysis) -> frozenset[str]:
    """Coding Scheme Designators that begin with 99 are private and have to be explained (PS3.3 C.12.1.1.1)."""
    answers = (answer for image in analysis.images for answer in image.answers)
    codes = (code for answer in answers for code in (answer.code, answer.site) if code)
    return frozenset(code.scheme for code in codes if code.scheme.startswith(LOCAL_CODING_SCHEME[:2]))


WRITER = Writer(kind=KIND, sop_class_uid=ComprehensiveSRStorage, series_number=SERIES_NUMBER, write=write)
