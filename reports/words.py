"""The sentences that more than one result says, so that they say the same."""

from domain.findings import Finding, Measurement, ModelIdentity

NOT_FOR_DIAGNOSTIC_USE = "NOT FOR DIAGNOSTIC USE"
DEMONSTRATION_MODEL = "DEMONSTRATION MODEL"
DEMONSTRATION_REASON = "It runs outside the patients it was made for: its answers say nothing about this patient."
NOTHING_FOUND = "No finding reached its threshold. This does not exclude disease."
CERTAINTY_IS_NOT_PROBABILITY = (
    "Certainty is the model's own score against its tested threshold. It is not a probability of disease."
)
NO_ONE_HAS_CHECKED = "A machine wrote this result; no person has checked it."

LONGEST_LO = 64  # characters in a Long String, PS3.5 6.2


def warnings_for(model: ModelIdentity | None) -> tuple[str, ...]:
    """What has to stand on every result, the gravest first. A cleared model's result carries none."""
    if model is None:
        return ()
    if model.is_demonstration:
        return (DEMONSTRATION_MODEL, NOT_FOR_DIAGNOSTIC_USE)
    return () if model.is_cleared else (NOT_FOR_DIAGNOSTIC_USE,)


def series_description(title: str, model: ModelIdentity | None) -> str:
    """Series Description (0008,103E): the title and the warnings, as far as they fit."""
    return " - ".join((title, *warnings_for(model)))[:LONGEST_LO]


def label_in_words(label: str) -> str:
    """`Pleural_Thickening`, as data sets name their labels, for a reader."""
    return label.replace("_", " ")


def percents(finding: Finding) -> tuple[str, str]:
    """Certainty and threshold in percent, with as few decimals as keep them on their right sides of each other.

    49.96 % against a threshold of 50 % is not detected, and "50 %" would say the opposite.
    """
    return _apart(finding.certainty * 100, finding.threshold * 100, decimals=0)


def value_and_threshold(measurement: Measurement) -> tuple[str, str]:
    """Both with their unit, as `percents`; an empty threshold where there is none."""
    unit = measurement.unit.value
    if measurement.threshold is None:
        return f"{measurement.value:.1f} {unit}", ""
    value, threshold = _apart(measurement.value, measurement.threshold, decimals=1)
    return f"{value} {unit}", f"{threshold} {unit}"


def measurement_in_words(measurement: Measurement) -> str:
    value, threshold = value_and_threshold(measurement)
    return f"{label_in_words(measurement.label)} {value}" + (f" (threshold {threshold})" if threshold else "")


def _apart(value: float, threshold: float, *, decimals: int) -> tuple[str, str]:
    """Both rounded alike, with at least so many decimals."""
    for places in range(decimals, decimals + 6):
        if (round(value, places) >= round(threshold, places)) == (value >= threshold):
            return f"{value:.{places}f}", f"{threshold:.{places}f}"
    return repr(value), repr(threshold)


def finding_in_words(finding: Finding) -> str:
    certainty, threshold = percents(finding)
    return f"{label_in_words(finding.label)}, certainty {certainty} % (threshold {threshold} %)"


def model_in_words(model: ModelIdentity) -> str:
    return f"{model.title}, version {model.version}"


def in_ascii(text: str) -> str:
    """Text in the characters that every character set and every font has."""
    return text.encode("ascii", "replace").decode("ascii")
