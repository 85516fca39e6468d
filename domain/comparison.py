"""How two versions of a package differ, on the images at which both have looked and in all that each has said.

An image that both have seen is a pair, whichever of them was heard. Pairs come from shadows; where there are none, as
beside a canary without a shadow, what is left to compare is how each spoke of its own studies.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from domain.drift import LEAST_IMAGES, population_stability_index, score_bin
from domain.feedback import Words
from domain.findings import Score

NO_WORDS: Mapping[str, Words] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one version said about one image of a study. Without an image: it failed on the study."""

    study: str
    image: str
    scores: Mapping[str, Score]
    infer_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionFigures:
    """infer_p50_s, infer_p95_s: how long the network took for an image, without its decoding. A shadow runs behind all
    else, and so takes longer than it would in use on a node that is busy.
    """

    version: str
    studies: int
    images: int
    failed_studies: int
    infer_p50_s: float | None
    infer_p95_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelComparison:
    """One label on the images that both versions have scored, each at its own threshold.

    both, only_from, only_to, neither: how often each called it a finding. kappa: agreement beyond chance (Cohen); None
    where chance alone would agree on every image. difference_mean, difference_p95: of the scores, without sign.
    shift: the mean of (score of `to` - score of `from`). psi: how differently each version's scores are spread over
    everything that it has seen, pairs or not; None below 30 images, and for measured values. from_words, to_words: what
    readers said of each version's answers.
    """

    label: str
    images: int
    from_threshold: float | None
    to_threshold: float | None
    both: int
    only_from: int
    only_to: int
    neither: int
    agreement: float | None
    kappa: float | None
    difference_mean: float | None
    difference_p95: float | None
    shift: float | None
    psi: float | None
    from_words: Words
    to_words: Words


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """`studies` and `images`: at which both have looked."""

    package: str
    from_version: VersionFigures
    to_version: VersionFigures
    studies: int
    images: int
    labels: tuple[LabelComparison, ...]


def compare(
    package: str,
    from_version: str,
    from_runs: Collection[Run],
    to_version: str,
    to_runs: Collection[Run],
    *,
    from_words: Mapping[str, Words] = NO_WORDS,
    to_words: Mapping[str, Words] = NO_WORDS,
) -> Comparison:
    """Of runs of the same image by the same version the last one counts. What readers said comes by label."""
    before = {(run.study, run.image): run for run in from_runs if run.image}
    after = {(run.study, run.image): run for run in to_runs if run.image}
    pairs = [(before[key], after[key]) for key in before if key in after]
    labels = dict.fromkeys(label for run in (*before.values(), *after.values()) for label in run.scores)
    return Comparison(
        package=package,
        from_version=_figures(from_version, from_runs, before.values()),
        to_version=_figures(to_version, to_runs, after.values()),
        studies=len({first.study for first, _ in pairs}),
        images=len(pairs),
        labels=tuple(
            _label(
                label,
                pairs,
                (before.values(), after.values()),
                (from_words.get(label, Words()), to_words.get(label, Words())),
            )
            for label in labels
        ),
    )


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value below or at which this share of them lies; None where there are none."""
    ordered = sorted(values)
    return ordered[max(ceil(share * len(ordered)), 1) - 1] if ordered else None


def _figures(version: str, runs: Collection[Run], seen: Collection[Run]) -> VersionFigures:
    times = [run.infer_s for run in seen if run.infer_s is not None]
    answered = {run.study for run in seen}
    return VersionFigures(
        version=version,
        studies=len(answered),
        images=len(seen),
        failed_studies=len({run.study for run in runs if not run.image} - answered),
        infer_p50_s=percentile(times, 0.5),
        infer_p95_s=percentile(times, 0.95),
    )


def _label(
    label: str,
    pairs: Sequence[tuple[Run, Run]],
    seen: tuple[Collection[Run], Collection[Run]],
    words: tuple[Words, Words],
) -> LabelComparison:
    """`seen` and `words`: of the one version, and of the other."""
    before, after = seen
    scored = [
        (first.scores[label], second.scores[label])
        for first, second in pairs
        if label in first.scores and label in second.scores
    ]
    differences = [second.value - first.value for first, second in scored]
    judged = [(a.is_detected, b.is_detected) for a, b in scored if a.threshold is not None and b.threshold is not None]
    both, only_from, only_to, neither = (
        judged.count(said) for said in ((True, True), (True, False), (False, True), (False, False))
    )
    return LabelComparison(
        label=label,
        images=len(scored),
        from_threshold=_threshold(label, before),
        to_threshold=_threshold(label, after),
        both=both,
        only_from=only_from,
        only_to=only_to,
        neither=neither,
        agreement=(both + neither) / len(judged) if judged else None,
        kappa=cohens_kappa(both, only_from, only_to, neither),
        difference_mean=_mean([abs(difference) for difference in differences]),
        difference_p95=percentile([abs(difference) for difference in differences], 0.95),
        shift=_mean(differences),
        psi=_psi(_values(label, before), _values(label, after)),
        from_words=words[0],
        to_words=words[1],
    )


def cohens_kappa(both: int, only_from: int, only_to: int, neither: int) -> float | None:
    """Agreement beyond chance, 1 at the most (Cohen, 1960)."""
    n = both + only_from + only_to + neither
    if not n:
        return None
    first, second = (both + only_from) / n, (both + only_to) / n
    by_chance = first * second + (1 - first) * (1 - second)
    return None if by_chance == 1 else ((both + neither) / n - by_chance) / (1 - by_chance)


def _threshold(label: str, runs: Collection[Run]) -> float | None:
    return next((run.scores[label].threshold for run in runs if label in run.scores), None)


def _values(label: str, runs: Collection[Run]) -> list[float]:
    return [run.scores[label].value for run in runs if label in run.scores and run.scores[label].is_certainty]


def _psi(before: Sequence[float], after: Sequence[float]) -> float | None:
    if min(len(before), len(after)) < LEAST_IMAGES:
        return None
    return population_stability_index(_spread(before), _spread(after))


def _spread(values: Iterable[float]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[score_bin(value)] = counts.get(score_bin(value), 0) + 1
    return counts


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
