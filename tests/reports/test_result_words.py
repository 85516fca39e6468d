"""The words that results share."""

import pytest

from reports.words import finding_in_words, percents, series_description, warnings_for
from tests.factories.analyses import CLEARED_MODEL, DEMONSTRATION_MODEL, MODEL, finding


@pytest.mark.parametrize(
    ("certainty", "threshold", "shown"),
    [
        (0.83, 0.5, ("83", "50")),
        (0.5, 0.5, ("50", "50")),
        (0.4996, 0.5, ("49.96", "50.00")),
        (0.496, 0.5, ("49.6", "50.0")),
        (0.0, 0.5, ("0", "50")),
        (1.0, 0.5, ("100", "50")),
        (0.6049, 0.6051, ("60", "61")),
    ],
)
def test_percents_never_put_a_score_on_the_wrong_side_of_its_threshold(
    certainty: float, threshold: float, shown: tuple[str, str]
) -> None:
    assert percents(finding("Pneumonia", certainty, threshold=threshold)) == shown


def test_a_finding_is_told_in_one_line() -> None:
    assert finding_in_words(finding("Pleural_Thickening", 0.61)) == (
        "Pleural Thickening, certainty 61 % (threshold 50 %)"
    )


def test_a_demonstration_warns_first_even_if_its_model_is_cleared() -> None:
    assert warnings_for(DEMONSTRATION_MODEL) == ("DEMONSTRATION MODEL", "NOT FOR DIAGNOSTIC USE")
    assert warnings_for(MODEL) == ("NOT FOR DIAGNOSTIC USE",)
    assert warnings_for(CLEARED_MODEL) == ()


@pytest.mark.parametrize("title", ["AI Overlay", "AI Results", "AI Summary"])
def test_a_series_description_fits_its_attribute_without_losing_a_warning(title: str) -> None:
    description = series_description(title, DEMONSTRATION_MODEL)
    assert description == f"{title} - DEMONSTRATION MODEL - NOT FOR DIAGNOSTIC USE"
    assert len(description) <= 64
