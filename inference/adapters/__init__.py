"""The kinds of networks that the node can ask without new code: one file each, named in a manifest's `adapter`.

An adapter knows what a kind of network gives out and makes findings of it. It imports no runtime and reads no pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from inference.adapters.classifier import Classifier
from inference.adapters.detector import Detector
from inference.adapters.landmarks import Landmarks
from inference.answer import Answer
from inference.labels import Label, Measure
from inference.preprocess import Box
from inference.toml_table import Table

Outputs = Mapping[str, NDArray[Any]]  # of one image: name -> (1, ...) float32


class Adapter(Protocol):
    def expected(self, labels: Sequence[Label], measures: Sequence[Measure]) -> str:
        """What is wrong with labels and measures of this kind of package; empty: nothing."""

    def golden_length(self, labels: Sequence[Label]) -> int:
        """How many numbers `golden_numbers` gives."""

    def golden_numbers(self, labels: Sequence[Label], outputs: Outputs) -> tuple[float, ...]:
        """Numbers in [0, 1] that tell this network from any other. All outputs are looked at, as `answer` does it:
        what could not be drawn is refused with the golden radiograph, not with the first patient's.

        Raises:
            ValueError: the outputs are not of this kind.
        """

    def answer(
        self,
        labels: Sequence[Label],
        measures: Sequence[Measure],
        outputs: Outputs,
        *,
        seen: Box,
        pixel_aspect: float,
    ) -> Answer:
        """The answer, its places in source pixels: x to the right and y down from the image's upper left corner.

        Args:
            outputs: of one image: name -> (1, ...) float32, as the adapter's module says.
            seen: the rectangle that fills the network's input, in source pixels; where the image was padded it
                reaches over the edge.
            pixel_aspect: height of a pixel over its width.

        Raises:
            ValueError: the outputs are not of this kind, or hold numbers that nothing can be made of.
            Refuse: the network did not find what it measures.
        """


READERS: Mapping[str, Callable[[Table], Adapter]] = {
    "classifier": Classifier.read,
    "detector": Detector.read,
    "landmarks": Landmarks.read,
}
