"""How well scores separate radiographs with a finding from those without, and how sure that is.

AUROC is the chance that a radiograph with the finding scores above one without it (ties count half). Intervals are
95 % percentile bootstraps that resample patients, not images: several images of one child are one observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]

RESAMPLES = 2000
INTERVAL_METHOD = f"95 % percentile bootstrap over patients, {RESAMPLES} resamples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value in [0, 1] and its 95 % interval. NaN: it cannot be computed from these images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """What one label's scores are worth at one threshold; a score at the threshold counts as positive."""

    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    threshold: float
    images: int
    patients: int
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


def measure(
    scores: Scores, truth: Truth, *, threshold: float, patients: Sequence[str] | None = None, seed: int = 0
) -> Accuracy:
    """Measure one label.

    Args:
        scores: (images,) in [0, 1].
        truth: (images,), whether the finding is there.
        patients: (images,) whose image each is; None: each image is a patient of its own.
    """
    _, patient = np.unique(patients if patients is not None else np.arange(len(scores)), return_inverse=True)
    resampled = _resampled_rates(scores, truth, threshold, patient, np.random.default_rng(seed))
    measured = (auroc(scores, truth), *_rates(scores, truth, threshold))
    estimates = [_estimate(value, draws) for value, draws in zip(measured, resampled.T, strict=True)]
    is_called = scores >= threshold
    return Accuracy(
        auroc=estimates[0],
        sensitivity=estimates[1],
        specificity=estimates[2],
        threshold=threshold,
        images=len(scores),
        patients=int(patient.max(initial=-1)) + 1,
        true_positives=int(np.sum(is_called & truth)),
        false_negatives=int(np.sum(~is_called & truth)),
        true_negatives=int(np.sum(~is_called & ~truth)),
        false_positives=int(np.sum(is_called & ~truth)),
    )


def auroc(scores: Scores, truth: Truth) -> float:
    """Area under the receiver operating characteristic by the Mann-Whitney U statistic; NaN with one class only."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2.0)[place]  # tied scores share their mean rank
    return float((ranks[truth].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def youden_threshold(scores: Scores, truth: Truth) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950), halfway to the next lower score.

    Of several such thresholds the lowest is taken: the most sensitive.
    """
    candidates = np.unique(scores)
    youden = [sum(_rates(scores, truth, threshold)) for threshold in candidates]
    best = int(np.argmax(np.round(youden, 9)))
    below = candidates[best - 1] if best else 0.0
    return float((candidates[best] + below) / 2.0)


def _rates(scores: Scores, truth: Truth, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity; NaN for a class without images."""
    is_called = scores >= threshold
    sensitivity = float(is_called[truth].mean()) if truth.any() else float("nan")
    specificity = float((~is_called)[~truth].mean()) if (~truth).any() else float("nan")
    return sensitivity, specificity


def _resampled_rates(
    scores: Scores, truth: Truth, threshold: float, patient: NDArray[np.intp], generator: np.random.Generator
) -> NDArray[np.float64]:
    """(resamples, 3): AUROC, sensitivity and specificity of patients drawn with replacement."""
    images_of = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient))[:-1])
    draws = np.empty((RESAMPLES, 3))
    for row in draws:
        chosen = np.concatenate([images_of[i] for i in generator.integers(len(images_of), size=len(images_of))])
        row[:] = auroc(scores[chosen], truth[chosen]), *_rates(scores[chosen], truth[chosen], threshold)
    return draws


def _estimate(value: float, draws: NDArray[np.float64]) -> Estimate:
    usable = draws[np.isfinite(draws)]
    low, high = np.percentile(usable, [2.5, 97.5]) if usable.size else (np.nan, np.nan)
    return Estimate(value=value, low=float(low), high=float(high))
