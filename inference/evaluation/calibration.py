"""Whether a score can be read as a probability: of the images near each score, what share has the finding?

Ten bins of equal width; a score on a bound belongs to the bin above it. An interval counts a patient once, however
many of the images are theirs.
"""

from dataclasses import dataclass

import numpy as np

from inference.evaluation.sample import Estimate, Sample, estimate, wilson

BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Images with scores in [low, high). None where there are none."""

    low: float
    high: float
    images: int
    patients: int
    positives: int
    mean_score: float | None
    observed: float | None
    observed_low: float | None
    observed_high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """`brier`: mean squared distance of score and truth (Brier 1950), 0 at best.

    `brier_of_prevalence`: what always answering the share of images with the finding would get.
    `expected_error`: mean distance of a bin's mean score and its observed share, weighted by images (ECE).
    """

    brier: Estimate
    brier_of_prevalence: float
    expected_error: float
    bins: tuple[Bin, ...]


def calibrate(sample: Sample, *, seed: int = 0) -> Calibration:
    squares = (sample.scores - sample.truth) ** 2
    draws = sample.resampled(lambda weights: ((weights @ squares) / weights.sum(axis=1))[:, np.newaxis], seed=seed)
    prevalence = sample.positives / sample.images
    bins = tuple(_bin(sample, place) for place in range(BINS))
    return Calibration(
        brier=estimate(float(squares.mean()), draws[:, 0], trials=0),
        brier_of_prevalence=prevalence * (1 - prevalence),
        expected_error=sum(
            one.images / sample.images * abs(one.observed - one.mean_score)
            for one in bins
            if one.observed is not None and one.mean_score is not None
        ),
        bins=bins,
    )


def _bin(sample: Sample, place: int) -> Bin:
    is_in = np.minimum((sample.scores * BINS).astype(np.int64), BINS - 1) == place
    inside = sample.part(is_in)
    observed = inside.positives / inside.images if inside.images else None
    low, high = wilson(observed, inside.patients) if observed is not None else (None, None)
    return Bin(
        low=place / BINS,
        high=(place + 1) / BINS,
        images=inside.images,
        patients=inside.patients,
        positives=inside.positives,
        mean_score=float(inside.scores.mean()) if inside.images else None,
        observed=observed,
        observed_low=low,
        observed_high=high,
    )
