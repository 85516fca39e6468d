"""Small torch networks, as packages hold them. Only tests with torch import this."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.torch_graph import write
from tests.factories.packages import INPUT_SIZE, STRIDE, filters


class Filter(nn.Module):
    """What tests.factories.packages.filter_network is in ONNX; its class activation times `strength`."""

    weights: Tensor
    bias: Tensor

    def __init__(self, labels: int, bias: float = -1.4, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("weights", torch.from_numpy(filters(labels)))
        self.register_buffer("bias", torch.linspace(bias, bias - 0.4, labels))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        activation = F.conv2d(F.relu(image), self.weights, self.bias, stride=STRIDE)
        return torch.sigmoid(activation.mean((2, 3))), activation * self.strength


@cache
def torch_filter(labels: int = 2) -> bytes:
    return write(Filter(labels), torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
