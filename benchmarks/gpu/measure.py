"""One round: the bare network; the device served through its owner; decoding alone; the node from file to analysis.

Each is kept busy by as many threads as it can use, for as long as the others.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import prod
from pathlib import Path

from benchmarks.latency.node import Failed
from domain.routing import NO_RULEBOOK
from domain.study import Instance, InstanceFacts
from inference.analyst import FLOAT32_BYTES, Analyst
from inference.bare_environment import ONE_THREAD, bare_environment
from inference.children import TRAYS, Children
from inference.golden import synthetic_radiograph
from inference.gpu.batches import Turn
from inference.gpu.devices import Devices
from inference.gpu.options import OwnerOptions
from inference.gpu.trays import Tray
from inference.package import Package, load
from inference.pixels import network_input

TIME_LIMIT_S = 300.0
MEMORY_LIMIT_BYTES = 4 << 30
BATCHES_WAITING = 3  # two under way, one to be taken next
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Images a second. bare: by size of batch."""

    bare: dict[int, float]
    served: float
    decode: float
    node: float

    @property
    def best_bare(self) -> float:
        return max(self.bare.values())

    @property
    def served_ratio(self) -> float:
        return self.served / self.best_bare

    @property
    def node_ratio(self) -> float:
        """Over its slowest stage alone."""
        return self.node / min(self.decode, self.served)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """
    folder: of installed packages, with `chest`.
    images: radiographs, more than the decoders remember.
    """

    device: str
    folder: Path
    images: tuple[Path, ...]
    largest_batch: int
    processes: int
    for_s: float

    @property
    def package(self) -> Package:
        return load(self.folder / "chest")


def measure(plan: Plan) -> Figures:
    """
    Raises:
        Failed: the device did not serve.
    """
    return Figures(bare=bare(plan), served=served(plan), decode=decode(plan), node=node(plan))


def bare(plan: Plan) -> dict[int, float]:
    arguments = (str(plan.package.folder), plan.device, str(plan.largest_batch), str(plan.for_s))
    command = [sys.executable, "-m", "benchmarks.gpu.bare", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**bare_environment(), **ONE_THREAD})
    if done.returncode:
        raise Failed(f"the bare network: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return {int(size): images_per_s for size, images_per_s in json.loads(done.stdout).items()}


def served(plan: Plan) -> float:
    """From decoded tensors: each thread has an image in a tray, and asks for it again and again."""
    package, devices = plan.package, _devices(plan)
    image = network_input(synthetic_radiograph(), package.manifest.preprocessing)
    with ExitStack() as stack:
        stack.callback(devices.close)
        trays = [Tray(number) for number in range(BATCHES_WAITING * plan.largest_batch)]
        for tray in trays:
            tray.fit(image.nbytes)
            stack.callback(tray.close)
            os.pwrite(tray.descriptor, image.tobytes(), 0)
        _start(devices, package)
        return _rate([partial(devices.ask, package, tray, turn=Turn.ORDINARY) for tray in trays], plan.for_s)


def decode(plan: Plan) -> float:
    """Decoding and preparing alone, in as many processes as the node has for it."""
    package = plan.package
    children = Children(processes=plan.processes, memory_limit_bytes=MEMORY_LIMIT_BYTES, time_limit_s=TIME_LIMIT_S)
    request = {"task": "prepare", "folder": str(package.folder), "device_uid": package.device_uid}
    size_bytes = FLOAT32_BYTES * prod(package.manifest.preprocessing.input_shape)
    images = _by_turns(plan.images)

    def one() -> None:
        with children.prepared(request, str(images()), size_bytes=size_bytes):
            pass

    try:
        return _rate([one] * plan.processes * TRAYS, plan.for_s)
    finally:
        children.close()


def node(plan: Plan) -> float:
    """From file to analysis, as a worker with many studies at the same time does it."""
    devices = _devices(plan)
    analyst = Analyst(
        installed_dir=plan.folder,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        time_limit_s=TIME_LIMIT_S,
        rulebook=NO_RULEBOOK,
        processes=plan.processes,
        devices=devices,
    )
    images = _by_turns(plan.images)

    def one() -> None:
        (answered,) = analyst.analyse("chest", [_instance(images())]).images
        if answered.device != plan.device:
            raise Failed(f"an image was analysed on {answered.device}")

    try:
        _start(devices, plan.package)
        return _rate([one] * plan.processes * TRAYS, plan.for_s)
    finally:
        analyst.close()


def _devices(plan: Plan) -> Devices:
    options = OwnerOptions(device="", largest_batch=plan.largest_batch, batch_wait_s=0.005, memory_mb=0)
    return Devices([plan.device], options=options, time_limit_s=TIME_LIMIT_S)


def _start(devices: Devices, package: Package) -> None:
    (report,) = devices.start([package])
    if why := report.why_not or report.unserved.get(package.name):
        raise Failed(why)


def _rate(works: Sequence[Callable[[], object]], for_s: float) -> float:
    """How often a second all of them together are done, each in a thread of its own, once all have been at it.

    For so long, and until there is something to count: each of them fails by itself when it takes too long.
    """
    done = [0] * len(works)
    failures: list[BaseException] = []
    is_over = threading.Event()

    def again_and_again(place: int) -> None:
        try:
            while not is_over.is_set():
                works[place]()
                done[place] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=again_and_again, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    while min(done) == 0 and not failures:
        time.sleep(0.005)
    before, began = sum(done), time.perf_counter()
    while (time.perf_counter() - began < for_s or sum(done) == before) and not failures:
        time.sleep(0.01)
    after, ended = sum(done), time.perf_counter()
    is_over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return (after - before) / (ended - began)


def _by_turns(images: Sequence[Path]) -> Callable[[], Path]:
    numbers = count()
    return lambda: images[next(numbers) % len(images)]


def _instance(path: Path) -> Instance:
    return Instance(
        sop_instance_uid="2.25.1",
        sop_class_uid=DX,
        series_instance_uid="2.25.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=str(path),
        facts=InstanceFacts(modality="DX", has_pixels=True),
    )
