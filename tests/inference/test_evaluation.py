"""What an evaluation measures: values that can be worked out by hand, and intervals that do not promise too much."""

from dataclasses import asdict

import numpy as np
import pytest

from inference.evaluation.accuracy import measure
from inference.evaluation.calibration import calibrate
from inference.evaluation.operating_points import operating_points
from inference.evaluation.roc import (
    curve,
    roc,
    threshold_of_sensitivity,
    threshold_of_specificity,
    youden_threshold,
)
from inference.evaluation.sample import RESAMPLES, Sample, wilson
from inference.evaluation.subgroups import Subgroup, subgroups, unknown_attributes
from inference.evaluation.subjects import Subject

SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TRUTHS = (False, False, True, False, True, False, True, True)


def sample(scores: tuple[float, ...] = SCORES, truths: tuple[bool, ...] = TRUTHS, patients: str = "") -> Sample:
    return Sample.of(np.array(scores), np.array(truths), list(patients) or None)


def separated(images: int, distance: float, seed: int = 1) -> Sample:
    """As many images with the finding as without, their scores `distance` apart, deviation 0.15."""
    truths = np.arange(images) % 2 == 1
    drawn = np.random.default_rng(seed).normal(0.5 - distance / 2, 0.15, images) + distance * truths
    return Sample.of(np.clip(drawn, 0, 1), truths)


def test_auroc_is_the_share_of_pairs_that_are_ranked_rightly() -> None:
    assert measure(sample(), threshold=0.5).auroc.value == 13 / 16


def test_tied_scores_count_half() -> None:
    assert measure(sample((0.5, 0.5, 0.5, 0.9), (True, False, False, True)), threshold=0.5).auroc.value == 0.75


def test_a_score_at_the_threshold_is_positive() -> None:
    accuracy = measure(sample(), threshold=0.5)
    assert (accuracy.true_positives, accuracy.false_negatives) == (3, 1)
    assert (accuracy.true_negatives, accuracy.false_positives) == (3, 1)
    assert (accuracy.sensitivity.value, accuracy.specificity.value) == (0.75, 0.75)


def test_an_interval_holds_its_value_and_the_same_seed_gives_the_same() -> None:
    first, second = (measure(separated(200, 0.2), threshold=0.5, seed=7) for _ in range(2))
    assert first == second
    for estimate in (first.auroc, first.sensitivity, first.specificity):
        assert estimate.low < estimate.value < estimate.high


def test_several_images_of_a_patient_are_one_observation() -> None:
    once = separated(100, 0.2)
    names = [f"{number:03}" for number in range(100)] * 4
    four_times = Sample.of(np.tile(once.scores, 4), np.tile(once.truth, 4), names)
    by_patient = measure(four_times, threshold=0.5)
    by_image = measure(Sample.of(four_times.scores, four_times.truth), threshold=0.5)
    assert (by_patient.images, by_patient.patients, by_image.patients) == (400, 100, 400)
    assert asdict(by_patient.auroc) == pytest.approx(asdict(measure(once, threshold=0.5).auroc))
    assert by_image.auroc.high - by_image.auroc.low < 0.6 * (by_patient.auroc.high - by_patient.auroc.low)


def test_without_a_single_mistake_the_interval_is_not_of_no_width() -> None:
    perfect = measure(separated(40, 10.0), threshold=0.5)
    assert (perfect.auroc.value, perfect.sensitivity.value, perfect.specificity.value) == (1, 1, 1)
    for estimate in (perfect.auroc, perfect.sensitivity, perfect.specificity):
        assert estimate.high == 1
        assert estimate.low == pytest.approx(20 / (20 + 1.959964**2))


def test_large_samples_are_resampled_in_blocks_that_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(separated(60, 0.2), threshold=0.5)
    monkeypatch.setattr("inference.evaluation.sample.BLOCK_CELLS", 60 * 7)
    assert RESAMPLES % 7
    assert measure(separated(60, 0.2), threshold=0.5) == whole


