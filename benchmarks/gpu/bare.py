"""The bare network on a device, in a process of its own: nothing is copied, nothing waits.

python -m benchmarks.gpu.bare PACKAGE_FOLDER DEVICE LARGEST_BATCH SECONDS  ->  JSON: images a second by batch
"""

import json
import sys
import time
from pathlib import Path

from inference.gpu.device import open_device
from inference.gpu.networks import TorchNetwork, sizes
from inference.package import load, verified_bytes

WARM_UPS = 3


def main(folder: Path, device: str, largest: int, seconds: float) -> dict[int, float]:
    package = load(folder)
    content = verified_bytes(package.weights_path, package.manifest.weights)
    network = TorchNetwork(package, content, open_device(device), largest)
    each_s = seconds / len(sizes(network.largest))
    return {size: _images_per_s(network, size, each_s) for size in sizes(network.largest)}


def _images_per_s(network: TorchNetwork, size: int, for_s: float) -> float:
    network.forward(size, WARM_UPS)
    began, times, done = time.perf_counter(), 1, 0
    # In growing turns, so that waiting for the device at the end of each is soon nothing.
    while (spent := time.perf_counter() - began) < for_s:
        network.forward(size, times)
        done += times
        times *= 2 if spent < for_s / 4 else 1
    return size * done / (time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
