"""When a week counts as changed: by how much, and never by chance alone."""

import random
from collections.abc import Callable
from datetime import date

import pytest

from domain.drift import (
    MOST_BINS,
    age_bin,
    bins_of,
    change,
    chi_square_quantile,
    counted,
    grey_bin,
    is_bin,
    measure_bin,
    population_stability_index,
    score_bin,
    week_of,
)
from domain.findings import ImageAnalysis, ImageRun
from domain.study import InstanceFacts
from tests.factories.analyses import COBB_ANGLE, PNEUMONIA


def spread(values: list[float]) -> dict[str, int]:
    bins = [score_bin(value) for value in values]
    return {one: bins.count(one) for one in bins}


def test_the_index_is_the_textbooks() -> None:
    """Two bins of 500 and 500, then 600 and 400; half an image more in each changes the fourth digit."""
    index = population_stability_index({"a": 500, "b": 500}, {"a": 600, "b": 400})
    assert index == pytest.approx(0.1 * 0.1823 + 0.1 * 0.2231, abs=2e-4)
    assert population_stability_index({"a": 500, "b": 500}, {"a": 50, "b": 50}) == pytest.approx(0.0)


def test_a_bin_that_was_empty_leaves_the_index_finite() -> None:
    assert 1 < population_stability_index({"a": 100}, {"b": 100}) < 20


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 10.83), (4, 18.47), (9, 27.88), (19, 43.82)])
def test_the_chi_square_quantile_is_right_to_some_percent(degrees: int, quantile: float) -> None:
    assert chi_square_quantile(degrees, 0.999) == pytest.approx(quantile, rel=0.04)


def test_weeks_like_the_reference_raise_no_alarm_however_few_their_images() -> None:
    """Of a thousand weeks one may do so by chance; an alarm needs 0.25 besides."""
    chance = random.Random(7)
    alarms = 0
    for _ in range(1000):
        reference, week = ([chance.betavariate(2, 3) for _ in range(n)] for n in (200, 30))
        moved = change(spread(reference), spread(week))
        assert moved is not None
        alarms += moved.is_alarm
    assert alarms <= 5


def test_a_week_with_other_scores_raises_the_alarm() -> None:
    chance = random.Random(7)
    before = spread([chance.betavariate(2, 5) for _ in range(200)])
    after = spread([chance.betavariate(5, 2) for _ in range(40)])
    moved = change(before, after)
    assert moved is not None
    assert moved.is_alarm
    assert moved.psi > 1


def test_a_large_change_of_few_images_over_many_bins_could_be_chance() -> None:
    before = {f"{number}": 10 for number in range(20)}
    after = {f"{number}": 3 for number in range(0, 20, 2)}
    moved = change(before, after)
    assert moved is not None
    assert 0.25 < moved.psi < moved.chance
    assert not moved.is_alarm


def test_a_small_change_of_many_images_is_real_and_no_alarm() -> None:
    moved = change({"a": 5000, "b": 5000}, {"a": 5600, "b": 4400})
    assert moved is not None
    assert moved.psi > moved.chance
    assert not moved.is_alarm


@pytest.mark.parametrize(("before", "after"), [(29, 100), (100, 29)])
def test_below_thirty_images_nothing_is_said(before: int, after: int) -> None:
    assert change({"a": before}, {"a": after}) is None


def test_every_feature_of_an_image_has_its_bin() -> None:
    run = ImageRun(decode_s=0.1, infer_s=0.1, grey_mean=0.47)
    image = ImageAnalysis(
        sop_instance_uid="1", findings=(PNEUMONIA,), activation=None, measurements=(COBB_ANGLE,), run=run
    )
    facts = InstanceFacts(
        patient_age_years=62.4, view_position="PA", manufacturer="ACME", manufacturer_model_name="DX 9"
    )
    assert bins_of(image, facts) == {
        "score Pneumonia": "0.8",
        "value Cobb angle": "20",
        "grey": "0.45",
        "age": "60",
        "view": "PA",
        "device": "ACME DX 9",
    }
    assert bins_of(image, InstanceFacts())["device"] == "unknown"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (score_bin(0.0), "0"),
        (score_bin(0.999), "0.9"),
        (score_bin(1.0), "0.9"),
        (grey_bin(1.0), "0.95"),
        (measure_bin(0.0), "0"),
        (measure_bin(-14.9), "-10"),
        (measure_bin(1234.0), "1000"),
        (age_bin(4.9), "4"),
        (age_bin(71.0), "70"),
        (age_bin(None), "unknown"),
    ],
)
def test_the_ends_of_the_scales_have_their_bins(value: str, expected: str) -> None:
    assert value == expected


def test_a_peer_that_names_a_device_a_day_fills_no_table() -> None:
    counts: dict[str, dict[str, int]] = {}
    for number in range(MOST_BINS + 40):
        counts = counted(counts, {"device": f"{number}"})
    assert len(counts["device"]) == MOST_BINS + 1
    assert counts["device"]["other"] == 40


@pytest.mark.parametrize("day", [date(2026, 11, 16), date(2026, 11, 22)])
def test_a_week_begins_on_monday(day: date) -> None:
    assert week_of(day) == date(2026, 11, 16)


@pytest.mark.parametrize(("feature", "of"), [("score Pneumonia", score_bin), ("grey", grey_bin)])
def test_a_bin_is_one_that_some_image_can_be_in(feature: str, of: Callable[[float], str]) -> None:
    assert all(is_bin(feature, of(place / 1000)) for place in range(1001))
    assert not any(is_bin(feature, name) for name in ("", "1", "0.33", "-0.1", "unknown"))


def test_words_of_peers_are_bins_of_any_name_that_is_kept() -> None:
    assert is_bin("view", "PA")
    assert not is_bin("view", "")
    assert not is_bin("device", "x" * 65)
