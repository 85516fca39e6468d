"""The report for people: a short Enhanced SR (1.2.840.10008.5.1.4.1.1.88.22), readable in any viewer that shows text.

    Warning                     unless the model is cleared
    Findings                    what was found                          these three in a line each,
    Looked for and not found    what was looked for and not found       where one image was analysed
    Not looked for              what was not looked for
    Model, Images, Why this model, Limits

A study without an analysis gets the note instead: why there is none. It follows no template. Viewers often leave out
the names of the items and run them together, so every line is a sentence that stands alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

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
    WARNING,
    WHY_THIS_MODEL,
)
from reports.draft import Draft
from reports.image_names import image_in_words
from reports.language import Words
from reports.material import Material
from reports.provenance import Form, model_of
from reports.request import Note
from reports.sr.content import Item, code, container, text, uid
from reports.sr.document import structured_report
from reports.words import (
    LANGUAGES,
    finding_in_words,
    findings_in_short,
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
    """A heading and its lines. `line_name` is the concept of each line.

    is_english: the lines are others' words, who wrote them in English, whatever the report's language is.
    """

    heading: Code
    lines: tuple[str, ...]
    line_name: Code = COMMENT
    is_english: bool = False


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
    title = _heading(AI_NOTE if note is not None else AI_RESULT, material)
    root = container(title, [*_context(material), *sections], relationship=None)
    yield structured_report(EnhancedSRStorage, material, root, form)


def _sections(material: Material) -> Iterator[Section]:
    if material.request.analysis is not None:
        yield from _sections_of_analysis(material, material.request.analysis)
    if material.request.note is not None:
        yield from _sections_of_note(material, material.request.note)


def _sections_of_analysis(material: Material, analysis: Analysis) -> Iterator[Section]:
    words = material.words
    yield Section(heading=WARNING, lines=tuple(_warning_lines(analysis, words)))
    yield Section(heading=FINDINGS, lines=tuple(_found(material, analysis)), line_name=FINDING)
    yield Section(heading=LOOKED_FOR, lines=tuple(_not_found(material, analysis)), line_name=FINDING)
    yield Section(heading=NOT_LOOKED_FOR, lines=(_not_looked_for(material, analysis),))
    yield Section(heading=MODEL, lines=tuple(_model_lines(analysis, words)))
    yield Section(heading=IMAGES, lines=tuple(_image_lines(material)))
    yield Section(heading=WHY_THIS_MODEL, lines=material.request.decision, is_english=True)
    yield Section(heading=LIMITS, lines=tuple(_limits(material, analysis)), is_english=True)


def _sections_of_note(material: Material, note: Note) -> Iterator[Section]:
    yield Section(heading=REASON, lines=(note.title, *note.lines))
    yield Section(heading=NOT_LOOKED_FOR, lines=(material.words.note_nothing_looked_for,))
    yield Section(heading=IMAGES, lines=tuple(_image_lines(material)))


def _warning_lines(analysis: Analysis, words: Words) -> Iterator[str]:
    yield from warnings_for(analysis.model, words)
    if analysis.model.is_demonstration:
        yield words.demonstration_reason


def _found(material: Material, analysis: Analysis) -> Iterator[str]:
    """A line, where there is one image; of several, each says what was found on it. Then what is told unjudged."""
    words = material.words
    if not any(_detected(image, words) for image in analysis.images):
        yield words.nothing_found
    else:
        for image in analysis.images:
            answers = "; ".join(_detected(image, words))
            told = (words.found, words.found_on) if answers else (words.nothing_found, words.nothing_found_on)
            yield _told(material, image, told, answers)
    yield from _measured(material, analysis, lambda one: one.threshold is None)


def _detected(image: ImageAnalysis, words: Words) -> list[str]:
    measured = [measurement_in_words(one, words) for one in image.measurements if one.is_detected]
    return measured + [_with_places(finding, image, words) for finding in image.detected]


def _with_places(finding: Finding, image: ImageAnalysis, words: Words) -> str:
    told = finding_in_words(finding, words)
    places = sum(region.label == finding.label for region in image.regions)
    return words.places.format(finding=told, count=places) if places > 1 else told


def _not_found(material: Material, analysis: Analysis) -> Iterator[str]:
    words = material.words
    not_found = [(image, findings_in_short(image.not_detected, words)) for image in analysis.images]
    yield from (
        _told(material, image, (words.not_found, words.not_found_on), answers)
        for image, answers in not_found
        if answers
    )
    yield from _measured(material, analysis, lambda one: one.threshold is not None and not one.is_detected)
    if all(answer.is_detected for image in analysis.images for answer in image.answers):
        yield words.all_found


def _measured(material: Material, analysis: Analysis, is_wanted: Callable[[Measurement], bool]) -> Iterator[str]:
    words = material.words
    for image in analysis.images:
        answers = "; ".join(measurement_in_words(one, words) for one in image.measurements if is_wanted(one))
        if answers:
            yield _told(material, image, (words.measured, words.measured_on), answers)


def _told(material: Material, image: ImageAnalysis, sentences: tuple[str, str], answers: str) -> str:
    """The first sentence where one image was analysed, else the second one, which names the image."""
    of_one, of_several = sentences
    name = image_in_words(material.source, material.source_of(image), material.words)
    is_only_one = len(material.request.analysed_images) == 1
    return (of_one if is_only_one else of_several).format(answers=answers, image=name)


def _not_looked_for(material: Material, analysis: Analysis) -> str:
    words = material.words
    answers = (answer for image in analysis.images for answer in image.answers)
    labels = dict.fromkeys(label_in_words(answer.label, words) for answer in answers)
    analysed = {*material.request.seen_by_others, *(image.sop_instance_uid for image in analysis.images)}
    others = [
        image_in_words(material.source, instance, words)
        for instance in material.source.instances
        if instance.sop_instance_uid not in analysed
    ]
    line = words.not_looked_for.format(labels=", ".join(labels))
    return f"{line} {words.not_analysed.format(images=', '.join(others))}" if others else line


def _model_lines(analysis: Analysis, words: Words) -> Iterator[str]:
    model = analysis.model
    name = model_in_words(model, words)
    yield words.made_by.format(model=name, manufacturer=model.manufacturer) if model.manufacturer else f"{name}."
    yield words.no_one_has_checked
    yield words.certainty_is_not_probability
    if model.weights_sha256:
        yield words.weights.format(digest=model.weights_sha256)


def _limits(material: Material, analysis: Analysis) -> Iterator[str]:
    """In the words of the package's manifest, and of its gates, which know no other language."""
    if analysis.model.intended_use:
        yield material.words.intended_use.format(use=analysis.model.intended_use)
    yield from analysis.model.limits
    left_out = {one.sop_instance_uid: one.why for one in (*analysis.left_out, *analysis.unseen)}
    for instance in material.source.instances:
        if why := left_out.get(instance.sop_instance_uid):
            name = image_in_words(material.source, instance, LANGUAGES["en"])
            yield f"{name}: not analysed, {why}."


