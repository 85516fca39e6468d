"""The three plots of a label, and the strip that shows an interval beside its numbers."""

from math import ceil

import numpy as np

from inference.evaluation.evaluate import LabelEvaluation
from inference.evaluation.figure import Axis, Figure, shares
from inference.evaluation.roc import BAND_AT
from inference.evaluation.sample import Estimate

HISTOGRAM_BINS = 20
LOW_ON_THE_PLOT = 0.12
COUNTS_AT = -0.075  # under the reliability diagram's zero
STRIP_WIDTH, STRIP_HEIGHT = 120, 14


def roc_plot(label: LabelEvaluation, name: str) -> str:
    """The curve with its band, and the manifest's threshold with the intervals of both rates."""
    accuracy = label.accuracy
    area, sensitivity, specificity = accuracy.auroc, accuracy.sensitivity, accuracy.specificity
    figure = Figure(
        name=name,
        title=f"Receiver operating characteristic, {label.label}",
        description=(
            f"Sensitivity against 1 minus specificity. AUROC {in_words(area)}. At the manifest's threshold "
            f"{accuracy.threshold:.3f}: sensitivity {in_words(sensitivity)}, specificity {in_words(specificity)}."
        ),
        x=shares("1 − specificity"),
        y=shares("sensitivity"),
    )
    roc = label.roc
    upper = list(zip(BAND_AT, roc.band_high, strict=True))
    lower = list(zip(BAND_AT, roc.band_low, strict=True))
    figure.area([*upper, *reversed(lower)], style="ours")
    figure.line([(0, 0), (1, 1)], style="reference")
    figure.line(zip(roc.false_positive_rate, roc.sensitivity, strict=True), style="ours")
    x, y = 1 - specificity.value, sensitivity.value
    figure.line([(1 - specificity.high, y), (1 - specificity.low, y)], style="whisker")
    figure.line([(x, sensitivity.low), (x, sensitivity.high)], style="whisker")
    figure.dot((x, y), style="point")
    is_left = x < 0.5
    beside = (9.0 if is_left else -9.0, 16.0 if y > LOW_ON_THE_PLOT else -8.0)
    words = f"threshold {accuracy.threshold:.3f}"
    figure.text((x, y), words, style="note", anchor="start" if is_left else "end", shift_px=beside)
    figure.text((0.98, 0.1), f"AUROC {area.value:.3f}", style="value", anchor="end")
    figure.text((0.98, 0.03), f"95 %: {area.low:.3f} to {area.high:.3f}", style="note", anchor="end")
    return figure.svg()


def reliability_plot(label: LabelEvaluation, name: str) -> str:
    """The observed share in each bin with its interval, and how many images that rests on."""
    calibration = label.calibration
    figure = Figure(
        name=name,
        title=f"Reliability diagram, {label.label}",
        description=(
            f"Share of images with the finding against their mean score, in ten bins. Brier score "
            f"{in_words(calibration.brier)}, expected calibration error {calibration.expected_error:.3f}. "
            "The table of bins has all of its numbers."
        ),
        x=shares("mean score"),
        y=Axis(label="share with the finding", low=-0.13, high=1.0, ticks=shares("").ticks),
    )
    figure.line([(0, 0), (1, 1)], style="reference")
    for one in calibration.bins:
        if one.mean_score is None or one.observed is None:
            continue
        figure.line(
            [(one.mean_score, one.observed_low or 0.0), (one.mean_score, one.observed_high or 0.0)], style="whisker"
        )
        figure.dot((one.mean_score, one.observed), style="point")
    for one in calibration.bins:
        figure.text(
            ((one.low + one.high) / 2, COUNTS_AT), str(one.images), style="note", anchor="middle", shift_px=(0, 4)
        )
    return figure.svg()


def histogram_plot(label: LabelEvaluation, name: str) -> str:
    """How the scores of images with the finding lie (upwards) against those without (downwards)."""
    sample = label.sample
    groups = {True: sample.scores[sample.truth], False: sample.scores[~sample.truth]}
    heights = {
        is_with: np.histogram(scores, bins=HISTOGRAM_BINS, range=(0.0, 1.0))[0] / len(scores)
        for is_with, scores in groups.items()
    }
    step, top = _scale(max(float(bars.max()) for bars in heights.values()))
    steps = range(round(top / step) + 1)
    ticks = sorted({(sign * step * place, f"{step * place:.0%}") for place in steps for sign in (1, -1)})
    figure = Figure(
        name=name,
        title=f"Scores by truth, {label.label}",
        description=(
            f"Histogram of scores in {HISTOGRAM_BINS} bins. Upwards {len(groups[True])} images with the finding, "
            f"median {np.median(groups[True]):.3f}; downwards {len(groups[False])} without it, median "
            f"{np.median(groups[False]):.3f}. The manifest's threshold is {label.accuracy.threshold:.3f}."
        ),
        x=shares("score"),
        y=Axis(label="share of each group", low=-top, high=top, ticks=ticks),
    )
    for is_with, style, sign in ((True, "with", 1), (False, "without", -1)):
        for place, height in enumerate(heights[is_with]):
            left, right = place / HISTOGRAM_BINS, (place + 1) / HISTOGRAM_BINS
            end = sign * float(height)
            figure.bar((left, min(0.0, end)), (right, max(0.0, end)), style=style)
    figure.line([(0, 0), (1, 0)], style="zero")
    threshold = label.accuracy.threshold
    figure.line([(threshold, -top), (threshold, top)], style="threshold")
    is_left = threshold < 0.5
    side = (threshold + (0.015 if is_left else -0.015), top)
    figure.text(
        side, f"threshold {threshold:.3f}", style="note", anchor="start" if is_left else "end", shift_px=(0, 12)
    )
    figure.text((0.02, top / 2), f"with ({len(groups[True])})", style="with-name")
    figure.text((0.98, -top / 2), f"without ({len(groups[False])})", style="without-name", anchor="end")
    return figure.svg()


def strip(estimate: Estimate, reference: float) -> str:
    """An interval on a scale from 0.5 to 1, beside the numbers that say the same; `reference`: all images' value."""

    def at(value: float) -> float:
        return 4 + (STRIP_WIDTH - 8) * (min(max(value, 0.5), 1.0) - 0.5) / 0.5

    middle = STRIP_HEIGHT / 2
    return (
        f'<svg class="strip" aria-hidden="true" width="{STRIP_WIDTH}" height="{STRIP_HEIGHT}">'
        f'<path class="frame" d="M4 {STRIP_HEIGHT - 1}H{STRIP_WIDTH - 4}"/>'
        f'<path class="line reference" d="M{at(reference):.1f} 0V{STRIP_HEIGHT}"/>'
        f'<path class="line whisker" d="M{at(estimate.low):.1f} {middle}H{at(estimate.high):.1f}"/>'
        f'<circle class="dot point" cx="{at(estimate.value):.1f}" cy="{middle}" r="3.5"/></svg>'
    )


def in_words(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f})"


def _scale(highest: float) -> tuple[float, float]:
    """(step, end) of an axis of shares with two to five steps."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if highest <= 5 * step or step == 0.25)
    return step, step * ceil(highest / step - 1e-9)
