"""Runs a torch package on the CPU: where there is no GPU, or it fails. torch comes with `pip install '.[gpu]'`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import Misconfigured
from inference.package import Package

HINT = "pip install -c constraints.txt '.[gpu]'; or bring the network as ONNX"


class TorchRuntime:
    """
    Raises:
        Misconfigured: torch is not installed, or cannot run the network.
        Refuse: the file is not what inference/torch_graph.py writes.
    """

    def __init__(self, package: Package, content: bytes) -> None:
        self._name = package.name
        try:
            import torch

            from inference.torch_graph import read
        except ImportError as error:
            raise Misconfigured(f"{package.name} needs {error.name}, which is not installed", hint=HINT) from error
        torch.set_num_threads(1)
        self._torch = torch
        self._network = read(content).eval()

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        try:
            with self._torch.inference_mode():
                outputs = self._network(self._torch.from_numpy(batch))
        except MemoryError:
            raise
        except Exception as error:  # the calls are its maker's: they may go wrong in any way
            if "can't allocate memory" in str(error):
                raise MemoryError(str(error)) from error
            raise Misconfigured(f"{self._name}: the network cannot be run: {error}"[:400]) from error
        return {name: output.float().numpy() for name, output in outputs.items()}
