"""The report for people: a short Enhanced SR (1.2.840.10008.5.1.4.1.1.88.22), readable in any viewer that shows text.

It answers in this order: what was found; what was looked for and not found; what was not looked for; then by which
model, on which images, why this model, and what its limits are. A study without an analysis gets the note instead:
why there is none. It follows no template. Viewers often leave out the names of the items, so every line stands alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydicom.uid import EnhancedSRStorage

from domain.findings import Analysis, Code, Finding, ImageAnalysis, Measurement
from domain.identity import LOCAL_CODING_SCHEME, MODEL_NAME
from reports.codes import (
    AI_NOTE,
    AI_RESULT,
    COMMENT,
    DEVICE,
    DEVICE_OBSERVER_NAME,
    DEVICE_OBSERVER_UID,
    ENGLISH,
    FINDING,
    FINDINGS,
    IMAGES,
    LANGUAGE,
    LIMITS,
    LOOKED_FOR,
    MODEL,
    NOT_LOOKED_FOR,
    OBSERVER_TYPE,
    REASON,
    ROUTING,
    WARNING,
    WHY_THIS_MODEL,
)
from reports.content import Item, code, container, text, uid
from reports.document import structured_report
from reports.draft import Draft
from reports.material import Material
from reports.provenance import Form, model_of
from reports.request import Note
from reports.source import SourceInstance
from reports.words import (
    CERTAINTY_IS_NOT_PROBABILITY,
    DEMONSTRATION_REASON,
    NO_ONE_HAS_CHECKED,
    NOTHING_FOUND,
    finding_in_words,
    label_in_words,
    measurement_in_words,
    model_in_words,
    warnings_for,
)
from reports.writer import Writer

KIND = "text_sr"
HAS_CONCEPT_MOD, HAS_OBS_CONTEXT = "HAS CONCEPT MOD", "HAS OBS CONTEXT"
SERIES_NUMBER = 9004


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading and its lines. `line_name` is the concept of each line."""

    heading: Code
    lines: tuple[str, ...]
    line_name: Code = COMMENT


def write(material: Material) -> Iterable[Draft]:
    """One document for the study."""
    note = material.request.note
    form = Form(
        kind=KIND,
        series_number=SERIES_NUMBER,
        title="AI Note" if note is not None else "AI Summary",
        coding_schemes=frozenset({LOCAL_CODING_SCHEME}),
    )
    sections = (_as_container(section, material) for section in _sections(material) if section.lines)
    root = container(AI_NOTE if note is not None else AI_RESULT, [*_context(material), *sections], relationship=None)
    yield structured_report(EnhancedSRStorage, material, root, form)


def _sections(material: Material) -> Iterator[Section]:
    if material.request.analysis is not None:
        yield from _sections_of_analysis(material, material.request.analysis)
    if material.request.note is not None:
        yield from _sections_of_note(material, material.request.note)


def _sections_of_analysis(material: Material, analysis: Analysis) -> Iterator[Section]:
    yield Section(heading=WARNING, lines=tuple(_warning_lines(analysis)))
    yield Section(heading=FINDINGS, lines=tuple(_found(material, analysis)), line_name=FINDING)
    yield Section(heading=LOOKED_FOR, lines=tuple(_not_found(material, analysis)), line_name=FINDING)
    yield Section(heading=NOT_LOOKED_FOR, lines=tuple(_not_looked_for(material, analysis)))
    yield Section(heading=MODEL, lines=tuple(_model_lines(analysis)))
    yield Section(heading=IMAGES, lines=tuple(_image_lines(material)))
    yield Section(heading=WHY_THIS_MODEL, lines=material.request.decision)
    yield Section(heading=LIMITS, lines=(*analysis.model.limits, CERTAINTY_IS_NOT_PROBABILITY, NO_ONE_HAS_CHECKED))


def _sections_of_note(material: Material, note: Note) -> Iterator[Section]:
    yield Section(heading=REASON, lines=(note.title, *note.lines))
    yield Section(heading=NOT_LOOKED_FOR, lines=("This study was not analysed: no finding was looked for.",))
    yield Section(heading=IMAGES, lines=tuple(_image_lines(material)))
    yield Section(heading=ROUTING, lines=material.request.decision)


def _warning_lines(analysis: Analysis) -> Iterator[str]:
    yield from warnings_for(analysis.model)
    if analysis.model.is_demonstration:
        yield DEMONSTRATION_REASON


