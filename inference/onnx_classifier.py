"""Runs a package's ONNX network on one CPU thread.

bytes -> SHA-256 of these bytes -> session from these bytes -> golden check -> radiograph in, answer out
"""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from domain.errors import Misconfigured
from domain.findings import ActivationMap
from inference import golden
from inference.answer import Answer, relative_certainty
from inference.package import Package, verified_bytes
from inference.pixels import Radiograph, network_input
from inference.preprocess import Crop, Float32, crop_box

INPUT, OUTPUTS = "image", ("scores", "class_activation")


class OnnxClassifier:
    """A network that is known to be the verified one and to answer as it should.

    Raises:
        Misconfigured: the package is not configured, its bytes are not the manifest's, or its answers are wrong.
    """

    def __init__(self, package: Package, *, is_golden_checked: bool = True) -> None:
        self.package = package
        if not package.is_configured:
            raise Misconfigured(f"{package.name} is not configured", hint=package.why_not)
        self._session = _session(package, verified_bytes(package.weights_path, package.manifest.weights))
        if is_golden_checked:
            golden.check(package, self.scores(golden.synthetic_radiograph()))

    def scores(self, radiograph: Radiograph) -> tuple[float, ...]:
        """One score in [0, 1] a label, in the manifest's order."""
        return tuple(float(score) for score in self._run(radiograph)[0])

    def answer(self, radiograph: Radiograph) -> Answer:
        """All scores, and the class activation of the label that stands out most."""
        scores, activations = self._run(radiograph)
        labels = self.package.manifest.labels
        top = int(np.argmax([relative_certainty(s, label.threshold) for s, label in zip(scores, labels, strict=True)]))
        crop = self.package.manifest.preprocessing.crop
        activation = _activation_map(labels[top].label, activations[top], radiograph.stored.shape, crop)
        return Answer(scores=tuple(float(score) for score in scores), activation=activation)

    def _run(self, radiograph: Radiograph) -> tuple[Float32, Float32]:
        """(labels,) scores and (labels, h, w) class activation."""
        batch = network_input(radiograph, self.package.manifest.preprocessing)[np.newaxis]
        try:
            scores, activations = self._session.run(list(OUTPUTS), {INPUT: batch})
        except Exception as error:
            _raise_if_out_of_memory(error)
            raise
        labels = len(self.package.manifest.labels)
        is_right = scores.shape == (1, labels) and activations.ndim == 4 and activations.shape[:2] == (1, labels)
        if not is_right or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
            raise Misconfigured(
                f"{self.package.name}: {labels} scores in [0, 1] and as many activation maps were expected, "
                f"the network gave {scores.shape} and {activations.shape}"
            )
        return scores[0], activations[0]


def _session(package: Package, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a second thread beside busy neighbours made it slower, not faster
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception types and no common one of its own
        _raise_if_out_of_memory(error)
        raise Misconfigured(f"{package.name}: the network cannot be loaded: {error}"[:400]) from error
    names = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if names[0] != [INPUT] or set(names[1]) != set(OUTPUTS):
        raise Misconfigured(
            f"{package.name}: the network has inputs {names[0]} and outputs {names[1]}; "
            f"expected input {INPUT} and outputs {' and '.join(OUTPUTS)}"
        )
    return session


def _raise_if_out_of_memory(error: Exception) -> None:
    """onnxruntime tells it by the C++ exception's name only."""
    if "bad_alloc" in str(error):
        raise MemoryError(str(error)) from error


def _activation_map(label: str, activation: Float32, source_shape: tuple[int, ...], crop: Crop) -> ActivationMap:
    """After ReLU, scaled to its own maximum, in 256 steps."""
    positive = np.maximum(activation, 0)
    steps: NDArray[np.int64] = np.rint(positive * (255 / max(float(positive.max()), 1e-12))).astype(np.int64)
    box = crop_box(source_shape[0], source_shape[1], crop)
    return ActivationMap(
        label=label,
        rows=activation.shape[0],
        columns=activation.shape[1],
        values=tuple(steps.ravel().tolist()),
        left=float(box.left),
        top=float(box.top),
        width=float(box.width),
        height=float(box.height),
    )
