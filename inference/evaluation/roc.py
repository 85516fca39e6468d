"""The receiver operating characteristic: sensitivity against 1 - specificity, from the highest threshold to the lowest.

A score at a threshold counts as positive. Thresholds that are found on the images that they are then measured on look
better than they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.evaluation.sample import Sample, Scores, Weights

BAND_AT = np.linspace(0.0, 1.0, 101)  # 1 - specificity


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Curve:
    """(n, thresholds + 1), from (0, 0), where nothing is called, to (1, 1). NaN for a class that was not drawn."""

    false_positive_rate: Scores
    sensitivity: Scores

    def area(self) -> Scores:
        """(n,) AUROC by trapezoids: the chance that an image with the finding scores higher, ties counting half."""
        width = np.diff(self.false_positive_rate, axis=1)
        return np.asarray((width * (self.sensitivity[:, 1:] + self.sensitivity[:, :-1]) / 2).sum(axis=1))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Roc:
    """(points,) of the curve, and (101,) of the 95 % band of sensitivity at each `BAND_AT`."""

    false_positive_rate: Scores
    sensitivity: Scores
    band_low: Scores
    band_high: Scores


def roc(sample: Sample, *, seed: int = 0) -> Roc:
    whole = curve(sample, sample.whole())
    draws = sample.resampled(lambda weights: _sensitivity_at(curve(sample, weights)), seed=seed)
    usable = draws[np.isfinite(draws).all(axis=1)]
    low, high = np.percentile(usable, [2.5, 97.5], axis=0)
    return Roc(
        false_positive_rate=whole.false_positive_rate[0],
        sensitivity=whole.sensitivity[0],
        band_low=low,
        band_high=high,
    )


def curve(sample: Sample, weights: Weights) -> Curve:
    """One curve for each row of weights."""
    order = np.argsort(-sample.scores, kind="stable")
    sorted_scores, truth = sample.scores[order], sample.truth[order]
    ends = np.flatnonzero(np.append(np.diff(sorted_scores) != 0, True))  # tied scores are called together
    drawn = weights[:, order]
    with np.errstate(invalid="ignore"):
        return Curve(
            false_positive_rate=_shares(drawn, ~truth, ends),
            sensitivity=_shares(drawn, truth, ends),
        )


def youden_threshold(sample: Sample) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950), halfway to the next lower score.

    Of several such thresholds the lowest is taken: the most sensitive.
    """
    candidates, sensitivity, specificity = _candidates(sample)
    gain = np.round(sensitivity + specificity, 9)
    return _below(candidates, int(np.flatnonzero(gain == gain.max())[-1]))


def threshold_of_sensitivity(sample: Sample, least: float) -> float:
    """The highest threshold with at least this sensitivity."""
    candidates, sensitivity, _ = _candidates(sample)
    return _below(candidates, int(np.flatnonzero(sensitivity >= least)[0]))


def threshold_of_specificity(sample: Sample, least: float) -> float | None:
    """The lowest threshold with at least this specificity; None where even the highest score is too many's."""
    candidates, _, specificity = _candidates(sample)
    enough = np.flatnonzero(specificity >= least)
    return _below(candidates, int(enough[-1])) if enough.size else None


def _candidates(sample: Sample) -> tuple[Scores, Scores, Scores]:
    """Every score as a threshold, the highest first, with its sensitivity and specificity."""
    whole = curve(sample, sample.whole())
    return np.unique(sample.scores)[::-1], whole.sensitivity[0, 1:], 1.0 - whole.false_positive_rate[0, 1:]


def _below(candidates: Scores, place: int) -> float:
    """Halfway to the next lower score, or to 0: the same images are called."""
    below = candidates[place + 1] if place + 1 < len(candidates) else 0.0
    return float((candidates[place] + below) / 2.0)


def _shares(drawn: Weights, is_in_class: NDArray[np.bool_], ends: NDArray[np.intp]) -> Scores:
    """(n, thresholds + 1) the share of a class that is called at each threshold, from 0 on."""
    summed = np.cumsum(drawn[:, is_in_class], axis=1)
    with_none = np.concatenate([np.zeros((len(summed), 1)), summed], axis=1)
    members_called = np.concatenate([[0], np.cumsum(is_in_class)[ends]])
    return np.asarray(with_none[:, members_called] / with_none[:, -1:])


def _sensitivity_at(curves: Curve) -> Scores:
    """(n, 101) the largest sensitivity with no more false positives than each of `BAND_AT`."""
    return np.array(
        [
            sensitivity[np.searchsorted(rate, BAND_AT + 1e-12, side="right") - 1]
            for rate, sensitivity in zip(curves.false_positive_rate, curves.sensitivity, strict=True)
        ]
    )
