"""A package's network on a device: verified, loaded, warmed up, and seen to answer as it should, before it serves.

    bytes -> SHA-256 of these bytes -> .safetensors: torch, one captured graph for each size of a batch
                                       .onnx: onnxruntime with its CUDA provider
          -> golden check here, alone and in the largest batch -> images in, outputs out

A batch of five goes through the network for eight: sizes are powers of two, so that nothing is captured while
somebody waits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domain.errors import CollimatorError
from inference import golden
from inference.gpu.device import Device, Mark
from inference.gpu.errors import DeviceBroken, OutOfMemory, Unfit
from inference.network import only_input, open_session
from inference.package import Package, verified_bytes
from inference.pixels import network_input
from inference.preprocess import Float32
from inference.torch_graph import Calls, read

Arrays = Mapping[str, NDArray[Any]]  # name -> (images, …)
ONE_FOR_ALL = "what the network gives out has no first dimension for the images"


class Running(Protocol):
    """A batch that was started."""

    def is_done(self) -> bool:
        """Whether `outputs` has nothing to wait for.

        Raises:
            DeviceBroken
        """

    def outputs(self) -> Arrays:
        """Wait for it. The arrays are good until two more batches were started.

        Raises:
            OutOfMemory, DeviceBroken
        """


class DeviceNetwork(Protocol):
    largest: int  # images in a batch

    def start(self, images: Sequence[Float32]) -> Running:
        """
        Args:
            images: (channels, S, S) each, `largest` at most. They must stay as they are until the outputs are there.

        Raises:
            OutOfMemory, DeviceBroken
        """


def open_network(package: Package, device: Device, *, largest: int) -> DeviceNetwork:
    """
    Raises:
        Unfit: the device cannot serve it; the message says why.
        OutOfMemory, DeviceBroken
    """
    try:
        package = package.for_device
        content = verified_bytes(package.weights_path, package.manifest.weights)
        network = FORMATS[package.manifest.weights.format](package, content, device, largest)
        _check_golden(package, network)
    except CollimatorError as error:
        raise Unfit(error.message) from error
    return network


def sizes(largest: int) -> list[int]:
    """Of the batches that are captured, the largest first: the smaller ones find their memory there."""
    powers = [1 << power for power in range(largest.bit_length())]
    return sorted({*powers, largest}, reverse=True)


class TorchNetwork:
    def __init__(self, package: Package, content: bytes, device: Device, largest: int) -> None:
        self._device = device
        self._static: dict[int, _Static] = {}
        with device.errors(), torch.inference_mode():
            network = read(content).eval().to(device.place)
            pool = device.pool()
        for size in sizes(largest):
            try:
                static = _Static(network, device, pool, (size, *package.manifest.preprocessing.input_shape))
            except OutOfMemory:
                device.release()
                if size == 1:
                    raise
                continue
            if static.is_batched:
                self._static[size] = static
        if 1 not in self._static:
            raise Unfit(ONE_FOR_ALL)
        self.largest = max(self._static)

    def start(self, images: Sequence[Float32]) -> Running:
        size = min(size for size in self._static if size >= len(images))
        return self._static[size].start(images)

    def forward(self, size: int, times: int) -> None:
        """The bare network, so many times on what lies in its input already: what serving is measured against."""
        self._static[size].forward(times)


class _Static:
    """A network with memory of its own for batches of one size; two may be under way."""

    def __init__(self, network: Calls, device: Device, pool: Any, shape: tuple[int, ...]) -> None:
        self._device = device
        with device.errors(), torch.inference_mode():
            self._input = torch.zeros(shape, device=device.place)
            self._staging = [torch.zeros_like(self._input) for _ in range(2)]
            self._run = device.captured(lambda: network(self._input), pool)
            given = self._run()
            self._host = [{name: device.host_like(output) for name, output in given.items()} for _ in range(2)]
        self.is_batched = _is_batched(given, shape[0])
        self._turn = 0

    def start(self, images: Sequence[Float32]) -> Running:
        staging, host = self._staging[self._turn], self._host[self._turn]
        with self._device.errors(), torch.inference_mode():
            with self._device.copying():
                for place, image in enumerate(images):
                    staging[place].copy_(torch.from_numpy(image), non_blocking=True)
                copied = self._device.mark()
            copied.follow()
            self._input.copy_(staging)
            for name, output in self._run().items():
                host[name].copy_(output, non_blocking=True)
            running = _TorchRunning(self._device, self._device.mark(), host, len(images))
        self._turn = 1 - self._turn  # only now: what a start that failed has written belongs to nobody under way
        return running

    def forward(self, times: int) -> None:
        with self._device.errors(), torch.inference_mode():
            for _ in range(times):
                self._run()
            self._device.mark().wait()


class _TorchRunning:
    def __init__(self, device: Device, done: Mark, host: Mapping[str, Tensor], images: int) -> None:
        self._device, self._done, self._host, self._images = device, done, host, images

    def is_done(self) -> bool:
        with self._device.errors():
            return self._done.is_reached()

    def outputs(self) -> Arrays:
        with self._device.errors():
            self._done.wait()
        return {name: tensor[: self._images].float().numpy() for name, tensor in self._host.items()}


class OnnxNetwork:
    """onnxruntime copies and waits by itself; a batch is done when it is started."""

    def __init__(self, package: Package, content: bytes, device: Device, largest: int) -> None:
        self._session = open_session(package, content, providers=_providers(device))
        if self._session.get_providers()[0] != _provider(device):
            raise Unfit(f"onnxruntime's {_provider(device)} does not start: are CUDA's libraries of its version there?")
        self._input = only_input(package, self._session)
        self._names = [output.name for output in self._session.get_outputs()]
        is_open = not isinstance(self._session.get_inputs()[0].shape[0], int)
        self.largest = self._largest_that_fits(package, largest) if is_open else 1

    def start(self, images: Sequence[Float32]) -> Running:
        size = min(size for size in sizes(self.largest) if size >= len(images))
        given = self._run(images, size)
        if not _is_batched(given, size):  # which may hang on what the images show
            raise Unfit(ONE_FOR_ALL)
        return _Done({name: output[: len(images)] for name, output in given.items()})

    def _run(self, images: Sequence[Float32], size: int) -> Arrays:
        batch = np.zeros((size, *images[0].shape), np.float32)
        for place, image in enumerate(images):
            batch[place] = image
        try:
            given = self._session.run(self._names, {self._input: batch})
        except Exception as error:  # onnxruntime has no exception of its own for these
            raise _known(error) from error
        return dict(zip(self._names, given, strict=True))

    def _largest_that_fits(self, package: Package, largest: int) -> int:
        image = np.zeros(package.manifest.preprocessing.input_shape, np.float32)
        for size in sizes(largest):
            try:
                given = self._run([image], size)
            except OutOfMemory:
                if size == 1:
                    raise
                continue
            if _is_batched(given, size):
                return size
        raise Unfit(ONE_FOR_ALL)


def _is_batched(given: Mapping[str, NDArray[Any] | Tensor], images: int) -> bool:
    return all(output.shape[:1] == (images,) for output in given.values())


class _Done:
    def __init__(self, outputs: Arrays) -> None:
        self._outputs = outputs

    def is_done(self) -> bool:
        return True

    def outputs(self) -> Arrays:
        return self._outputs


FORMATS: Mapping[str, Callable[[Package, bytes, Device, int], DeviceNetwork]] = {
    "torch": TorchNetwork,
    "onnx": OnnxNetwork,
}


def _check_golden(package: Package, network: DeviceNetwork) -> None:
    """Alone; and in the largest batch, where each image has to get what it gets alone. A batch may go another way
    through the device, and a network may mix what lies side by side: one that normalises over the batch, say.
    """
    tolerance = package.manifest.golden.tolerance
    image = network_input(golden.synthetic_radiograph(), package.manifest.preprocessing)
    try:
        golden.check(package, _numbers(package, network.start([image]).outputs()), tolerance=tolerance)
    except ValueError as error:
        raise Unfit(str(error)) from error
    # Each of another contrast: among images that are alike, one that gets its neighbour's answer would not be noticed.
    images = [image * np.float32(1 - place / (2 * network.largest)) for place in range(network.largest)]
    alone = [_numbers_or_none(package, network.start([one]).outputs()) for one in images]
    together = network.start(images).outputs()
    beside_others = [
        _numbers_or_none(package, {name: output[place : place + 1] for name, output in together.items()})
        for place in range(network.largest)
    ]
    difference = max(_difference(one, other) for one, other in zip(alone, beside_others, strict=True))
    if not difference <= tolerance:
        raise Unfit(
            f"in a batch of {network.largest} it answers an image otherwise than alone, by {difference:.2g}; "
            f"{tolerance:g} is tolerated. Does it normalise over the batch?"
        )


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return float("inf")
    return max((abs(a - b) for a, b in zip(one, other, strict=True)), default=0.0)


def _numbers(package: Package, of_image: Arrays) -> tuple[float, ...]:
    return package.manifest.adapter.golden_numbers(package.manifest.labels, of_image)


def _numbers_or_none(package: Package, of_image: Arrays) -> tuple[float, ...]:
    """Of an image that shows hardly anything a network may make nothing."""
    try:
        return _numbers(package, of_image)
    except ValueError:
        return ()


def _provider(device: Device) -> str:
    return "CPUExecutionProvider" if device.place.type == "cpu" else "CUDAExecutionProvider"


def _providers(device: Device) -> list[Any]:
    import onnxruntime

    if _provider(device) not in onnxruntime.get_available_providers():
        raise Unfit(
            "the installed onnxruntime knows no GPU: `pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`; "
            "or bring the package as .safetensors (docs/packages.md)"
        )
    if device.place.type == "cpu":
        return [_provider(device)]
    # float32 stays float32, and no search for algorithms at each new size.
    options = {"device_id": device.place.index, "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [(_provider(device), options)]


def _known(error: Exception) -> Exception:
    """onnxruntime tells by its messages only."""
    says = str(error)
    if "out of memory" in says.lower() or "Failed to allocate memory" in says or "bad_alloc" in says:
        return OutOfMemory(says[:200])
    return DeviceBroken(says[:200]) if "CUDA failure" in says or "CUDNN failure" in says else error
