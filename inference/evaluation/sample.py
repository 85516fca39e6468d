"""One label's scores and truths, and the resampling that every interval here rests on.

Intervals are 95 % percentile bootstraps that resample patients, not images: several images of one child are one
observation. Where all resamples agree, as for a sensitivity of 1, they know nothing of what was not seen; a Wilson
score interval (Wilson 1927) stands there instead, with a patient as one trial.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
Weights = NDArray[np.float64]  # (resamples, images): how often each image was drawn

RESAMPLES = 2000
BLOCK_CELLS = 400_000  # weights that are held at once: 3 MB, about what a cache holds
NORMAL_QUANTILE = 1.959964  # of 97.5 %
INTERVAL_METHOD = f"95 % percentile bootstrap over patients, {RESAMPLES} resamples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value in [0, 1] and its 95 % interval. NaN: it cannot be computed from these images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """`scores` in [0, 1] and `truth`, whether the finding is there, (images,). `patient`: a number from 0 on."""

    scores: Scores
    truth: Truth
    patient: NDArray[np.intp]

    @classmethod
    def of(cls, scores: Scores, truth: Truth, patients: Sequence[str] | None = None) -> "Sample":
        """`patients`: whose image each is; None: each image is a patient of its own."""
        _, patient = np.unique(patients if patients is not None else np.arange(len(scores)), return_inverse=True)
        return cls(scores=scores, truth=truth, patient=patient)

    def part(self, is_in: NDArray[np.bool_]) -> "Sample":
        """Some of the images, (images,) True for each of them."""
        _, patient = np.unique(self.patient[is_in], return_inverse=True)
        return Sample(scores=self.scores[is_in], truth=self.truth[is_in], patient=patient)

    @property
    def images(self) -> int:
        return len(self.scores)

    @property
    def positives(self) -> int:
        return int(self.truth.sum())

    @property
    def patients(self) -> int:
        return int(self.patient.max(initial=-1)) + 1

    @property
    def patients_with(self) -> int:
        """Patients with an image that shows the finding."""
        return len(np.unique(self.patient[self.truth]))

    @property
    def patients_without(self) -> int:
        """Patients with an image that does not."""
        return len(np.unique(self.patient[~self.truth]))

    def whole(self) -> Weights:
        """(1, images): each image once."""
        return np.ones((1, self.images))

    def resampled(self, statistics: Callable[[Weights], Scores], *, seed: int = 0) -> Scores:
        """(RESAMPLES, k) what `statistics` makes, (n, k), of (n, images) weights. The same seed draws the same."""
        generator = np.random.default_rng(seed)
        patients = self.patients
        rows = max(1, min(RESAMPLES, BLOCK_CELLS // max(self.images, 1)))
        blocks = []
        for first in range(0, RESAMPLES, rows):
            count = min(rows, RESAMPLES - first)
            drawn = generator.integers(patients, size=(count, patients)) + patients * np.arange(count)[:, np.newaxis]
            times = np.bincount(drawn.ravel(), minlength=count * patients).reshape(count, patients)
            blocks.append(statistics(times[:, self.patient].astype(np.float64)))
        return np.concatenate(blocks)


def estimate(value: float, draws: Scores, *, trials: int) -> Estimate:
    """The value with the interval of its resamples.

    Args:
        draws: (resamples,) NaN where one could not be computed.
        trials: how many independent observations the value rests on, where all resamples agree.
    """
    usable = draws[np.isfinite(draws)]
    if usable.size and np.ptp(usable) < 1e-12 and trials:
        low, high = wilson(value, trials)
        return Estimate(value=value, low=low, high=high)
    low, high = np.percentile(usable, [2.5, 97.5]) if usable.size else (np.nan, np.nan)
    return Estimate(value=value, low=float(low), high=float(high))


def wilson(share: float, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `trials`."""
    square = NORMAL_QUANTILE**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    reach = NORMAL_QUANTILE * sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return 0.0 if share == 0 else middle - reach, 1.0 if share == 1 else middle + reach
