"""What is measured: DenseNet-121 as torchxrayvision builds it, with RANDOM weights, which are as fast as any others."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from inference.convert import import_torchxrayvision, with_class_activation
from inference.torch_graph import write
from tests.factories.packages import build_package
from tests.factories.torch_networks import torch_filter

LABELS = 18
INPUT_SIZE = 224
TOLERANCE = 0.05  # a network of random weights makes much of the last digits


def densenet(folder: Path) -> Path:
    torch.manual_seed(1)
    reference = import_torchxrayvision().models.DenseNet(num_classes=LABELS).eval()
    reference.op_threshs = torch.full((LABELS,), 0.5)
    example = torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE)
    return build_package(
        folder,
        labels=[f"Label {number}" for number in range(LABELS)],
        crop="centre_square",
        scaling="xrv_1024",
        input_size=INPUT_SIZE,
        tolerance=TOLERANCE,
        torch_network=write(with_class_activation(reference), example, ["scores", "class_activation"]),
    )


def small_filter(folder: Path) -> Path:
    """One convolution: for a look at whether the benchmark works."""
    return build_package(folder, torch_network=torch_filter())


NETWORKS: Mapping[str, Callable[[Path], Path]] = {"densenet121": densenet, "filter": small_filter}
