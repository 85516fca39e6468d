"""Networks that find known points, between which a value is measured.

Outputs: `points` (1, K, 2), x and y in [0, 1] of the input; `certainty` (1, K) in [0, 1]. `measure` in the manifest's
[landmarks] says what is measured, and so what the points are:

    "cobb_angle"   four corners a vertebra from the head down: upper left, upper right, lower left, lower right

A point under `least_certainty` is not found; without enough of them there is no value, and the study says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from domain.errors import Refuse
from domain.findings import Line, Measurement
from domain.states import Reason
from inference.answer import Answer
from inference.labels import Label, Measure
from inference.preprocess import Box, Float32
from inference.toml_table import Table

What = Literal["cobb_angle"]
CORNERS = 4
LEAST_VERTEBRAE = 4  # of a curve: with fewer no end vertebra can be told from its neighbours
# Degrees. Beyond it lies a spine that is rare, or corners that were mixed up: which of them, only a reader can say.
LARGEST_ANGLE = 90.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Landmarks:
    """`points`: K."""

    measure: What
    points: int
    least_certainty: float

    @classmethod
    def read(cls, manifest: Table) -> Self:
        table = manifest.table("landmarks")
        landmarks = cls(
            measure=table.one_of("measure", get_args(What)),
            points=table.integer("points", low=CORNERS * LEAST_VERTEBRAE, high=400),
            least_certainty=table.number("least_certainty", low=0.0, high=1.0),
        )
        table.require(landmarks.points % CORNERS == 0, "points", "four corners a vertebra")
        table.finish()
        return landmarks

    def expected(self, labels: Sequence[Label], measures: Sequence[Measure]) -> str:
        return "" if len(measures) == 1 and not labels else "one of measures, and no labels, of landmarks"

    def golden_length(self, _: Sequence[Label]) -> int:
        return 3 * self.points

    def golden_numbers(self, _: Sequence[Label], outputs: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
        points, certainty = self._checked(outputs)
        return (*map(float, points.ravel()), *map(float, certainty))

    def answer(
        self,
        labels: Sequence[Label],
        measures: Sequence[Measure],
        outputs: Mapping[str, NDArray[Any]],
        *,
        seen: Box,
        pixel_aspect: float,
    ) -> Answer:
        points, certainty = self._checked(outputs)
        in_source = points * np.array([seen.width, seen.height]) + np.array([seen.left, seen.top])
        value, lines = MEASURES[self.measure](in_source, certainty >= self.least_certainty, pixel_aspect)
        (measure,) = measures
        return Answer(
            measurements=(
                Measurement(
                    label=measure.label,
                    code=measure.code,
                    site=measure.site,
                    value=value,
                    unit=measure.unit,
                    threshold=measure.threshold,
                    lines=lines,
                ),
            )
        )

    def _checked(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[Float32, Float32]:
        """(K, 2) points and (K,) certainty."""
        if set(outputs) != {"points", "certainty"}:
            raise ValueError(f"outputs points and certainty were expected, it has {sorted(outputs)}")
        points, certainty = outputs["points"], outputs["certainty"]
        for output, shape in ((points, (1, self.points, 2)), (certainty, (1, self.points))):
            if output.shape != shape or not np.isfinite(output).all() or output.min() < 0 or output.max() > 1:
                raise ValueError(f"{self.points} points and certainties in [0, 1] were expected, not {output.shape}")
        return points[0], certainty[0]


def cobb_angle(points: NDArray[Any], found: NDArray[np.bool_], pixel_aspect: float) -> tuple[float, tuple[Line, ...]]:
    """The largest angle between the upper endplate of one vertebra and the lower endplate of one below it
    (Cobb, Instr. Course Lect. 1948), in degrees, and the two endplates.

    Args:
        points: (K, 2) x and y in source pixels; four corners a vertebra from the head down.
        found: (K,) the vertebrae that lack a corner are left out.

    Raises:
        Refuse: fewer than four vertebrae were found, a right corner is not to the right of its left one, or the angle
            is larger than any that is measured (not_measurable).
    """
    vertebrae = points.reshape(-1, CORNERS, 2)[found.reshape(-1, CORNERS).all(axis=1)]
    if len(vertebrae) < LEAST_VERTEBRAE:
        raise Refuse(
            f"only {len(vertebrae)} vertebrae were found, and {LEAST_VERTEBRAE} are needed for an angle",
            reason=Reason.NOT_MEASURABLE,
            hint="the image may not show the whole spine, or be rotated",
        )
    # How steep each endplate is, as on the patient: pixels may be higher than wide.
    across = vertebrae[:, (1, 3), 0] - vertebrae[:, (0, 2), 0]
    if mixed_up := int((across <= 0).any(axis=1).sum()):
        raise Refuse(
            f"{mixed_up} of {len(vertebrae)} vertebrae have a right corner that is not to the right of its left one",
            reason=Reason.NOT_MEASURABLE,
            hint="the image may be rotated, or show no spine",
        )
    down = (vertebrae[:, (1, 3), 1] - vertebrae[:, (0, 2), 1]) * pixel_aspect
    steepness = np.degrees(np.arctan2(down, across))
    pairs = list(combinations(range(len(vertebrae)), 2))
    angles = [abs(float(steepness[upper, 0] - steepness[lower, 1])) for upper, lower in pairs]
    largest = int(np.argmax(angles))
    if angles[largest] > LARGEST_ANGLE:
        raise Refuse(
            f"the angle would be {angles[largest]:.0f} degrees, and none above {LARGEST_ANGLE:.0f} is measured",
            reason=Reason.NOT_MEASURABLE,
            hint="look at the image: the corners of its vertebrae were most likely not found",
        )
    upper, lower = pairs[largest]
    return angles[largest], (_line(vertebrae[upper, 0], vertebrae[upper, 1]), _line(*vertebrae[lower, 2:]))


def _line(start: NDArray[Any], end: NDArray[Any]) -> Line:
    return Line(start=(float(start[0]), float(start[1])), end=(float(end[0]), float(end[1])))


Measured = tuple[float, tuple[Line, ...]]
MEASURES: Mapping[What, Callable[[NDArray[Any], NDArray[np.bool_], float], Measured]] = {"cobb_angle": cobb_angle}
