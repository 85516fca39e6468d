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


def measure(sample: Sample, *, threshold: float, auroc: Estimate | None = None, seed: int = 0) -> Accuracy:
    """Measure one label.

    Args:
        auroc: the sample's, where it is known already: it is the same at every threshold.
    """
    is_called = sample.scores >= threshold
    truth = sample.truth

    def rates(weights: Weights) -> Scores:
        """(n, 2): sensitivity, specificity; NaN for a class without images."""
        with np.errstate(invalid="ignore"):
            sensitivity = weights @ (is_called & truth) / (weights @ truth)
            specificity = weights @ (~is_called & ~truth) / (weights @ ~truth)
        return np.stack([sensitivity, specificity], axis=1)

    values, draws = rates(sample.whole())[0], sample.resampled(rates, seed=seed)
    return Accuracy(
        auroc=auroc or measure_auroc(sample, seed=seed),
        sensitivity=estimate(float(values[0]), draws[:, 0], trials=sample.patients_with),
        specificity=estimate(float(values[1]), draws[:, 1], trials=sample.patients_without),
        threshold=threshold,
        images=sample.images,
        patients=sample.patients,
        true_positives=int(np.sum(is_called & truth)),
        false_negatives=int(np.sum(~is_called & truth)),
        true_negatives=int(np.sum(~is_called & ~truth)),
        false_positives=int(np.sum(is_called & ~truth)),
    )


def measure_auroc(sample: Sample, *, seed: int = 0) -> Estimate:
    """The area under the whole curve."""
    area = float(curve(sample, sample.whole()).area()[0])
    draws = sample.resampled(lambda weights: curve(sample, weights).area()[:, np.newaxis], seed=seed)
    # So many pairs of one with and one without the finding share no patient with another pair.
    return estimate(area, draws[:, 0], trials=min(sample.patients_with, sample.patients_without))
