"""A result that is filled into moulds is byte for byte what highdicom builds, whatever is filled in."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from highdicom.sr import TextContentItem
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from domain.findings import Analysis, Code, Finding, ImageAnalysis, Measurement
from domain.study import Study
from reports import mould
from reports.codes import COMMENT
from reports.draft import Draft
from reports.material import Material
from reports.provenance import as_code
from reports.request import Note, PreviousResult, ReportRequest
from reports.source import read_source
from reports.sr.content import CONTAINS, Item, container, text
from reports.uids import fingerprint_of
from reports.write import all_writers
from tests.factories.analyses import COBB_ANGLE, LUNG, MODEL, NODE, PLACES, display, report_request
from tests.factories.direct import written_directly
from tests.factories.sources import case, stored_study

FRACTIONS = st.floats(0.0, 1.0)
LABELS = ("Pneumonia", "Effusion", "Lung Opacity", "Pleural_Thickening", "Größe")
SENTENCES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=60)
NUMBERS = st.floats(-1e6, 1e6)


def findings() -> st.SearchStrategy[Finding]:
    return st.builds(
        Finding,
        label=st.sampled_from(LABELS),
        code=st.sampled_from([Code(value="233604007", scheme="SCT", meaning="Pneumonia"), LUNG]),
        site=st.sampled_from([LUNG, None]),
        certainty=FRACTIONS,
        threshold=FRACTIONS,
    )


def measurements() -> st.SearchStrategy[Measurement]:
    return st.builds(
        lambda value, threshold: replace(COBB_ANGLE, value=value, threshold=threshold), NUMBERS, st.none() | NUMBERS
    )


def answers() -> st.SearchStrategy[tuple[list[Finding], list[Measurement]]]:
    return st.tuples(st.lists(findings(), max_size=5), st.lists(measurements(), max_size=2)).filter(any)


@pytest.fixture(scope="module", params=[1, 6, 13], ids=["one image", "a time zone", "two views"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return stored_study(case(request.param).make(), tmp_path_factory.mktemp("source"))


def drafts(asked: ReportRequest) -> list[Draft]:
    source = read_source(asked.study)
    material = Material(request=asked, source=source, fingerprint=fingerprint_of(asked, source))
    every = (draft for writer in all_writers().values() for draft in writer.write(material))
    return [draft for draft in every if isinstance(draft, Draft)]


@settings(max_examples=25, deadline=None)
@given(
    of_images=st.lists(answers(), min_size=2, max_size=2),
    decision=st.lists(SENTENCES, max_size=3),
    generation=st.integers(1, 3),
    has_places=st.booleans(),
)
def test_an_analysis(
    study: Study,
    of_images: list[tuple[list[Finding], list[Measurement]]],
    decision: list[str],
    generation: int,
    has_places: bool,
) -> None:
    images = tuple(
        ImageAnalysis(
            sop_instance_uid=instance.sop_instance_uid,
            findings=tuple(found),
            activation=None,
            regions=PLACES if has_places else (),
            measurements=tuple(measured),
        )
        for instance, (found, measured) in zip(study.instances, of_images, strict=False)
    )
    previous = PreviousResult(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33", sop_instance_uid="2.25.1", series_instance_uid="2.25.2"
    )
    asked = ReportRequest(
        study=replace(study, generation=generation),
        node=NODE,
        analysis=Analysis(model=MODEL, images=images),
        displays={image.sop_instance_uid: display() for image in images},
        decision=tuple(decision),
        previous_results=(previous,) * (generation > 1),
    )
    for draft in drafts(asked):
        assert draft.encode() == written_directly(draft)


@settings(max_examples=20, deadline=None)
@given(title=SENTENCES, lines=st.lists(SENTENCES, max_size=4))
def test_a_note(study: Study, title: str, lines: list[str]) -> None:
    asked = ReportRequest(study=study, node=NODE, note=Note(title=title, lines=tuple(lines)))
    for draft in drafts(asked):
        assert draft.encode() == written_directly(draft)


def test_several_threads_may_write_at_the_same_time(study: Study) -> None:
    """As a worker does, with the results of two studies."""

    def written(minute: int) -> list[bytes]:
        moment = study.completed_at.replace(minute=minute)
        return [draft.encode() for draft in drafts(report_request(replace(study, completed_at=moment)))]

    alone = [written(minute) for minute in range(10)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(written, list(range(10)) * 3)) == alone * 3


@given(values=st.lists(SENTENCES, min_size=1, max_size=4))
def test_text_of_any_length_is_padded_to_an_even_one(values: list[str]) -> None:
    item = container(COMMENT, [text(COMMENT, value) for value in values])
    encoded = item.encode(["utf8"])
    assert len(encoded) % 2 == 0
    assert all(value.encode() in encoded for value in values)


def test_a_value_that_the_built_item_does_not_show_is_noticed_when_the_mould_is_cast() -> None:
    def forgetful(value: str) -> TextContentItem:
        return TextContentItem(name=as_code(COMMENT), value=value.upper(), relationship_type=CONTAINS)

    with pytest.raises(ValueError, match="forgetful does not show every value"):
        Item(forgetful, (), ("as it is",)).encode(["iso8859"])


def test_digits_of_a_mark_within_another_value_are_no_gap() -> None:
    mark = mould.mark(0, UID("1.2"))
    dataset = pydicom.Dataset()
    dataset.StudyInstanceUID = mark
    dataset.SeriesInstanceUID = f"{mark}1"
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    filled = mould.cast(buffer.getvalue(), [mark]).fill([UID("2.25.42")], (), ["iso8859"])
    read = pydicom.dcmread(BytesIO(filled), force=True)
    assert (read.StudyInstanceUID, read.SeriesInstanceUID) == ("2.25.42", f"{mark}1")
