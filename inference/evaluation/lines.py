"""An evaluation for programs: one object a label. Keys are stable; new ones come last."""

from dataclasses import dataclass

from inference.evaluation.calibration import Bin
from inference.evaluation.evaluate import Evaluation, LabelEvaluation
from inference.evaluation.operating_points import OperatingPoint
from inference.evaluation.subgroups import Subgroup


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelLine:
    """Rates and bounds in [0, 1]; bounds of 95 % intervals."""

    label: str
    n: int
    positives: int
    auroc: float
    auroc_low: float
    auroc_high: float
    threshold: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int
    patients: int
    intervals_by: str  # "patient", or "image" where the table names no patients
    brier: float
    brier_low: float
    brier_high: float
    expected_calibration_error: float
    calibration: tuple[Bin, ...]
    operating_points: tuple[OperatingPoint, ...]
    subgroups: tuple[Subgroup, ...]
    outside_intended: int
    unreadable: int


def label_lines(evaluation: Evaluation) -> list[LabelLine]:
    return [_line(evaluation, label) for label in evaluation.labels]


def _line(evaluation: Evaluation, label: LabelEvaluation) -> LabelLine:
    accuracy, brier = label.accuracy, label.calibration.brier
    return LabelLine(
        label=label.label,
        n=accuracy.images,
        positives=label.sample.positives,
        auroc=accuracy.auroc.value,
        auroc_low=accuracy.auroc.low,
        auroc_high=accuracy.auroc.high,
        threshold=accuracy.threshold,
        sensitivity=accuracy.sensitivity.value,
        sensitivity_low=accuracy.sensitivity.low,
        sensitivity_high=accuracy.sensitivity.high,
        specificity=accuracy.specificity.value,
        specificity_low=accuracy.specificity.low,
        specificity_high=accuracy.specificity.high,
        true_positives=accuracy.true_positives,
        false_negatives=accuracy.false_negatives,
        true_negatives=accuracy.true_negatives,
        false_positives=accuracy.false_positives,
        patients=accuracy.patients,
        intervals_by="image" if evaluation.patients is None else "patient",
        brier=brier.value,
        brier_low=brier.low,
        brier_high=brier.high,
        expected_calibration_error=label.calibration.expected_error,
        calibration=label.calibration.bins,
        operating_points=label.operating_points,
        subgroups=label.subgroups,
        outside_intended=evaluation.outside,
        unreadable=len(evaluation.unreadable),
    )
