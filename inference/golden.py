"""A synthetic radiograph made by formula, and the check that a network answers it as it did where it was made.

A network that loads is not yet a network that works: another runtime, processor or preprocessing may change its
answers. Before it serves, it must give the manifest's scores for this image, from stored pixels to scores. Maps
and boxes are held against no numbers, but its adapter refuses those of which nothing could be made; and where a package
has a second file for GPUs, both have to give the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import Misconfigured
from inference.package import Package
from inference.pixels import Radiograph, unwindowed

ROWS, COLUMNS = 620, 500
BITS_STORED = 12


def synthetic_radiograph() -> Radiograph:
    """Two dark ellipses with ribs on a light trunk, 12 bits stored, MONOCHROME2; the same on every machine."""
    down, across = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    trunk = np.clip(1.15 - np.square(across) - 0.15 * np.square(down), 0, 1)
    left, right = (np.square((across - side) / 0.32) + np.square(down / 0.72) for side in (-0.42, 0.42))
    lungs = np.exp(-np.power(left, 3)) + np.exp(-np.power(right, 3))
    ribs = 0.06 * np.sin(26 * down + 4 * np.square(across))
    opacity = 0.25 * np.exp(-(np.square((across - 0.45) / 0.14) + np.square((down - 0.3) / 0.16)))
    light = np.clip(0.08 + 0.75 * trunk - 0.55 * lungs * (1 - ribs) + ribs * trunk + opacity, 0, 1)
    white = (1 << BITS_STORED) - 1
    stored = np.rint(light * white).astype(np.uint16)
    return unwindowed(stored, white=white)


def check(package: Package, numbers: tuple[float, ...], *, tolerance: float) -> None:
    """Compare what a network gives for the synthetic radiograph with the manifest's.

    Raises:
        Misconfigured: they are not as many, or differ by more than `tolerance`; the message says what it gives.
    """
    expected = package.manifest.golden.scores
    gives = f"it gives [{', '.join(f'{number:.6f}' for number in numbers)}]"
    length = package.manifest.adapter.golden_length(package.manifest.labels)
    if len(expected) != length:
        raise Misconfigured(
            f"{package.name}: golden.scores: expected {length} numbers, found {len(expected)}; {gives}",
            hint="Put them into the manifest once you know that they are right.",
        )
    difference = max(abs(is_ - should) for is_, should in zip(numbers, expected, strict=True))
    if not difference <= tolerance:
        raise Misconfigured(
            f"{package.name}: what it gives for the golden radiograph differs by {difference:.2g}; "
            f"{tolerance:g} is tolerated; {gives}",
            hint="Its weights, its manifest or this machine's runtime are not what the model was verified with.",
        )


def check_same(package: Package, for_device: Mapping[str, NDArray[Any]], for_cpu: Mapping[str, NDArray[Any]]) -> None:
    """Compare all that both files of a package give for the synthetic radiograph, each output on its own scale.

    The adapter has taken both: by the order of their names they belong together.

    Raises:
        Misconfigured: one differs by more than the manifest's `device_tolerance` of its largest number.
    """
    weights, tolerance = package.manifest.weights, package.manifest.golden.device_tolerance
    for (_, is_), (name, should) in zip(sorted(for_device.items()), sorted(for_cpu.items()), strict=True):
        difference = _relative_difference(is_, should)
        if not difference <= tolerance:
            raise Misconfigured(
                f"{package.name}: {name}: what {weights.device_file} gives for the golden radiograph differs from what "
                f"{weights.file} gives by {difference:.2g} of its largest number; {tolerance:g} is tolerated",
                hint="Both files have to be the same network.",
            )


def _relative_difference(is_: NDArray[Any], should: NDArray[Any]) -> float:
    if is_.shape != should.shape:
        return float("inf")
    return float(np.abs(is_ - should).max() / max(float(np.abs(should).max()), 1e-12))
