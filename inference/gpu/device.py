"""What differs between a GPU and the CPU: memory, streams, and graphs that are captured once and replayed.

    copy stream      tray (pinned) ─> staging ┐
    compute stream                            └─ wait ─> input ─> graph ─> outputs ─> host (pinned) ─> mark

On the CPU each of these is there as well and does nothing, so that the code above is one and the same.
"""

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domain.errors import Misconfigured
from inference.gpu.errors import DeviceBroken, OutOfMemory

WARM_UPS = 3  # before a capture: libraries choose their algorithms and get their memory
Outputs = Mapping[str, Tensor]


class Mark(Protocol):
    """A place in a stream's work."""

    def follow(self) -> None:
        """What the current stream is given from now on waits until the mark is reached."""

    def is_reached(self) -> bool: ...

    def wait(self) -> None:
        """Until the mark is reached."""


class Device(Protocol):
    name: str  # as in the settings
    title: str  # as its maker calls it
    place: torch.device

    def in_use_bytes(self) -> int: ...

    def free_bytes(self) -> int: ...

    def release(self) -> None:
        """Give back memory that nothing uses."""

    def pin(self, memory: NDArray[Any]) -> None:
        """Make host memory such that copies from it run beside computing."""

    def unpin(self, memory: NDArray[Any]) -> None: ...

    def host_like(self, tensor: Tensor) -> Tensor:
        """Host memory for a copy of the tensor."""

    def copying(self) -> AbstractContextManager[None]:
        """Copies that are started inside run beside computing."""

    def mark(self) -> Mark: ...

    def pool(self) -> Any:
        """Memory that the graphs of one network share: they never run at the same time."""

    def captured(self, run: Callable[[], Outputs], pool: Any) -> Callable[[], Outputs]:
        """`run`, from now on with the same memory every time."""

    def errors(self) -> AbstractContextManager[None]:
        """
        Raises:
            OutOfMemory, DeviceBroken: whatever the library's exceptions for these are.
        """


def open_device(name: str) -> Device:
    """
    Raises:
        Misconfigured: there is no such device, or torch cannot use it.
    """
    if name == "cpu":
        return Cpu()
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "CUDA finds no GPU"
        raise Misconfigured(
            f"{name} cannot be used: {why}", hint="Does nvidia-smi show it? Is a torch with CUDA installed?"
        )
    number = torch.device(name).index or 0
    if number >= torch.cuda.device_count():
        raise Misconfigured(f"{name} cannot be used: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return Cuda(name, number)


class _NoMark:
    def follow(self) -> None: ...

    def is_reached(self) -> bool:
        return True

    def wait(self) -> None: ...


class Cpu:
    """The same without a GPU: tests run here."""

    name = "cpu"
    title = "CPU"
    place = torch.device("cpu")

    def in_use_bytes(self) -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def free_bytes(self) -> int:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def release(self) -> None:
        gc.collect()

    def pin(self, memory: NDArray[Any]) -> None: ...

    def unpin(self, memory: NDArray[Any]) -> None: ...

    def host_like(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor)

    def copying(self) -> AbstractContextManager[None]:
        return nullcontext()

    def mark(self) -> Mark:
        return _NoMark()

    def pool(self) -> Any:
        return None

    def captured(self, run: Callable[[], Outputs], pool: Any) -> Callable[[], Outputs]:
        run()
        return run

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise OutOfMemory(str(error)) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise OutOfMemory(str(error)[:200]) from error
            raise


class _CudaMark:
    def __init__(self) -> None:
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    def follow(self) -> None:
        torch.cuda.current_stream().wait_event(self._event)

    def is_reached(self) -> bool:
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        self._event.synchronize()


class Cuda:
    """An NVIDIA GPU. Scores are compared with those of the CPU, so float32 stays float32."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.place = torch.device("cuda", number)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        with self.errors():
            torch.cuda.set_device(self.place)
            torch.zeros(1, device=self.place)
            self.title = torch.cuda.get_device_name(self.place)
            self._copy_stream = torch.cuda.Stream(self.place)  # type: ignore[no-untyped-call]
            self._capture_stream = torch.cuda.Stream(self.place)  # type: ignore[no-untyped-call]

    def in_use_bytes(self) -> int:
        """Of every process and library: onnxruntime has memory of its own beside torch's."""
        free, total = torch.cuda.mem_get_info(self.place)
        return int(total - free)

    def free_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self.place)[0])

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def pin(self, memory: NDArray[np.uint8]) -> None:
        self._check(_cuda_runtime().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0))

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        self._check(_cuda_runtime().cudaHostUnregister(memory.ctypes.data))

    def host_like(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="cpu", pin_memory=True)

    @contextmanager
    def copying(self) -> Iterator[None]:
        with torch.cuda.stream(self._copy_stream):
            yield

    def mark(self) -> Mark:
        return _CudaMark()

    def pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def captured(self, run: Callable[[], Outputs], pool: Any) -> Callable[[], Outputs]:
        self._capture_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._capture_stream):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(self._capture_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=self._capture_stream):
            outputs = run()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(str(error)[:200]) from error
        except RuntimeError as error:  # torch.AcceleratorError is one
            if "out of memory" in str(error):
                raise OutOfMemory(str(error)[:200]) from error
            if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error) or "cuDNN error" in str(error):
                raise DeviceBroken(str(error)[:200]) from error
            raise

    def _check(self, status: Any) -> None:
        if int(status) != 0:
            raise DeviceBroken(f"CUDA error {int(status)} while host memory was pinned")


def _cuda_runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
