"""What the reports in the form of TID 1500 share: the document around the groups, and what stands in every group."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    QualitativeEvaluation,
    TrackingIdentifier,
)
from highdicom.sr.value_types import ContainerContentItem, ContentItem
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage

from domain.findings import Analysis, Code, ImageAnalysis, ModelIdentity
from domain.identity import LOCAL_CODING_SCHEME
from reports.codes import (
    ARTIFICIAL_INTELLIGENCE,
    COMMENT,
    DETECTED,
    NOT_DETECTED,
    PRESENCE,
    QUALITATIVE_EVALUATIONS,
    procedure_reported,
)
from reports.companions import Companion
from reports.draft import Draft
from reports.material import Material
from reports.provenance import Form, as_code
from reports.request import NodeIdentity
from reports.sr.content import Item, container, reference, text
from reports.sr.document import structured_report
from reports.sr.image_library import image_library
from reports.sr.observer import device_observer
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


def measurement_report(
    material: Material,
    analysis: Analysis,
    *,
    kind: str,
    series_number: int,
    title: str,
    groups: Iterable[Item],
    evaluations: Sequence[Item] = (),
    sop_class_uid: str = ComprehensiveSRStorage,
    companions: Sequence[Companion] = (),
) -> Draft:
    """The document. `evaluations` stand before the comment that says it all in a sentence. `companions`: the other
    results of the same analysis that it names.
    """
    form = Form(kind=kind, series_number=series_number, title=title, coding_schemes=private_coding_schemes(analysis))
    images = [instance for instance in material.source.instances if instance.is_image]
    comment = text(COMMENT, material.source.writable(" ".join(_sentences(analysis))))
    root = Item(
        _report,
        (analysis.model, material.request.node, procedure_reported(_finding_sites(analysis))),
        (),
        (
            (image_library(images),) if images else (),
            tuple(groups),
            (
                container(QUALITATIVE_EVALUATIONS, [*evaluations, comment]),
                *(reference(one.purpose, one.sop_class_uid, one.sop_instance_uid) for one in companions),
            ),
        ),
    )
    return structured_report(sop_class_uid, material, root, form, companions=companions)


def _report(
    model: ModelIdentity,
    node: NodeIdentity,
    procedure: Code,
    libraries: list[ContainerContentItem],
    groups: list[Any],
    behind: list[ContentItem],
) -> MeasurementReport:
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device_observer(model.device_uid, node)),
        procedure_reported=as_code(procedure),
        imaging_measurements=groups,
    )
    root = report[0]
    # TID 1500 has the library before the measurements and the evaluations, its row 12, at the end.
    for library in libraries:
        root.ContentSequence.insert(_place_of_measurements(root), library)
    root.ContentSequence.extend(behind)
    return report


def _finding_sites(analysis: Analysis) -> frozenset[str]:
    answers = (answer for image in analysis.images for answer in image.answers)
    return frozenset(answer.site.value for answer in answers if answer.site)


def _place_of_measurements(root: Dataset) -> int:
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in root.ContentSequence]
    return names.index("126010")  # Imaging Measurements


def about_group(model: ModelIdentity, label: str, code: Code, site: Code | None, tracking: UID) -> dict[str, Any]:
    """What a group is about and which model says it, for highdicom's templates of groups."""
    return {
        "tracking_identifier": TrackingIdentifier(identifier=tracking_identifier(label), uid=tracking),
        "finding_type": as_code(code),
        "finding_sites": [FindingSite(as_code(site))] if site else None,
        "algorithm_id": _algorithm(model),
    }


def presence(is_detected: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(name=as_code(PRESENCE), value=as_code(DETECTED if is_detected else NOT_DETECTED))


def _algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=in_ascii(model.title),
        version=in_ascii(model.version),
        family=as_code(ARTIFICIAL_INTELLIGENCE),
        manufacturer=in_ascii(model.manufacturer) or None,
        parameters=[f"weights SHA-256 {model.weights_sha256}"] if model.weights_sha256 else None,
    )


def tracking_identifier(label: str) -> str:
    return f"AI {label_in_words(in_ascii(label))}"


def tracking_uid(model: ModelIdentity, image: ImageAnalysis, label: str) -> UID:
    """The same thing, seen again by the same model in a later generation, keeps its Tracking UID."""
    return UID(derived_uid(image.sop_instance_uid, model.device_uid, label, "tracking"))


def rounded(value: float) -> float:
    # Four decimals: what a single precision score can say, within the 16 characters of a Decimal String.
    return round(float(value), 4)


def number(name: Code, value: float, unit: Code) -> Measurement:
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


def private_coding_schemes(analysis: Analysis) -> frozenset[str]:
    """Coding Scheme Designators that begin with 99 are private and have to be explained (PS3.3 C.12.1.1.1)."""
    answers = (answer for image in analysis.images for answer in image.answers)
    codes = (code for answer in answers for code in (answer.code, answer.site) if code)
    return frozenset(code.scheme for code in codes if code.scheme.startswith(LOCAL_CODING_SCHEME[:2]))
