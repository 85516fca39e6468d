"""What results say in each language, and what they say in none."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest

from config.clinics import DestinationSettings
from domain.states import NOTED
from domain.study import Study
from reports.codes import KNOWN_FINDINGS
from reports.language import Words
from reports.picture.letters import ALSO_THERE, WITHOUT_DOTS
from reports.request import Note, ReportRequest
from reports.words import ENGLISH, LANGUAGES, findings_in_short, in_ascii, measurement_in_words
from reports.write import write_results
from tests.factories.analyses import COBB_ANGLE, EFFUSION, NODE, PNEUMONIA, finding, report_request
from tests.factories.sources import case, radiograph, stored_study

every_language = pytest.mark.parametrize("language", LANGUAGES)
SENTENCES = [field.name for field in fields(Words) if field.type == "str" or field.type is str]


def texts(request: ReportRequest, language: str) -> list[str]:
    (result,) = write_results(replace(request, language=language), profile="text")
    document = pydicom.dcmread(BytesIO(result.content))
    return [str(element.value) for element in document.iterall() if element.keyword == "TextValue"]


@every_language
@pytest.mark.parametrize("name", SENTENCES)
def test_no_sentence_is_missing_and_each_is_filled_with_the_same_things(language: str, name: str) -> None:
    sentence = getattr(LANGUAGES[language], name)
    assert sentence.strip()
    assert places_in(sentence) == places_in(getattr(ENGLISH, name))


def places_in(sentence: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", sentence))


@every_language
def test_every_heading_and_every_reason_for_a_note_has_its_words(language: str) -> None:
    words = LANGUAGES[language]
    assert set(words.headings) == set(ENGLISH.headings)
    assert set(words.note_titles) == NOTED
    for told in (*words.headings.values(), *words.note_titles.values()):
        assert told.strip()


def test_every_label_that_has_a_known_code_has_a_german_word() -> None:
    assert {known.label for known in KNOWN_FINDINGS} <= set(LANGUAGES["de"].labels)


@every_language
def test_every_word_can_be_written_on_an_overlay(language: str) -> None:
    words = LANGUAGES[language]
    told = "".join(
        part
        for field in fields(Words)
        if field.name != "language"
        for value in (getattr(words, field.name),)
        for part in (value.values() if isinstance(value, Mapping) else [value])
    )
    assert {c for c in told if not c.isascii()} - set(WITHOUT_DOTS) - set(ALSO_THERE) <= {"ß"}  # which is spelled ss


def test_a_destination_can_have_each_language_and_no_other() -> None:
    assert set(get_args(DestinationSettings.model_fields["language"].annotation)) == set(LANGUAGES)


def test_the_readable_report_in_german_has_the_same_codes_and_says_which_language_it_is_in(study: Study) -> None:
    request = report_request(study)
    english, german = (
        pydicom.dcmread(BytesIO(write_results(replace(request, language=language), profile="text")[0].content))
        for language in ("en", "de")
    )
    assert language_of(english) == ("en-US", "RFC5646")
    assert language_of(german) == ("de-DE", "RFC5646")
    assert headings(german) == [
        ("WARNING", "Warnung"),
        ("121070", "Befunde"),
        ("LOOKEDFOR", "Gesucht und nicht gefunden"),
        ("NOTLOOKEDFOR", "Nicht gesucht"),
        ("MODEL", "Modell"),
        ("IMAGES", "Bilder"),
        ("WHYTHISMODEL", "Warum dieses Modell"),
        ("LIMITS", "Grenzen"),
    ]
    assert [value for value, _ in headings(english)] == [value for value, _ in headings(german)]
    assert english.SeriesDescription == german.SeriesDescription
    assert english.SOPInstanceUID != german.SOPInstanceUID


def language_of(item: pydicom.Dataset) -> tuple[str, str]:
    code = item.ContentSequence[0].ConceptCodeSequence[0]
    return code.CodeValue, code.CodingSchemeDesignator


def headings(document: pydicom.Dataset) -> list[tuple[str, str]]:
    names = [one.ConceptNameCodeSequence[0] for one in document.ContentSequence if one.ValueType == "CONTAINER"]
    return [(name.CodeValue, name.CodeMeaning) for name in names]


def test_what_others_wrote_in_english_is_marked_as_english_within_a_german_report(study: Study) -> None:
    (result,) = write_results(replace(report_request(study), language="de"), profile="text")
    document = pydicom.dcmread(BytesIO(result.content))
    english = [
        one.ConceptNameCodeSequence[0].CodeValue
        for one in document.ContentSequence
        if one.ValueType == "CONTAINER" and one.ContentSequence[0].ValueType == "CODE"
    ]
    assert english == ["WHYTHISMODEL", "LIMITS"]
    assert language_of(document.ContentSequence[-1]) == ("en-US", "RFC5646")


def test_the_three_answers_in_german(study: Study) -> None:
    assert texts(report_request(study), "de")[1:6] == [
        "NICHT FÜR DIAGNOSTISCHE ZWECKE",
        "Gefunden: Pneumonie, Sicherheit 83 % (Schwelle 50 %).",
        "Nicht gefunden: Pleuraerguss 12 %, Pleuraverdickung 5 % (Schwelle 50 %).",
        "Nicht gesucht: alles außer Pneumonie, Pleuraerguss, Pleuraverdickung.",
        "torchxrayvision densenet121-res224-all, Version 1.0.0, von mlmed.",
    ]


def test_numbers_have_the_mark_of_their_language() -> None:
    assert measurement_in_words(COBB_ANGLE, LANGUAGES["de"]) == "Cobb-Winkel 24,96 deg (Schwelle 25,00 deg)"


def test_findings_with_one_threshold_name_it_once() -> None:
    fracture = finding("Fracture", 0.03, threshold=0.4)
    assert findings_in_short([PNEUMONIA, EFFUSION, fracture]) == (
        "Pneumonia 83 %, Effusion 12 % (threshold 50 %); Fracture 3 % (threshold 40 %)"
    )


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "NICHT FÜR DIAGNOSTISCHE ZWECKE"),  # ISO_IR 100, Latin 1
        (6, "NICHT FÜR DIAGNOSTISCHE ZWECKE"),  # UTF-8
        (5, "NICHT FÜR DIAGNOSTISCHE ZWECKE"),  # GB18030 has everything
        (4, "NICHT FUER DIAGNOSTISCHE ZWECKE"),  # Cyrillic
        (3, "NICHT FUER DIAGNOSTISCHE ZWECKE"),  # Japanese
        (11, "NICHT FUER DIAGNOSTISCHE ZWECKE"),  # none: the default repertoire
    ],
)
def test_a_letter_that_the_patients_character_set_lacks_is_spelled_out(tmp_path: Path, number: int, line: str) -> None:
    study = stored_study(case(number).make(), tmp_path)
    assert texts(report_request(study), "de")[1] == line


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("Größe über Maß", "Groesse ueber Mass"),
        ("NICHT FÜR", "NICHT FUER"),
        ("Übelkeit", "Uebelkeit"),
        ("Méndez", "Mendez"),
        ("胸部", "??"),
    ],
)
def test_ascii_is_spelled_as_people_would(text: str, ascii_: str) -> None:
    assert in_ascii(text) == ascii_


def test_overlays_in_two_languages_are_two_pictures_with_two_uids(study: Study) -> None:
    pictures = [
        pydicom.dcmread(
            BytesIO(write_results(replace(report_request(study), language=language), profile="sc_only")[0].content)
        )
        for language in LANGUAGES
    ]
    english, german = pictures
    assert english.SOPInstanceUID != german.SOPInstanceUID
    assert english.pixel_array.shape != german.pixel_array.shape or np.any(english.pixel_array != german.pixel_array)


def test_a_note_in_german_is_german_throughout(tmp_path: Path) -> None:
    study = stored_study([radiograph(1)], tmp_path)
    note = Note(title="Noch nicht ausgewertet", lines=("Die Bilder bleiben gespeichert.",))
    lines = texts(ReportRequest(study=study, node=NODE, note=note), "de")
    assert lines[1:] == [
        "Noch nicht ausgewertet",
        "Die Bilder bleiben gespeichert.",
        "Diese Untersuchung wurde nicht ausgewertet: Es wurde nach keinem Befund gesucht.",
        "Bild 1 (DX, PA): nicht ausgewertet, SOP Instance UID 2.25.4711.1.1.1.",
    ]
