"""Networks that find things and put a box around each, as the YOLO family gives them out.

One output of any name. `layout` in the manifest's [detector]:

    "yolov8"   (1, 4 + labels, boxes): centre x, centre y, width, height, then a score for each label
    "yolov5"   (1, boxes, 5 + labels): the same with objectness before the scores, which it multiplies (also YOLOv7)

Centres and sizes are pixels of the input; scores and objectness are in [0, 1]. A label's score is that of its best box.
Boxes at or above the label's threshold become regions, without those that overlap a better one of the same label
(non-maximum suppression).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from domain.findings import Region
from inference.answer import Answer
from inference.labels import Label, Measure
from inference.preprocess import Box, Float32
from inference.toml_table import Table

Layout = Literal["yolov5", "yolov8"]
MOST_REGIONS = 20  # of one label: no reader looks at more
MOST_CANDIDATES = 300  # of one label that are compared with each other
FARTHEST = 100  # sides of the input: a box may reach over its edge, but not into the numbers that nothing can draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Detector:
    """input_size: S of the network's (1, channels, S, S). `most_overlap`: intersection over union, (0, 1]."""

    layout: Layout
    most_overlap: float
    input_size: int

    @classmethod
    def read(cls, manifest: Table) -> Self:
        table = manifest.table("detector")
        detector = cls(
            layout=table.one_of("layout", get_args(Layout)),
            most_overlap=table.number("most_overlap", low=0.01, high=1.0),
            input_size=manifest.table("preprocessing").integer("input_size", low=32, high=2048),
        )
        table.finish()
        return detector

    def expected(self, labels: Sequence[Label], measures: Sequence[Measure]) -> str:
        return "" if labels and not measures else "labels, and no measures, of a detector"

    def golden_length(self, labels: Sequence[Label]) -> int:
        return len(labels)

    def golden_numbers(self, labels: Sequence[Label], outputs: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
        _, scores = self._boxes(labels, outputs)
        return tuple(map(float, scores.max(axis=0)))

    def answer(
        self,
        labels: Sequence[Label],
        measures: Sequence[Measure],
        outputs: Mapping[str, NDArray[Any]],
        *,
        seen: Box,
        pixel_aspect: float,
    ) -> Answer:
        corners, scores = self._boxes(labels, outputs)
        across, down = seen.width / self.input_size, seen.height / self.input_size
        scale = np.array([across, down, across, down], np.float32)
        in_source = corners * scale + np.array([seen.left, seen.top, seen.left, seen.top], np.float32)
        regions = [
            region for place, label in enumerate(labels) for region in self._regions(label, in_source, scores[:, place])
        ]
        return Answer(scores=tuple(map(float, scores.max(axis=0))), regions=tuple(regions))

    def _boxes(self, labels: Sequence[Label], outputs: Mapping[str, NDArray[Any]]) -> tuple[Float32, Float32]:
        """(boxes, 4) left, top, right, bottom in pixels of the input, and (boxes, labels) scores in [0, 1]."""
        if len(outputs) != 1:
            raise ValueError(f"one output was expected, it has {sorted(outputs)}")
        (found,) = outputs.values()
        before_scores = 4 if self.layout == "yolov8" else 5
        rows = found[0].T if self.layout == "yolov8" and found.ndim == 3 else found[0]
        if found.ndim != 3 or found.shape[0] != 1 or not rows.size or rows.shape[1] != before_scores + len(labels):
            raise ValueError(f"{self.layout} boxes of {len(labels)} labels were expected, it gave {found.shape}")
        rows = rows.astype(np.float32)  # of half precision, the corners of a large box would overflow
        if not np.isfinite(rows).all():
            raise ValueError("its boxes or scores are not finite")
        # Objectness too: of two numbers below zero the product looks like a score.
        if rows[:, 4:].min() < 0 or rows[:, 4:].max() > 1:
            raise ValueError("scores in [0, 1] were expected; does the network end before its sigmoid?")
        scores = rows[:, before_scores:] * (1.0 if self.layout == "yolov8" else rows[:, 4:5])
        return self._corners(rows[:, :4]), np.asarray(scores, np.float32)

    def _corners(self, boxes: Float32) -> Float32:
        """(boxes, 4) left, top, right, bottom, of centre x, centre y, width, height."""
        if boxes[:, 2:].min() < 0 or np.abs(boxes).max() > FARTHEST * self.input_size:
            raise ValueError(
                "boxes as centre x, centre y, width, height in pixels of the input were expected; it gave widths or "
                f"heights below 0, or some beyond {FARTHEST} times the input"
            )
        if 0 < np.abs(boxes).max() <= 1:
            raise ValueError("boxes in pixels of the input were expected; are its own in parts of it, from 0 to 1?")
        half = boxes[:, 2:] / 2
        return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half]).astype(np.float32)

    def _regions(self, label: Label, corners: Float32, scores: Float32) -> Iterator[Region]:
        """The label's boxes, the most certain first."""
        order = np.argsort(-scores, kind="stable")
        candidates = [int(place) for place in order if scores[place] >= label.threshold][:MOST_CANDIDATES]
        kept: list[int] = []
        for place in candidates:
            if len(kept) < MOST_REGIONS and all(
                overlap(corners[place], corners[better]) <= self.most_overlap for better in kept
            ):
                kept.append(place)
        for place in kept:
            left, top, right, bottom = map(float, corners[place])
            yield Region(
                label=label.label,
                certainty=float(scores[place]),
                left=left,
                top=top,
                width=right - left,
                height=bottom - top,
            )


def overlap(one: Float32, other: Float32) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = float(width * height)
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return common / (sum(areas) - common)
