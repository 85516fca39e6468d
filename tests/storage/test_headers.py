"""What is read from a stored file: who sent it, what it is, and the facts; an odd value never loses the others."""

from collections.abc import Callable
from hashlib import sha256

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from domain.findings import Code
from domain.identity import INSTANCE_CREATOR_UID
from domain.study import InstanceFacts
from storage.content import content_sha256, is_same_content
from storage.elements import Elements
from storage.headers import is_own_result, patient_age_years, read_any_file, read_facts, read_stored_instance
from storage.instances import Spool
from tests.factories.arrivals import encoded, provenance, read_back, spooled
from tests.factories.hostile import an_instance_in
from tests.factories.sources import CASES, SourceCase, radiograph


def with_values(**values: object) -> Dataset:
    dataset = radiograph(1)
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            dataset.pop(keyword, None)
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("age", "born", "taken", "years"),
    [
        ("056Y", "", "", 56.0),
        ("018M", "", "", 1.5),
        ("052W", "", "", 52 * 7 / 365.25),
        ("010D", "", "", 10 / 365.25),
        ("005y", "", "", 5.0),
        ("62", "", "", 62.0),
        ("062", "", "", 62.0),
        ("", "20200601", "20261120", 6.0),
        ("", "20201121", "20261120", 5.0),
        ("", "20201120", "20261120", 6.0),
        ("", "20200229", "20210228", 0.0),
        ("OLD", "19700101", "20261120", 56.0),
        ("0056", "", "", None),
        ("\xb2", "", "", None),
        ("-5Y", "", "", None),
        ("", "", "20261120", None),
        ("", "19700101", "", None),
        ("", "20270101", "20261120", None),
        ("", "17000101", "20261120", None),
        ("", "1970.01.01", "20261120", None),
        ("", "00000000", "20261120", None),
        ("", "200811", "20261120", None),  # a month of birth, not the 1st of January 2008
        ("", "19000101", "20191231", None),  # what is written where nobody knows
        ("062Y", "19000101", "20261120", 62.0),
        ("", "19060101", "20261120", 120.0),
        ("", "19051120", "20261120", None),
        ("", "", "", None),
        ("120Y", "", "", 120.0),
        ("121Y", "", "", None),
        ("150Y", "", "", None),
        ("126Y", "19000101", "20261120", None),  # reckoned from nobody's birth date
        ("119Y", "19000101", "20191231", None),
        ("999Y", "", "", None),
        ("999Y", "19500101", "20240601", 74.0),  # no age, so the dates tell it
        ("999", "19500101", "20240601", 74.0),
        ("005Y", "19500101", "20240601", None),  # one of the two is wrong
        ("000Y", "19500101", "20240601", None),
        ("076Y", "19500101", "20240601", 76.0),
        ("077Y", "19500101", "20240601", None),
        ("018M", "20221201", "20240601", 1.5),
    ],
)
def test_the_age_is_read_or_unknown(age: str, born: str, taken: str, years: float | None) -> None:
    dataset = with_values(PatientAge=age, PatientBirthDate=born, StudyDate=taken)
    assert patient_age_years(Elements.of_dataset(dataset)) == (None if years is None else pytest.approx(years))


def test_ages_that_contradict_each_other_are_told_and_no_date_with_them() -> None:
    facts = read_facts(Elements.of_dataset(with_values(PatientAge="005Y", PatientBirthDate="19500101")))
    assert (facts.patient_age_years, facts.age_conflict) == (
        None, "5 years by Patient's Age and 76 by birth and study dates",
    )  # fmt: skip


def test_what_the_dates_say_beside_the_age_is_a_fact_of_its_own() -> None:
    facts = read_facts(Elements.of_dataset(with_values(PatientAge="018Y", PatientBirthDate="20090115")))
    assert (facts.patient_age_years, facts.other_age_years, facts.completed_years) == (18.0, 17.0, (18, 17))
    alone = read_facts(Elements.of_dataset(with_values(PatientAge="", PatientBirthDate="20090115")))
    assert (alone.patient_age_years, alone.other_age_years, alone.completed_years) == (17.0, None, (17,))