def _image_lines(material: Material) -> Iterator[str]:
    words, source = material.words, material.source
    if material.request.study.generation > 1:
        yield words.more_images_came.format(generation=material.request.study.generation)
    states = dict.fromkeys(material.request.seen_by_others, words.image_of_another_model)
    states |= {image.sop_instance_uid: words.image_analysed for image in material.request.analysed_images}
    for instance in source.instances:
        state = states.get(instance.sop_instance_uid, words.image_not_analysed)
        yield state.format(image=image_in_words(source, instance, words), uid=instance.sop_instance_uid)
    unread = len(material.request.study.instances) - len(source.instances)
    if unread:
        yield words.unread.format(count=unread)


def _context(material: Material) -> Iterator[Item]:
    """TID 1204 language and TID 1002/1004 observer, as far as a text needs them."""
    yield code(LANGUAGE, material.words.language, HAS_CONCEPT_MOD)
    yield code(OBSERVER_TYPE, DEVICE, HAS_OBS_CONTEXT)
    model = model_of(material)
    if model is not None:
        yield uid(DEVICE_OBSERVER_UID, model.device_uid, HAS_OBS_CONTEXT)
    yield text(DEVICE_OBSERVER_NAME, MODEL_NAME, HAS_OBS_CONTEXT)


def _as_container(section: Section, material: Material) -> Item:
    lines = [text(section.line_name, material.source.writable(line)) for line in section.lines if line]
    is_in_another = section.is_english and material.words.language != ENGLISH
    language = [code(LANGUAGE, ENGLISH, HAS_CONCEPT_MOD)] if is_in_another else []
    return container(_heading(section.heading, material), [*language, *lines])


def _heading(code: Code, material: Material) -> Code:
    """The same code as ever, read in the reader's language (PS3.3 8.3: Code Meaning may be in any)."""
    return replace(code, meaning=material.source.writable(material.words.headings[code.value]))


WRITER = Writer(kind=KIND, sop_class_uid=EnhancedSRStorage, series_number=SERIES_NUMBER, write=write)