def test_the_curve_goes_from_nothing_called_to_everything() -> None:
    whole = curve(sample((0.2, 0.2, 0.7), (True, False, True)), np.ones((1, 3)))
    assert whole.false_positive_rate.tolist() == [[0, 0, 1]]
    assert whole.sensitivity.tolist() == [[0, 0.5, 1]]
    assert whole.area().tolist() == [0.75]


def test_the_band_of_the_curve_holds_the_curve() -> None:
    measured = roc(separated(300, 0.2))
    for rate, sensitivity in zip(measured.false_positive_rate, measured.sensitivity, strict=True):
        place = round(rate * 100)
        if rate == place / 100:
            assert measured.band_low[place] <= sensitivity + 0.03
            assert measured.band_high[place] >= sensitivity - 0.03
    assert (np.diff(measured.band_low) >= 0).all()
    assert (measured.band_low <= measured.band_high).all()


def test_thresholds_lie_between_the_scores_that_they_part() -> None:
    assert threshold_of_sensitivity(sample(), 0.75) == pytest.approx(0.45)
    assert threshold_of_sensitivity(sample(), 0.90) == pytest.approx(0.25)
    assert threshold_of_specificity(sample(), 0.95) == pytest.approx(0.65)
    assert threshold_of_specificity(sample(), 0.50) == pytest.approx(0.25)
    # 0.25 and 0.65 gain as much; the more sensitive one is taken.
    assert youden_threshold(sample()) == pytest.approx(0.25)


def test_a_specificity_that_no_threshold_reaches_has_none() -> None:
    tied = sample((0.9, 0.9, 0.1), (True, False, True))
    assert threshold_of_specificity(tied, 0.95) is None
    points = {point.name: point for point in operating_points(tied, measure(tied, threshold=0.5))}
    assert points["specificity_95"].accuracy is None


def test_only_the_manifests_threshold_was_not_found_on_these_images() -> None:
    manifests = measure(sample(), threshold=0.5)
    points = operating_points(sample(), manifests)
    assert [(point.name, point.is_found_here) for point in points] == [
        ("manifest", False), ("sensitivity_90", True), ("specificity_95", True), ("youden", True),
    ]  # fmt: skip
    assert points[0].accuracy is manifests
    assert points[1].accuracy is not None
    assert points[1].accuracy.sensitivity.value == 1.0
    assert points[2].accuracy is not None
    assert (points[2].accuracy.specificity.value, points[2].accuracy.sensitivity.value) == (1.0, 0.5)


def test_calibration_compares_each_bins_mean_score_with_its_observed_share() -> None:
    calibration = calibrate(sample((0.01, 0.03, 0.55, 0.57, 1.0), (False, False, True, False, True), "aabcd"))
    first, sixth, last = (calibration.bins[place] for place in (0, 5, 9))
    assert (first.images, first.patients, first.positives) == (2, 1, 0)
    assert (sixth.images, sixth.observed) == (2, 0.5)
    assert sixth.mean_score == pytest.approx(0.56)
    assert (last.images, last.mean_score, last.observed) == (1, 1.0, 1.0)
    assert sum(one.images for one in calibration.bins) == 5
    assert calibration.brier.value == pytest.approx((0.01**2 + 0.03**2 + 0.45**2 + 0.57**2) / 5)
    assert calibration.brier_of_prevalence == pytest.approx(0.4 * 0.6)
    assert calibration.expected_error == pytest.approx(2 / 5 * 0.02 + 2 / 5 * 0.06)


def test_a_bins_interval_counts_a_patient_once() -> None:
    calibration = calibrate(sample((0.55,) * 8, (True, False) * 4, "abcdabcd"))
    bin_ = calibration.bins[5]
    assert (bin_.observed_low, bin_.observed_high) == wilson(0.5, 4)


