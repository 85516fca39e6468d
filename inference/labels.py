"""What a package's answers mean: its labels, and what it measures."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.findings import Code


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One output of the network. `sensitivity` and `specificity` were measured at `threshold`, where known."""

    label: str
    code: Code
    site: Code | None
    threshold: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One value that is measured in the image. `threshold`, in `unit` (UCUM): from there on it is a finding."""

    label: str
    code: Code
    site: Code | None
    unit: Code
    threshold: float | None


def relative_certainty(score: float, threshold: float) -> float:
    """The score on a scale on which every label's threshold is 0.5 and the ends stay 0 and 1."""
    if score < threshold:
        return 0.5 * score / threshold
    return 1.0 - 0.5 * (1.0 - score) / max(1.0 - threshold, 1e-9)


def stands_out(labels: Sequence[Label], scores: Sequence[float]) -> int:
    """The place of the label that is furthest above its threshold, or least below."""
    return max(range(len(labels)), key=lambda place: relative_certainty(scores[place], labels[place].threshold))
