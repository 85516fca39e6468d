"""How well scores separate radiographs with a finding from those without at one threshold, and how sure that is."""

from dataclasses import dataclass

import numpy as np

from inference.evaluation.roc import curve
from inference.evaluation.sample import Estimate, Sample, Scores, Weights, estimate


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


def measure(sample: Sample, *, threshold: float, seed: int = 0) -> Accuracy:
    """Measure one label."""
    is_called = sample.scores >= threshold
    truth = sample.truth

    def statistics(weights: Weights) -> Scores:
        """(n, 3): AUROC, sensitivity, specificity; NaN for a class without images."""
        with np.errstate(invalid="ignore"):
            sensitivity = weights @ (is_called & truth) / (weights @ truth)
            specificity = weights @ (~is_called & ~truth) / (weights @ ~truth)
        return np.stack([curve(sample, weights).area(), sensitivity, specificity], axis=1)

    values = statistics(sample.whole())[0]
    draws = sample.resampled(statistics, seed=seed)
    with_finding, without = sample.patients_with, sample.patients_without
    # So many pairs of one with and one without the finding share no patient with another pair.
    pairs = min(with_finding, without)
    auroc, sensitivity, specificity = (
        estimate(float(value), draw, trials=trials)
        for value, draw, trials in zip(values, draws.T, (pairs, with_finding, without), strict=True)
    )
    return Accuracy(
        auroc=auroc,
        sensitivity=sensitivity,
        specificity=specificity,
        threshold=threshold,
        images=sample.images,
        patients=sample.patients,
        true_positives=int(np.sum(is_called & truth)),
        false_negatives=int(np.sum(~is_called & truth)),
        true_negatives=int(np.sum(~is_called & ~truth)),
        false_positives=int(np.sum(is_called & ~truth)),
    )
