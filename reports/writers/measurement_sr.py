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

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
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
from highdicom.sr.value_types import TextContentItem
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from domain.findings import Analysis, Code, ImageAnalysis, ModelIdentity
from domain.findings import Measurement as Measured
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
from reports.document import container, structured_report
from reports.image_library import image_library
from reports.provenance import as_code, common_attributes
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
from reports.writer import Material, Writer

KIND = "measurement_sr"
SERIES_NUMBER = 9001


def write(material: Material) -> Iterable[Dataset]:
    """One document for the study."""
    analysis = material.request.analysis
    if analysis is None:
        return
    report = MeasurementReport(
        observation_context=_observation_context(material, analysis.model),
        procedure_reported=as_code(procedure_reported(_finding_sites(analysis))),
        imaging_measurements=list(_measurement_groups(material, analysis)),
    )
    root = report[0]
    images = [instance for instance in material.source.instances if instance.is_image]
    # TID 1500 has the library before the measurements and the evaluations, its row 12, at the end.
    if images:
        root.ContentSequence.insert(_place_of_measurements(root), image_library(images))
    root.ContentSequence.append(container(QUALITATIVE_EVALUATIONS, [_comment(material, analysis)]))
    attributes = common_attributes(
        material,
        kind=KIND,
        series_number=SERIES_NUMBER,
        title="AI Results",
        coding_schemes=_private_coding_schemes(analysis),
    )
    yield structured_report(ComprehensiveSR, material, root, attributes)


def _observation_context(material: Material, model: ModelIdentity) -> ObservationContext:
    node = material.request.node
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


def _measurement_groups(material: Material, analysis: Analysis) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    algorithm = _algorithm(analysis.model)
    for image in analysis.images:
        source = material.source_of(image)
        source_image = SourceImageForMeasurementGroup(
            referenced_sop_class_uid=source.sop_class_uid, referenced_sop_instance_uid=source.sop_instance_uid
        )
        for finding in image.findings:
            yield MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking_identifier(analysis.model, image, finding.label),
                finding_type=as_code(finding.code),
                finding_sites=[FindingSite(as_code(finding.site))] if finding.site else None,
                algorithm_id=algorithm,
                measurements=[
                    _percentage(CERTAINTY_OF_FINDING, finding.certainty),
                    _percentage(THRESHOLD_VALUE, finding.threshold),
                ],
                qualitative_evaluations=[_presence(finding.is_detected)],
                source_images=[source_image],
            )
        for measured in image.measurements:
            yield _measured_group(analysis.model, image, measured, algorithm, source_image)


def _measured_group(
    model: ModelIdentity,
    image: ImageAnalysis,
    measured: Measured,
    algorithm: AlgorithmIdentification,
    source_image: SourceImageForMeasurementGroup,
) -> MeasurementsAndQualitativeEvaluations:
    """A value that the model measured, in its own unit; with a threshold it is judged as well."""
    values = [_value(measured.code, measured.value, measured.unit)]
    judged = []
    if measured.threshold is not None:
        values.append(_value(THRESHOLD_VALUE, measured.threshold, measured.unit))
        judged.append(_presence(measured.is_detected))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking_identifier(model, image, measured.label),
        finding_type=as_code(measured.code),
        finding_sites=[FindingSite(as_code(measured.site))] if measured.site else None,
        algorithm_id=algorithm,
        measurements=values,
        qualitative_evaluations=judged or None,
        source_images=[source_image],
    )


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


def _tracking_identifier(model: ModelIdentity, image: ImageAnalysis, label: str) -> TrackingIdentifier:
    """The same thing, seen again by the same model in a later generation, keeps its Tracking UID."""
    return TrackingIdentifier(
        identifier=f"AI {label_in_words(in_ascii(label))}",
        uid=derived_uid(image.sop_instance_uid, model.device_uid, label, "tracking"),
    )


def _percentage(name: Code, fraction: float) -> Measurement:
    return _value(name, fraction * 100, PERCENT)


def _value(name: Code, value: float, unit: Code) -> Measurement:
    # Four decimals: what a single precision score can say, within the 16 characters of a Decimal String.
    return Measurement(name=as_code(name), value=round(value, 4), unit=as_code(unit))


def _comment(material: Material, analysis: Analysis) -> TextContentItem:
    return TextContentItem(
        name=as_code(COMMENT),
        value=material.source.writable(" ".join(_sentences(analysis))),
        relationship_type="CONTAINS",
    )


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