def _found(material: Material, analysis: Analysis) -> Iterator[str]:
    lines = [
        *_lines_of_measurements(material, analysis, "Found", lambda one: one.is_detected),
        *_lines_of_findings(material, analysis, "Found", lambda image: image.detected),
    ]
    yield from lines or [NOTHING_FOUND]


def _not_found(material: Material, analysis: Analysis) -> Iterator[str]:
    yield from _lines_of_measurements(material, analysis, "Measured", lambda one: not one.is_detected)
    yield from _lines_of_findings(material, analysis, "Not found", lambda image: image.not_detected)


def _lines_of_findings(
    material: Material, analysis: Analysis, verdict: str, of_image: Callable[[ImageAnalysis], tuple[Finding, ...]]
) -> Iterator[str]:
    """A line a finding; where several images were analysed, each line says which it is about."""
    for image in analysis.images:
        for finding in of_image(image):
            places = sum(region.label == finding.label for region in image.regions)
            marked = f", {places} places marked" if places > 1 else ""
            yield f"{verdict}{_where(material, analysis, image)}: {finding_in_words(finding)}{marked}"


def _lines_of_measurements(
    material: Material, analysis: Analysis, verdict: str, is_wanted: Callable[[Measurement], bool]
) -> Iterator[str]:
    for image in analysis.images:
        for measurement in filter(is_wanted, image.measurements):
            yield f"{verdict}{_where(material, analysis, image)}: {measurement_in_words(measurement)}"


def _where(material: Material, analysis: Analysis, image: ImageAnalysis) -> str:
    return f" on {_name_of(material, material.source_of(image))}" if len(analysis.images) > 1 else ""


def _not_looked_for(material: Material, analysis: Analysis) -> Iterator[str]:
    labels = dict.fromkeys(label_in_words(answer.label) for image in analysis.images for answer in image.answers)
    yield f"Anything other than: {', '.join(labels)}."
    analysed = {image.sop_instance_uid for image in analysis.images}
    for instance in material.source.instances:
        if instance.sop_instance_uid not in analysed:
            yield f"{_name_of(material, instance)} was not analysed."


def _model_lines(analysis: Analysis) -> Iterator[str]:
    model = analysis.model
    yield model_in_words(model) + (f", by {model.manufacturer}" if model.manufacturer else "")
    if model.intended_use:
        yield f"Intended use: {model.intended_use}"
    if model.weights_sha256:
        yield f"Weights SHA-256: {model.weights_sha256}"


def _image_lines(material: Material) -> Iterator[str]:
    if material.request.study.generation > 1:
        yield f"Result {material.request.study.generation} of this study: more images came after the one before."
    analysed = {image.sop_instance_uid for image in material.request.analysed_images}
    for instance in material.source.instances:
        state = "analysed" if instance.sop_instance_uid in analysed else "not analysed"
        yield f"{_name_of(material, instance)}: {state}, SOP Instance UID {instance.sop_instance_uid}"
    unread = len(material.request.study.instances) - len(material.source.instances)
    if unread:
        yield f"{unread} more could not be read."


def _name_of(material: Material, instance: SourceInstance) -> str:
    """`Image 2 (DX, LL)`: the number is the place in the study as it was read."""
    number = material.source.instances.index(instance) + 1
    facts = ", ".join(fact for fact in (instance.modality, instance.view_position) if fact)
    kind = "Image" if instance.is_image else "Object"
    return f"{kind} {number} ({facts})" if facts else f"{kind} {number}"


def _context(material: Material) -> Iterator[Item]:
    """TID 1204 language and TID 1002/1004 observer, as far as a text needs them."""
    yield code(LANGUAGE, ENGLISH, HAS_CONCEPT_MOD)
    yield code(OBSERVER_TYPE, DEVICE, HAS_OBS_CONTEXT)
    model = model_of(material)
    if model is not None:
        yield uid(DEVICE_OBSERVER_UID, model.device_uid, HAS_OBS_CONTEXT)
    yield text(DEVICE_OBSERVER_NAME, MODEL_NAME, HAS_OBS_CONTEXT)


def _as_container(section: Section, material: Material) -> Item:
    lines = [text(section.line_name, material.source.writable(line)) for line in section.lines if line]
    return container(section.heading, lines)


WRITER = Writer(kind=KIND, sop_class_uid=EnhancedSRStorage, series_number=SERIES_NUMBER, write=write)
