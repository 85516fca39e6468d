"""A finding is detected at its operating point, not above it."""

import pytest

from domain.findings import Code, Finding, ImageAnalysis

LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")


def finding(certainty: float) -> Finding:
    return Finding(label="Effusion", code=LUNG, site=None, certainty=certainty, threshold=0.5)


@pytest.mark.parametrize(("certainty", "detected"), [(0.0, False), (0.499, False), (0.5, True), (1.0, True)])
def test_a_finding_at_its_threshold_is_detected(certainty: float, detected: bool) -> None:
    assert finding(certainty).is_detected is detected


def test_every_finding_of_an_image_is_either_detected_or_not() -> None:
    low, high = finding(0.1), finding(0.9)
    analysis = ImageAnalysis(sop_instance_uid="1.2.3", findings=(high, low), activation=None)
    assert (analysis.detected, analysis.not_detected) == ((high,), (low,))
