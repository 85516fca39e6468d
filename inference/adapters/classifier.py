"""Networks that score the whole image, and show where each score comes from.

Outputs: `scores` (1, labels) in [0, 1]; `class_activation` (1, labels, h, w), before ReLU, h and w up to LARGEST_MAP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain.findings import ActivationMap
from inference.answer import Answer
from inference.labels import Label, Measure, stands_out
from inference.preprocess import Box, Float32
from inference.toml_table import Table

# Cells of a side. A map travels as JSON, of which the house reads 4 MiB; a network's own is 7 to some dozen wide.
LARGEST_MAP = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    @classmethod
    def read(cls, _: Table) -> Self:
        """It has nothing to be told."""
        return cls()

    def expected(self, labels: Sequence[Label], measures: Sequence[Measure]) -> str:
        return "" if labels and not measures else "labels, and no measures, of a classifier"

    def golden_length(self, labels: Sequence[Label]) -> int:
        return len(labels)

    def golden_numbers(self, labels: Sequence[Label], outputs: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
        scores, _ = _checked(labels, outputs)
        return tuple(map(float, scores))

    def answer(
        self,
        labels: Sequence[Label],
        measures: Sequence[Measure],
        outputs: Mapping[str, NDArray[Any]],
        *,
        seen: Box,
        pixel_aspect: float,
    ) -> Answer:
        """All scores, and the class activation of the label that stands out most."""
        scores, activations = _checked(labels, outputs)
        numbers = tuple(map(float, scores))
        top = stands_out(labels, numbers)
        return Answer(scores=numbers, activation=_activation_map(labels[top].label, activations[top], seen))


def _checked(labels: Sequence[Label], outputs: Mapping[str, NDArray[Any]]) -> tuple[Float32, Float32]:
    """(labels,) scores and (labels, h, w) class activation, all of it finite."""
    if set(outputs) != {"scores", "class_activation"}:
        raise ValueError(f"outputs scores and class_activation were expected, it has {sorted(outputs)}")
    scores, activations = outputs["scores"], outputs["class_activation"]
    shapes_are_right = (
        scores.shape == (1, len(labels)) and activations.ndim == 4 and activations.shape[:2] == (1, len(labels))
    )
    if not shapes_are_right or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"{len(labels)} scores in [0, 1] and as many activation maps were expected, "
            f"it gave {scores.shape} and {activations.shape}"
        )
    if not 0 < min(activations.shape[2:]) <= max(activations.shape[2:]) <= LARGEST_MAP:
        raise ValueError(
            f"activation maps of 1 to {LARGEST_MAP} cells a side were expected, it gave {activations.shape}"
        )
    if not np.isfinite(activations).all():
        raise ValueError("its class activation is not finite; is there a division by zero, or an overflow?")
    return scores[0], activations[0]


def _activation_map(label: str, activation: Float32, seen: Box) -> ActivationMap:
    """After ReLU, scaled to its own maximum, in 256 steps."""
    positive = np.maximum(activation, np.float32(0))  # of half precision the scale below would overflow
    steps: NDArray[np.int64] = np.rint(positive * (255 / max(float(positive.max()), 1e-12))).astype(np.int64)
    return ActivationMap(
        label=label,
        rows=activation.shape[0],
        columns=activation.shape[1],
        values=tuple(steps.ravel().tolist()),
        left=float(seen.left),
        top=float(seen.top),
        width=float(seen.width),
        height=float(seen.height),
    )
