"""Has what a model sees, or what it says, changed since it began?

    a number or a word  ->  its bin  ->  counts of a week, counts of the reference  ->  population stability index (PSI)

The PSI of two distributions is the sum over the bins of (p - q) ln(p / q); by the custom of credit scoring, where it
comes from, 0.1 is worth a look and 0.25 a change. With few images chance alone makes it large: without any change it is
about a chi-square number of (bins - 1) degrees of freedom, times 1/n + 1/m (Yurdakul and Naranjo, 2020). So an alarm
needs both: a PSI at or above the level, and one that chance reaches once in a thousand weeks at the most.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import log, sqrt
from statistics import NormalDist

from domain.findings import ImageAnalysis
from domain.study import InstanceFacts

SCORE_BINS = 10
GREY_BINS = 20
ALARM_PSI = 0.25
LEAST_IMAGES = 30
# The first so many images are what all later ones are held against, where the model was not published with more.
REFERENCE_IMAGES = 200
# What peers write is cut to so much, and a feature has so many bins; the rest share one.
LONGEST_BIN = 64
MOST_BINS = 60
# Each bin counts as half an image more: an empty one would make the index endless.
SMOOTHING = 0.5
BY_CHANCE = 0.001
UNKNOWN, OTHER = "unknown", "other"
# Features of what was looked at; those of answers have their label in their name.
OF_IMAGES = ("grey", "age", "view", "device")

Counts = Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """How far a week's counts are from the reference's. `chance`: the PSI that is met by chance once in a thousand."""

    psi: float
    chance: float
    is_alarm: bool


def bins_of(image: ImageAnalysis, facts: InstanceFacts) -> dict[str, str]:
    """What is counted of one image: the bin of each feature, of the answers first, then of what was looked at."""
    bins = {
        f"score {score.label}" if score.is_certainty else f"value {score.label}": (
            score_bin(score.value) if score.is_certainty else measure_bin(score.value)
        )
        for score in image.scores
    }
    if image.run is not None:
        bins["grey"] = grey_bin(image.run.grey_mean)
    bins["age"] = age_bin(facts.patient_age_years)
    bins["view"] = facts.view_position[:LONGEST_BIN] or UNKNOWN
    bins["device"] = f"{facts.manufacturer} {facts.manufacturer_model_name}".strip()[:LONGEST_BIN] or UNKNOWN
    return bins


def counted(counts: Mapping[str, Counts], bins: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """The counts of every feature with one more image."""
    more = {feature: dict(of_bins) for feature, of_bins in counts.items()}
    for feature, one in bins.items():
        of_bins = more.setdefault(feature, {})
        one = one if one in of_bins or len(of_bins) < MOST_BINS else OTHER
        of_bins[one] = of_bins.get(one, 0) + 1
    return more


def spread(all_bins: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """The counts of every feature over all images."""
    counts: dict[str, dict[str, int]] = {}
    for bins in all_bins:
        counts = counted(counts, bins)
    return counts


def is_bin(feature: str, name: str) -> bool:
    """Whether an image can be in a bin of this name."""
    if feature.startswith("score "):
        return name in {score_bin(place / SCORE_BINS) for place in range(SCORE_BINS)}
    if feature == "grey":
        return name in {grey_bin(place / GREY_BINS) for place in range(GREY_BINS)}
    return 0 < len(name) <= LONGEST_BIN


def change(reference: Counts, now: Counts) -> Change | None:
    """None: there are too few images to say anything."""
    before, after = sum(reference.values()), sum(now.values())
    if min(before, after) < LEAST_IMAGES:
        return None
    psi = population_stability_index(reference, now)
    chance = chi_square_quantile(len(reference.keys() | now.keys()) - 1, 1 - BY_CHANCE) * (1 / before + 1 / after)
    return Change(psi=psi, chance=chance, is_alarm=psi >= ALARM_PSI and psi > chance)


def population_stability_index(reference: Counts, now: Counts) -> float:
    """0 where both are spread alike. Bins that neither has count for nothing."""
    bins = reference.keys() | now.keys()
    before = sum(reference.values()) + SMOOTHING * len(bins)
    after = sum(now.values()) + SMOOTHING * len(bins)
    index = 0.0
    for one in bins:
        p, q = (now.get(one, 0) + SMOOTHING) / after, (reference.get(one, 0) + SMOOTHING) / before
        index += (p - q) * log(p / q)
    return index


def chi_square_quantile(degrees: int, share: float) -> float:
    """By Wilson and Hilferty (1931): right to some percent, which is more than an alarm needs."""
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + NormalDist().inv_cdf(share) * sqrt(spread)) ** 3)


def score_bin(value: float) -> str:
    """Of a certainty in [0, 1]: the lower end of its tenth."""
    return f"{min(int(value * SCORE_BINS), SCORE_BINS - 1) / SCORE_BINS:g}"


def measure_bin(value: float) -> str:
    """Of a value on any scale: rounded to its first digit."""
    return f"{float(f'{value:.0e}'):g}"


def grey_bin(mean: float) -> str:
    """Of a mean in [0, 1]: the lower end of its twentieth."""
    return f"{min(int(mean * GREY_BINS), GREY_BINS - 1) / GREY_BINS:g}"


def age_bin(years: float | None) -> str:
    """The decade; children by the year, of which each makes another patient."""
    if years is None:
        return UNKNOWN
    return f"{int(years)}" if years < 10 else f"{int(years // 10) * 10}"


def week_of(day: date) -> date:
    """The Monday with which its week begins (ISO 8601)."""
    return day - timedelta(days=day.weekday())
