"""A finding is detected at its operating point, not above it."""

import pytest

from domain.findings import Code, Finding, ImageAnalysis, told_apart

LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")


def finding(certainty: float) -> Finding:
    return Finding(label="Effusion", code=LUNG, site=None, certainty=certainty, threshold=0.5)


@pytest.mark.parametrize(("certainty", "detected"), [(0.0, False), (0.499, False), (0.5, True), (1.0, True)])
def test_a_finding_at_its_threshold_is_detected(certainty: float, detected: bool) -> None:
    assert finding(certainty).is_detected is detected


@pytest.mark.parametrize(
    ("value", "threshold", "told"),
    [
        (0.83, 0.5, ("0.83", "0.50")),
        (0.5, 0.5, ("0.50", "0.50")),
        (0.4996, 0.5, ("0.4996", "0.5000")),
        (0.5374, 0.5376, ("0.537", "0.538")),
        (0.536, 0.5376, ("0.536", "0.538")),
        (24.96, 25.0, ("24.96", "25.00")),
        (0.4999999999, 0.5, ("0.4999999999", "0.5")),
    ],
)
def test_no_number_is_told_as_if_it_were_on_the_other_side_of_its_threshold(
    value: float, threshold: float, told: tuple[str, str]
) -> None:
    assert told_apart(value, threshold, decimals=2) == told


def test_every_finding_of_an_image_is_either_detected_or_not() -> None:
    low, high = finding(0.1), finding(0.9)
    analysis = ImageAnalysis(sop_instance_uid="1.2.3", findings=(high, low), activation=None)
    assert (analysis.detected, analysis.not_detected) == ((high,), (low,))