def test_an_empty_bin_has_no_figures() -> None:
    empty = calibrate(sample()).bins[9]
    assert (empty.images, empty.mean_score, empty.observed, empty.observed_low, empty.observed_high) == (0, *[None] * 4)


@pytest.mark.parametrize(
    ("share", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ],
)
def test_the_score_interval_is_wilsons(share: float, trials: int, low: float, high: float) -> None:
    assert wilson(share, trials) == pytest.approx((low, high), abs=5e-5)


def group(found: tuple[Subgroup, ...], attribute: str, name: str) -> Subgroup:
    (one,) = [one for one in found if (one.attribute, one.group) == (attribute, name)]
    return one


def test_a_group_is_measured_on_its_own_images() -> None:
    both = separated(80, 0.3)
    subjects = [Subject(sex="F" if number < 50 else "male") for number in range(80)]
    found = subgroups(both, subjects, threshold=0.5)
    assert [(one.attribute, one.group) for one in found] == [("sex", "female"), ("sex", "male")]
    assert group(found, "sex", "female").accuracy == measure(both.part(np.arange(80) < 50), threshold=0.5)
    assert unknown_attributes(subjects) == ("age", "view", "manufacturer")


def test_a_small_group_has_its_numbers_and_no_figure() -> None:
    both = separated(60, 0.3)
    subjects = [Subject(manufacturer="Rare" if number < 19 else "Common") for number in range(60)]
    rare = group(subgroups(both, subjects, threshold=0.5), "manufacturer", "RARE")
    assert (rare.images, rare.positives, rare.accuracy) == (19, 9, None)


def test_many_images_of_few_patients_are_a_small_group() -> None:
    both = separated(60, 0.3)
    few = Sample.of(both.scores, both.truth, [str(number % 12) for number in range(60)])
    (one,) = subgroups(few, [Subject(sex="F")] * 60, threshold=0.5)
    assert (one.images, one.patients, one.accuracy) == (60, 12, None)


def test_groups_have_an_order_and_unknown_comes_last() -> None:
    ages = [80.0, 1.9, None, 17.99, 2.0, 79.0, 40.0, 18.0, 12.0, 59.5]
    found = subgroups(separated(10, 0.3), [Subject(age_years=age) for age in ages], threshold=0.5)
    assert [(one.group, one.images) for one in found] == [
        ("under 2 years", 1), ("2 to 11 years", 1), ("12 to 17 years", 2), ("18 to 39 years", 1), ("40 to 59 years", 2),
        ("60 to 79 years", 1), ("80 years and more", 1), ("not known", 1),
    ]  # fmt: skip


def test_one_vendor_in_several_spellings_is_one_group() -> None:
    spellings = ["Siemens  Healthineers", "SIEMENS HEALTHINEERS ", "siemens healthineers"]
    subjects = [Subject(manufacturer=spellings[number % 3]) for number in range(30)]
    (one,) = subgroups(separated(30, 0.3), subjects, threshold=0.5)
    assert (one.group, one.images) == ("SIEMENS HEALTHINEERS", 30)


def test_a_view_is_the_same_by_its_code_and_by_its_meaning() -> None:
    subjects = [Subject(view=view) for view in ("PA", "postero-anterior", "pa", "LL")]
    found = subgroups(separated(4, 0.3), subjects, threshold=0.5)
    assert [(one.group, one.images) for one in found] == [("LL", 1), ("PA", 3)]


def test_the_smallest_of_very_many_groups_are_put_together() -> None:
    subjects = [Subject(manufacturer=f"vendor {number if number < 14 else 0:02}") for number in range(40)]
    found = subgroups(separated(40, 0.3), subjects, threshold=0.5)
    assert len(found) == 13
    assert (found[0].group, found[0].images) == ("VENDOR 00", 27)
    assert (found[-1].group, found[-1].images) == ("all others", 2)
