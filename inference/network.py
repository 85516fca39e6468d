"""Runs a package's network on one CPU thread.

bytes -> SHA-256 of these bytes -> graph of standard operators, nothing outside -> runtime from these bytes
      -> golden check -> radiograph in, answer out
                                      └── what its outputs mean: adapters/
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from domain.errors import Misconfigured, Refuse
from inference import golden
from inference.answer import Answer
from inference.package import Package, verified_bytes
from inference.pixels import Radiograph, network_input
from inference.preprocess import seen_box

INPUT_TYPE = "tensor(float)"  # of 32 bits, as onnxruntime names it
OUTPUT_TYPES = frozenset({INPUT_TYPE, "tensor(float16)", "tensor(double)"})


class Network:
    """A network that is known to be the verified one and to answer as it should.

    Raises:
        Misconfigured: the package is not configured, its bytes are not the manifest's, or its answers are wrong.
    """

    def __init__(self, package: Package, *, is_golden_checked: bool = True) -> None:
        self.package = package
        if not package.is_configured:
            raise Misconfigured(f"{package.name} is not configured", hint=package.why_not)
        self._runtime = _runtime(package, verified_bytes(package.weights_path, package.manifest.weights))
        if is_golden_checked:
            golden.check(package, self.golden_numbers(), tolerance=package.manifest.golden.tolerance)

    def golden_numbers(self) -> tuple[float, ...]:
        """What it gives for the synthetic radiograph, in [0, 1]; as long as the adapter says."""
        manifest = self.package.manifest
        try:
            return manifest.adapter.golden_numbers(manifest.labels, self.golden_outputs())
        except ValueError as error:
            raise Misconfigured(f"{self.package.name}: {error}") from error

    def golden_outputs(self) -> dict[str, NDArray[Any]]:
        """All that it gives out for the synthetic radiograph."""
        return self._run(golden.synthetic_radiograph())

    def answer(self, radiograph: Radiograph) -> Answer:
        """What it says about one image.

        Raises:
            Misconfigured: its outputs are not of the kind that the manifest says.
            Refuse: it did not find what it measures.
        """
        manifest = self.package.manifest
        outputs = self._run(radiograph)
        rows, columns = radiograph.stored.shape
        try:
            return manifest.adapter.answer(
                manifest.labels,
                manifest.measures,
                outputs,
                seen=seen_box(rows, columns, manifest.preprocessing.crop),
                pixel_aspect=radiograph.pixel_aspect,
            )
        except ValueError as error:
            raise Misconfigured(f"{self.package.name}: {error}") from error

    def _run(self, radiograph: Radiograph) -> dict[str, NDArray[Any]]:
        return self._runtime.run(network_input(radiograph, self.package.manifest.preprocessing)[np.newaxis])


def check(package: Package) -> None:
    """Bytes, graph and golden scores. It runs the network: only in a process that may die of it.

    Raises:
        Misconfigured: as Network.
        Refuse: it is not one graph of standard operators with all its weights inside.
    """
    _checked(package)


def check_for_device(package: Package) -> None:
    """The same of its file for a GPU, which also has to give all else that the one for the CPU gives: a map or a box of
    another place would be drawn, and named by the first file's SHA-256.

    Raises:
        as `check`.
    """
    for_device = _checked(package.for_device).golden_outputs()
    golden.check_same(package, for_device, Network(package).golden_outputs())


def _checked(package: Package) -> Network:
    content = verified_bytes(package.weights_path, package.manifest.weights)
    if package.manifest.weights.format == "onnx":
        from inference.onnx_graph import check_graph  # as below

        check_graph(content)
    return Network(package)


class Runtime(Protocol):
    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Outputs by name for (images, channels, S, S)."""


def _runtime(package: Package, content: bytes) -> Runtime:
    if package.manifest.weights.format == "onnx":
        return OnnxRuntime(package, content)
    # Only a package that wants torch imports it: a serving node has none.
    from inference.torch_runtime import TorchRuntime

    return TorchRuntime(package, content)


class OnnxRuntime:
    """
    Raises:
        Misconfigured: it cannot be loaded, or not be run.
    """

    def __init__(self, package: Package, content: bytes) -> None:
        self._name = package.name
        self._session = open_session(package, content, providers=["CPUExecutionProvider"])
        self._input = only_input(package, self._session)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: batch}), strict=True))
        except Exception as error:  # see open_session
            _raise_if_out_of_memory(error)
            raise Misconfigured(f"{self._name}: the network cannot be run: {error}"[:400]) from error


def open_session(package: Package, content: bytes, *, providers: Sequence[Any]) -> Any:
    """onnxruntime's session; `providers` as it takes them.

    Raises:
        Misconfigured: it reaches outside itself, or cannot be loaded.
    """
    from inference.onnx_graph import check_graph  # onnx takes its time: only who opens a network waits for it

    try:
        # Not only when it is installed: a folder may also have been copied to where packages lie.
        check_graph(content)
    except Refuse as error:
        raise Misconfigured(f"{package.name}: {error.message}", hint=error.hint) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a second thread beside busy neighbours made it slower, not faster
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and told once
    # What is loaded is what was looked at: a file that is ONNX and onnxruntime's own format as well is read as ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime has a dozen exception types and no common one of its own
        _raise_if_out_of_memory(error)
        raise Misconfigured(f"{package.name}: the network cannot be loaded: {error}"[:400]) from error
    outputs = [(output.name, output.type) for output in session.get_outputs()]
    if any(kind not in OUTPUT_TYPES for _, kind in outputs):
        raise Misconfigured(f"{package.name}: the network's outputs are {outputs}; expected tensors of floats"[:400])
    return session


def only_input(package: Package, session: Any) -> str:
    """The name of the image's input, whose shape is the manifest's wherever the network fixes it."""
    inputs = session.get_inputs()
    preprocessing = package.manifest.preprocessing
    size = preprocessing.input_size
    expected = (1, preprocessing.channels, size, size)
    shape = inputs[0].shape if len(inputs) == 1 else []
    # A dimension that the network leaves open has a name, or none.
    is_right = len(shape) == 4 and all(
        not isinstance(is_, int) or is_ == should for is_, should in zip(shape, expected, strict=True)
    )
    if not is_right or inputs[0].type != INPUT_TYPE:
        raise Misconfigured(
            f"{package.name}: the network's inputs are {[(one.name, one.type, one.shape) for one in inputs]}; "
            f"expected one, an image {INPUT_TYPE} {expected}"
        )
    return str(inputs[0].name)


def _raise_if_out_of_memory(error: Exception) -> None:
    """onnxruntime tells it by the C++ exception's name, or by what its arena says."""
    if any(says in str(error) for says in ("bad_alloc", "Failed to allocate memory")):
        raise MemoryError(str(error)) from error