def test_patient_orientation_is_read_with_both_its_values(spool: Spool) -> None:
    dataset = with_values(PatientOrientation=["P", "F"])
    for facts in (read_facts(Elements.of_dataset(dataset)), read_back(spool, spooled(spool, dataset)).facts):
        assert facts.patient_orientation == r"P\F"


def test_image_type_is_read_with_all_its_values(spool: Spool) -> None:
    dataset = with_values(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    for facts in (read_facts(Elements.of_dataset(dataset)), read_back(spool, spooled(spool, dataset)).facts):
        assert (facts.image_type, facts.photometric_interpretation) == (r"DERIVED\SECONDARY\SCREEN SAVE", "MONOCHROME2")


def test_the_species_is_read_in_words_and_in_codes() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "448771007", "SCT", "Canis lupus familiaris"
    dataset = with_values(PatientSpeciesDescription="Canine", PatientSpeciesCodeSequence=[item])
    facts = read_facts(Elements.of_dataset(dataset))
    assert (facts.species, [code.value for code in facts.species_codes]) == ("Canine", ["448771007"])


def test_a_coded_view_is_read_beside_view_position() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399173006", "SCT", "left lateral"
    both = read_facts(Elements.of_dataset(with_values(ViewPosition="PA", ViewCodeSequence=[item])))
    assert (both.view_position, [code.meaning for code in both.view_codes]) == ("PA", ["left lateral"])
    alone = read_facts(Elements.of_dataset(with_values(ViewPosition="", ViewCodeSequence=[item])))
    assert alone.view_position == "LEFT LATERAL"


def test_an_age_that_is_no_number_loses_nothing_else(spool: Spool) -> None:
    stored = read_back(spool, spooled(spool, with_values(PatientAge="\xb2")))
    assert (stored.problem, stored.facts.body_part_examined) == ("", "CHEST")


@pytest.mark.parametrize(
    ("values", "is_own"),
    [
        ({"InstanceCreatorUID": INSTANCE_CREATOR_UID}, True),
        ({"Manufacturer": "Collimator project", "ManufacturerModelName": "Collimator"}, True),
        ({"Manufacturer": "Another maker", "ManufacturerModelName": "Collimator"}, False),
        ({"ManufacturerModelName": "Collimator 2000"}, False),
        ({"InstanceCreatorUID": "1.2.3"}, False),
        ({}, False),
    ],
)
def test_our_own_result_is_known_by_its_content(values: dict[str, str], is_own: bool) -> None:
    assert is_own_result(Elements.of_dataset(with_values(**values))) is is_own


def test_how_an_instance_came_is_in_the_file_itself(spool: Spool) -> None:
    how = provenance(clinic="mercy", association="5f1d", calling_ae_title="CT 7")
    key = spooled(spool, radiograph(1), how=how)
    assert read_back(spool, key).provenance == how
    meta = pydicom.dcmread(spool.path(key)).file_meta
    assert (meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle) == ("CT 7", "CT 7")
    assert meta.ReceivingApplicationEntityTitle == "COLLIMATOR"


@pytest.mark.parametrize("clinic", ["a", "ab", "abc", "abcd"])
def test_the_name_of_a_clinic_may_be_of_even_or_odd_length(spool: Spool, clinic: str) -> None:
    assert read_back(spool, spooled(spool, radiograph(1), how=provenance(clinic=clinic))).provenance.clinic == clinic


def test_a_plain_radiograph_is_read_whole(spool: Spool) -> None:
    stored = read_back(spool, spooled(spool, radiograph(1)))
    assert stored.problem == ""
    assert (stored.study_instance_uid, stored.series_instance_uid) == ("2.25.4711.1", "2.25.4711.1.1")
    assert (stored.sop_instance_uid, stored.accession_number) == ("2.25.4711.1.1.1", "ACC00001")
    assert not stored.is_own_result
    facts = stored.facts
    assert (facts.modality, facts.body_part_examined, facts.view_position) == ("DX", "CHEST", "PA")
    assert (facts.patient_age_years, facts.patient_sex, facts.study_description) == (56.0, "F", "Chest PA")
    assert (facts.has_pixels, facts.rows, facts.columns, facts.number_of_frames) == (True, 64, 56, 1)


def test_no_fact_tells_who_the_patient_is(spool: Spool) -> None:
    told = repr(read_back(spool, spooled(spool, radiograph(1))))
    for identity in ("DOE", "PID0001", "19700101"):
        assert identity not in told


@pytest.mark.parametrize("source", CASES, ids=lambda source: source.name)
def test_no_source_is_hard_to_read(spool: Spool, source: SourceCase) -> None:
    for dataset in source.make():
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        stored = read_back(spool, spooled(spool, dataset, transfer_syntax_uid=syntax))
        assert (stored.problem, stored.facts.has_pixels) == ("", True)
        assert stored.study_instance_uid == dataset.StudyInstanceUID


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_the_facts_are_the_same_in_every_transfer_syntax(spool: Spool, syntax: str) -> None:
    plain = read_back(spool, spooled(spool, radiograph(1)))
    dataset = radiograph(1)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = bytes(64 * 56 * 2)
    other = read_back(spool, spooled(spool, dataset, transfer_syntax_uid=syntax))
    assert other.problem == ""
    assert other.facts == plain.facts
    assert other.transfer_syntax_uid == syntax


def test_the_same_data_set_is_the_same_content_however_it_came(spool: Spool) -> None:
    first = spooled(spool, radiograph(1))
    again = spooled(spool, radiograph(1), how=provenance(association="another, much longer", calling_ae_title="PACS"))
    other = spooled(spool, with_values(StudyDescription="Chest AP"))
    assert spool.path(first).read_bytes() != spool.path(again).read_bytes()
    assert [is_same_content(spool, first, key) for key in (again, other)] == [True, False]
    assert content_sha256(spool, first) == content_sha256(spool, again) != content_sha256(spool, other)
    assert content_sha256(spool, first) == sha256(encoded(radiograph(1))).hexdigest()
    assert read_back(spool, first).size_bytes == read_back(spool, again).size_bytes == len(encoded(radiograph(1)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff" * 300, None),
        (b"hello", None),
        (b"\x08\x00\x05\x00CS\xff\xff", None),
        (with_values(StudyInstanceUID=""), "StudyInstanceUID is missing"),
        (with_values(SeriesInstanceUID=""), "SeriesInstanceUID is missing"),
        (with_values(StudyInstanceUID="1.2.x"), "StudyInstanceUID is not a UID"),
        (with_values(StudyInstanceUID="1." * 40), "StudyInstanceUID is not a UID"),
    ],
    ids=["noise", "five bytes", "cut off", "no study", "no series", "letters", "too long"],
)
def test_a_data_set_that_cannot_be_used_is_a_problem_and_no_error(
    spool: Spool, content: Dataset | bytes, problem: str | None
) -> None:
    stored = read_back(spool, spooled(spool, content))
    if problem is None:
        assert stored.problem
    else:
        assert stored.problem == problem


@pytest.mark.parametrize(
    ("content", "transfer_syntax_uid"),
    [
        (an_instance_in(b"1", b"IS"), ExplicitVRLittleEndian),
        (an_instance_in(b"1e999", b"IS"), ExplicitVRLittleEndian),
        (an_instance_in(b"9" * 5000, b"IS"), ExplicitVRLittleEndian),
        (an_instance_in(b"ISO_IR\x00100", is_implicit=True), ImplicitVRLittleEndian),
    ],
    ids=["a number", "no finite number", "a long number", "a NUL within"],
)
def test_what_a_parser_stumbles_over_late_is_a_problem_too_and_its_study_is_known(
    spool: Spool, content: bytes, transfer_syntax_uid: str
) -> None:
    stored = read_back(spool, spooled(spool, content, transfer_syntax_uid=transfer_syntax_uid))
    assert stored.problem.startswith("the data set cannot be parsed: ")
    assert (stored.study_instance_uid, stored.sop_instance_uid) == ("1.2.3", "1.2.3.1")
    assert stored.facts == InstanceFacts()


def test_an_instance_that_is_not_the_one_announced_is_a_problem(spool: Spool) -> None:
    other_instance = spooled(spool, radiograph(1), sop_instance_uid="1.2.3.999")
    other_class = spooled(spool, radiograph(1), sop_class_uid="1.2.840.10008.5.1.4.1.1.2")
    assert read_back(spool, other_instance).problem == (
        "its SOP Instance UID is not the one that the C-STORE request named"
    )
    assert read_back(spool, other_class).problem == "its SOP Class UID is not the one that the C-STORE request named"


def no_pixels(dataset: Dataset) -> None:
    del dataset.PixelData


def no_rows(dataset: Dataset) -> None:
    del dataset.Rows


@pytest.mark.parametrize("change", [no_pixels, no_rows])
def test_without_pixels_or_their_size_it_is_not_an_image(spool: Spool, change: Callable[[Dataset], None]) -> None:
    dataset = radiograph(1)
    change(dataset)
    stored = read_back(spool, spooled(spool, dataset))
    assert (stored.problem, stored.facts.has_pixels) == ("", False)


def test_of_several_values_the_first_counts(spool: Spool) -> None:
    stored = read_back(spool, spooled(spool, with_values(ViewPosition=["AP", "PA"])))
    assert stored.facts.view_position == "AP"


def test_body_part_and_descriptions_are_read_with_all_their_values(spool: Spool) -> None:
    """A film of a chest and something else is no chest, and what stands behind a backslash may name the view."""
    dataset = with_values(BodyPartExamined=["CHEST", "ABDOMEN"], SeriesDescription=["Thorax", "seitlich"])
    for facts in (read_facts(Elements.of_dataset(dataset)), read_back(spool, spooled(spool, dataset)).facts):
        assert facts.body_parts_examined == ("CHEST", "ABDOMEN")
        assert facts.series_description == r"Thorax\seitlich"


def test_nul_characters_and_blanks_are_not_part_of_a_value(spool: Spool) -> None:
    stored = read_back(spool, spooled(spool, with_values(AccessionNumber="A\0B ", StudyDescription=" Chest\0\0")))
    assert (stored.accession_number, stored.facts.study_description) == ("AB", "Chest")


def test_an_accession_number_that_is_too_long_is_cut(spool: Spool) -> None:
    assert read_back(spool, spooled(spool, with_values(AccessionNumber="9" * 200))).accession_number == "9" * 64


def test_codes_are_read_and_a_sequence_that_is_none_says_nothing() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "85562004", "SCT", "Hand"
    dataset = with_values(AnatomicRegionSequence=[item])
    assert read_facts(Elements.of_dataset(dataset)).anatomic_regions == (
        Code(value="85562004", scheme="SCT", meaning="Hand"),
    )
    dataset.pop("AnatomicRegionSequence")
    dataset.add_new("AnatomicRegionSequence", "LO", "HAND")
    assert read_facts(Elements.of_dataset(dataset)).anatomic_regions == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"not DICOM at all" * 20, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM\2\0\1\0OB\0\0\xff\xff\xff\x7f\0"],
    ids=["empty", "text", "nothing behind the prefix", "cut in the File Meta"],
)
def test_a_file_that_the_node_did_not_write_is_said_to_be_so(spool: Spool, content: bytes) -> None:
    spool.path("00").write_bytes(content)
    with pytest.raises(ValueError, match="of this node"):
        read_stored_instance(spool, "00")


def test_another_programs_dicom_file_is_a_stranger_in_the_spool_and_can_still_be_explained(spool: Spool) -> None:
    path = spool.path("00")
    radiograph(1).save_as(path, enforce_file_format=True)
    with pytest.raises(ValueError, match="of this node"):
        read_stored_instance(spool, "00")
    assert read_any_file(path)[1].body_part_examined == "CHEST"
