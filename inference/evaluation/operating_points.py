"""A label at several thresholds: the manifest's, and a few that are found on these same images."""

from dataclasses import dataclass

from inference.evaluation.accuracy import Accuracy, measure
from inference.evaluation.roc import threshold_of_sensitivity, threshold_of_specificity, youden_threshold
from inference.evaluation.sample import Sample

LEAST_SENSITIVITY = 0.90
LEAST_SPECIFICITY = 0.95
MANIFEST, SENSITIVE, SPECIFIC, YOUDEN = "manifest", "sensitivity_90", "specificity_95", "youden"


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """`accuracy` is None where no threshold is one. What was found here is optimistic: it fits these images."""

    name: str
    is_found_here: bool
    accuracy: Accuracy | None


def operating_points(sample: Sample, manifests: Accuracy) -> tuple[OperatingPoint, ...]:
    """The manifest's threshold, whose accuracy is measured already, and those that are found here."""
    found = {
        SENSITIVE: threshold_of_sensitivity(sample, LEAST_SENSITIVITY),
        SPECIFIC: threshold_of_specificity(sample, LEAST_SPECIFICITY),
        YOUDEN: youden_threshold(sample),
    }
    return (
        OperatingPoint(name=MANIFEST, is_found_here=False, accuracy=manifests),
        *(
            OperatingPoint(
                name=name,
                is_found_here=True,
                accuracy=None if threshold is None else measure(sample, threshold=threshold, auroc=manifests.auroc),
            )
            for name, threshold in found.items()
        ),
    )
