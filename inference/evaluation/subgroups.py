"""The same accuracy for parts of the images: by age, sex, view and manufacturer.

A group with few patients of either kind gets its numbers of images and no figure: its interval would be as wide as the
scale, and somebody would quote the value. With twenty groups, one interval misses its true value by chance.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluation.accuracy import Accuracy, measure
from inference.evaluation.sample import Sample
from inference.evaluation.subjects import AGE_GROUPS, GROUPINGS, NOT_KNOWN, Subject

LEAST_PATIENTS = 10  # with the finding, and as many without
MOST_GROUPS = 12  # of one attribute; the rest, the smallest ones, are put together
THE_REST = "all others"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgroup:
    """`accuracy` is None where fewer than LEAST_PATIENTS patients have, or have not, the finding."""

    attribute: str
    group: str
    images: int
    patients: int
    positives: int
    accuracy: Accuracy | None


def subgroups(sample: Sample, subjects: Sequence[Subject], *, threshold: float) -> tuple[Subgroup, ...]:
    """Every group of each attribute that is known of at least one image."""
    found = []
    for attribute, grouping in GROUPINGS.items():
        groups = [grouping(subject) for subject in subjects]
        if set(groups) != {NOT_KNOWN}:
            found += _of_attribute(sample, attribute, groups, threshold)
    return tuple(found)


def unknown_attributes(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """Attributes that are not known of any image."""
    return tuple(
        attribute
        for attribute, grouping in GROUPINGS.items()
        if all(grouping(subject) == NOT_KNOWN for subject in subjects)
    )


def _of_attribute(sample: Sample, attribute: str, groups: Sequence[str], threshold: float) -> list[Subgroup]:
    kept = [group for group, _ in Counter(groups).most_common(MOST_GROUPS)]
    named = np.array([group if group in kept else THE_REST for group in groups])
    return [
        _subgroup(sample.part(named == group), attribute, group, threshold)
        for group in sorted(set(named.tolist()), key=_order)
    ]


def _subgroup(part: Sample, attribute: str, group: str, threshold: float) -> Subgroup:
    is_enough = min(part.patients_with, part.patients_without) >= LEAST_PATIENTS
    return Subgroup(
        attribute=attribute,
        group=group,
        images=part.images,
        patients=part.patients,
        positives=part.positives,
        accuracy=measure(part, threshold=threshold) if is_enough else None,
    )


def _order(group: str) -> tuple[int, int, str]:
    """Ages from young to old, others by the alphabet; what is left or not known comes last."""
    is_last = [group == THE_REST, group == NOT_KNOWN]
    return sum(place * flag for place, flag in enumerate(is_last, start=1)), _age_place(group), group


def _age_place(group: str) -> int:
    return AGE_GROUPS.index(group) if group in AGE_GROUPS else len(AGE_GROUPS)
