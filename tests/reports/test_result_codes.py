"""The code table holds no mistyped code."""

import pytest

import reports.codes
from domain.findings import Code
from domain.snomed import has_valid_check_digit
from reports.codes import KNOWN_FINDINGS, LUNG, procedure_reported

CODES = [code for code in vars(reports.codes).values() if isinstance(code, Code)]
ALL_CODES = [*CODES, *(known.code for known in KNOWN_FINDINGS)]


@pytest.mark.parametrize(
    "code", [code for code in ALL_CODES if code.scheme == "SCT"], ids=lambda code: f"{code.value} {code.meaning}"
)
def test_every_snomed_identifier_has_a_valid_check_digit(code: Code) -> None:
    assert has_valid_check_digit(code.value)


@pytest.mark.parametrize(
    "identifier",
    ["95436003", "95436001", "129614006", "78381001", "3529005", "73122008", "109490004", "10837007", "", "36118oo8"],
)
def test_wrong_identifiers_that_stand_in_public_lists_are_found(identifier: str) -> None:
    assert not has_valid_check_digit(identifier)


def test_a_swap_of_two_digits_is_found() -> None:
    assert has_valid_check_digit("233604007")
    assert not has_valid_check_digit("233640007")


@pytest.mark.parametrize("code", ALL_CODES, ids=lambda code: code.value)
def test_every_code_fits_its_attributes(code: Code) -> None:
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.scheme) <= 16
    assert 0 < len(code.meaning) <= 64
    assert code.meaning.isascii()


def test_a_label_stands_in_the_table_once() -> None:
    labels = [known.label for known in KNOWN_FINDINGS]
    assert len(labels) == len(set(labels))


def test_a_model_that_looks_at_the_lung_reports_on_a_chest_radiograph() -> None:
    assert procedure_reported(frozenset({LUNG.value})).value == "399208008"
    assert procedure_reported(frozenset()).value == "363680008"
