"""Two versions on the same images: what they agree on, how far their scores lie apart, how long they take."""

import pytest

from domain.comparison import Run, cohens_kappa, compare, percentile
from domain.findings import Score


def run(study: str, value: float, *, threshold: float | None = 0.5, infer_s: float = 0.1, image: str = "i") -> Run:
    score = Score(label="Pneumonia", value=value, threshold=threshold)
    return Run(study=study, image=image and f"{study}.{image}", scores={"Pneumonia": score}, infer_s=infer_s)


def failed(study: str) -> Run:
    return Run(study=study, image="", scores={}, infer_s=None)


def test_agreement_is_counted_at_each_versions_own_threshold() -> None:
    before = [run("1", 0.9), run("2", 0.6), run("3", 0.4), run("4", 0.1)]
    after = [run(study, value, threshold=0.3) for study, value in (("1", 0.8), ("2", 0.2), ("3", 0.4), ("4", 0.2))]
    compared = compare("chest", "1.0.0", before, "1.1.0", after)
    (label,) = compared.labels
    assert (compared.studies, compared.images, label.images) == (4, 4, 4)
    assert (label.from_threshold, label.to_threshold) == (0.5, 0.3)
    assert (label.both, label.only_from, label.only_to, label.neither) == (1, 1, 1, 1)
    assert (label.agreement, label.kappa) == (0.5, 0.0)


def test_differences_are_measured_pair_by_pair() -> None:
    before, after = [run("1", 0.5), run("2", 0.5)], [run("1", 0.7), run("2", 0.4)]
    (label,) = compare("chest", "1", before, "2", after).labels
    assert label.difference_mean == pytest.approx(0.15)
    assert label.difference_p95 == pytest.approx(0.2)
    assert label.shift == pytest.approx(0.05)


def test_what_only_one_has_seen_is_no_pair_but_tells_how_it_spoke() -> None:
    """Beside a canary without a shadow no study is seen by both."""
    before = [run(f"a{number}", 0.05) for number in range(40)]
    after = [run(f"b{number}", 0.95) for number in range(40)]
    compared = compare("chest", "1", before, "2", after)
    (label,) = compared.labels
    assert (compared.images, label.images, label.agreement, label.shift) == (0, 0, None, None)
    assert label.psi is not None
    assert label.psi > 5


def test_too_few_images_have_no_spread() -> None:
    compared = compare("chest", "1", [run("1", 0.1)] * 29, "2", [run("1", 0.1)] * 29)
    assert compared.labels[0].psi is None


def test_a_study_that_a_version_failed_on_is_counted_unless_it_managed_later() -> None:
    compared = compare("chest", "1", [failed("1"), run("2", 0.5)], "2", [failed("1"), run("1", 0.5), failed("2")])
    assert (compared.from_version.failed_studies, compared.to_version.failed_studies) == (1, 1)
    assert (compared.from_version.studies, compared.to_version.studies) == (1, 1)


def test_of_two_runs_of_one_image_the_later_counts() -> None:
    """A study that was analysed anew."""
    (label,) = compare("chest", "1", [run("1", 0.1), run("1", 0.9)], "2", [run("1", 0.9)]).labels
    assert (label.images, label.difference_mean) == (1, 0.0)


def test_a_value_without_a_threshold_is_compared_by_its_differences_alone() -> None:
    (label,) = compare("spine", "1", [run("1", 0.2, threshold=None)], "2", [run("1", 0.4)]).labels
    assert (label.images, label.agreement, label.kappa) == (1, None, None)
    assert label.shift == pytest.approx(0.2)


def test_times_are_told_by_their_median_and_their_95th_percentile() -> None:
    runs = [run(f"{number}", 0.1, infer_s=number / 100) for number in range(1, 101)]
    figures = compare("chest", "1", runs, "2", runs).from_version
    assert (figures.infer_p50_s, figures.infer_p95_s) == (0.5, 0.95)


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [((20, 5, 10, 15), 0.4), ((10, 0, 0, 10), 1.0), ((0, 10, 10, 0), -1.0), ((0, 0, 0, 10), None), ((0,) * 4, None)],
)
def test_kappa_is_cohens(counts: tuple[int, int, int, int], kappa: float | None) -> None:
    assert cohens_kappa(*counts) == (None if kappa is None else pytest.approx(kappa))


@pytest.mark.parametrize(
    ("values", "share", "value"), [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.95, 1.0), ([], 0.5, None)]
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, value: float | None) -> None:
    assert percentile(values, share) == value
