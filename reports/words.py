"""The sentences that more than one result says, so that they say the same.

reports/languages/ has the words; here they become sentences about a finding, a value, a model.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby

from domain.findings import Finding, Measurement, ModelIdentity, told_apart
from reports.language import Words
from reports.languages import english, german

ENGLISH = english.WORDS
LANGUAGES = {"en": ENGLISH, "de": german.WORDS}  # by what a destination's `language` says

# What says it in English alone, in whatever language its destination reads: the measurement reports, for programs.
DEMONSTRATION_REASON = ENGLISH.demonstration_reason
NOTHING_FOUND = ENGLISH.nothing_found

LONGEST_LO = 64  # characters in a Long String, PS3.5 6.2
# How Germans spell these where they cannot write them.
SPELLINGS = {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
AMONG_CAPITALS = re.compile("(?<=[A-ZÄÖÜ])[ÄÖÜ]|[ÄÖÜ](?=[A-ZÄÖÜ])")


def warnings_for(model: ModelIdentity | None, words: Words = ENGLISH) -> tuple[str, ...]:
    """What has to stand on every result, the gravest first. A cleared model's result carries none."""
    if model is None:
        return ()
    if model.is_demonstration:
        return (words.demonstration_model, words.not_for_diagnostic_use)
    return () if model.is_cleared else (words.not_for_diagnostic_use,)


def series_description(title: str, model: ModelIdentity | None) -> str:
    """Series Description (0008,103E): the title and the warnings, as far as they fit."""
    return " - ".join((title, *warnings_for(model)))[:LONGEST_LO]


def label_in_words(label: str, words: Words = ENGLISH) -> str:
    """`Pleural_Thickening`, as data sets name their labels, for a reader."""
    return words.labels.get(label) or label.replace("_", " ")


def percents(finding: Finding, words: Words = ENGLISH) -> tuple[str, str]:
    """Certainty and threshold in percent."""
    return _apart(finding.certainty * 100, finding.threshold * 100, words, decimals=0)


def value_and_threshold(measurement: Measurement, words: Words = ENGLISH) -> tuple[str, str]:
    """Both with their unit, as `percents`; an empty threshold where there is none."""
    unit = measurement.unit.value
    if measurement.threshold is None:
        return f"{_spoken(f'{measurement.value:.1f}', words)} {unit}", ""
    value, threshold = _apart(measurement.value, measurement.threshold, words, decimals=1)
    return f"{value} {unit}", f"{threshold} {unit}"


def measurement_in_words(measurement: Measurement, words: Words = ENGLISH) -> str:
    value, threshold = value_and_threshold(measurement, words)
    sentence = words.measurement_with_threshold if threshold else words.measurement
    return sentence.format(label=label_in_words(measurement.label, words), value=value, threshold=threshold)


def finding_in_words(finding: Finding, words: Words = ENGLISH) -> str:
    certainty, threshold = percents(finding, words)
    return words.finding.format(label=label_in_words(finding.label, words), certainty=certainty, threshold=threshold)


def findings_in_short(findings: Iterable[Finding], words: Words = ENGLISH) -> str:
    """Many of them: neighbours that have a threshold in common name it once."""
    told = [(percents(finding, words), label_in_words(finding.label, words)) for finding in findings]
    return "; ".join(
        words.threshold_of_all.format(
            findings=", ".join(
                words.finding_without_threshold.format(label=label, certainty=certainty)
                for (certainty, _), label in group
            ),
            threshold=threshold,
        )
        for threshold, group in groupby(told, key=lambda one: one[0][1])
    )


def model_in_words(model: ModelIdentity, words: Words = ENGLISH) -> str:
    return words.model.format(title=model.title, version=model.version)


def spelled_out(text: str) -> str:
    """`Größe` as `Groesse`, and `FÜR` as `FUER`."""
    if text.isascii():
        return text
    in_capitals = AMONG_CAPITALS.sub(lambda match: SPELLINGS[match[0]].upper(), text)
    return "".join(SPELLINGS.get(character, character) for character in in_capitals)


def in_ascii(text: str) -> str:
    """Text in the characters that every character set has: without accents, and `?` for what is no Latin letter."""
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFKD", spelled_out(text))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


def _apart(value: float, threshold: float, words: Words, *, decimals: int) -> tuple[str, str]:
    told = told_apart(value, threshold, decimals=decimals)
    return _spoken(told[0], words), _spoken(told[1], words)


def _spoken(number: str, words: Words) -> str:
    return number.replace(".", words.decimal_mark)
