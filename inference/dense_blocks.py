"""DenseNet's blocks as a CPU likes them: the same network with less copying, made once, when weights are converted.

A layer reads all that came before it in its block. As published, each layer's features are joined to that by copying
all of it, 58 times in DenseNet-121. Here a few layers share what was joined before the first of them:

    joined ──── norm, ReLU ──── 1 x 1 convolution ──┐
                                                    + ── ReLU ── 3 x 3 convolution ──> one more that is recent
    recent ──── norm, ReLU ──── 1 x 1 convolution ──┘

A 1 x 1 convolution over channels that lie side by side is the sum of two over its parts, up to the rounding of a sum.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Forward passes by turns on one core, onnxruntime 1.31: 1 layer 56.5 ms of CPU time, 3 52.1, 4 (the first block by 3)
# 51.8, 6 52.6, 12 53.4.
LAYERS_SHARING = 4


class DenseBlock(nn.Module):
    """Answers as torchvision's block of the same weights, which torchxrayvision has too, answers in evaluation."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers = list(block.children())
        self.layers = nn.ModuleList(
            _Layer(layer, joined=layers[number - number % LAYERS_SHARING].conv1.in_channels)
            for number, layer in enumerate(layers)
        )

    def forward(self, joined: Tensor) -> Tensor:
        recent: list[Tensor] = []
        for layer in self.layers:
            if len(recent) == LAYERS_SHARING:
                joined, recent = torch.cat([joined, *recent], 1), []
            recent.append(layer(joined, recent))
        return torch.cat([joined, *recent], 1)


class _Layer(nn.Module):
    """joined: of the channels that it reads, so many lie together, and what is recent comes after them."""

    def __init__(self, layer: Any, *, joined: int) -> None:
        super().__init__()
        # onnxruntime folds a normalisation into the convolution before it, but not into a sum of two.
        gain = layer.norm2.weight / torch.sqrt(layer.norm2.running_var + layer.norm2.eps)
        weights = layer.conv1.weight * gain[:, None, None, None]
        bias = layer.norm2.bias - layer.norm2.running_mean * gain
        self.of_joined = _part(layer.norm1, weights, slice(0, joined), bias)
        has_recent = joined < layer.conv1.in_channels
        self.of_recent = _part(layer.norm1, weights, slice(joined, None)) if has_recent else None
        self.last = layer.conv2

    def forward(self, joined: Tensor, recent: list[Tensor]) -> Tensor:
        features = self.of_joined(joined)
        if self.of_recent is not None:
            features = features + self.of_recent(torch.cat(recent, 1))
        made: Tensor = self.last(F.relu(features))
        return made


def _part(norm: Any, weights: Tensor, channels: slice, bias: Tensor | None = None) -> nn.Sequential:
    """Normalisation, ReLU and 1 x 1 convolution of these channels alone."""
    seen = weights[:, channels]
    part = nn.BatchNorm2d(seen.shape[1], eps=norm.eps)
    part.load_state_dict({name: value[channels] if value.ndim else value for name, value in norm.state_dict().items()})
    convolution = nn.Conv2d(seen.shape[1], seen.shape[0], 1, bias=bias is not None)
    convolution.load_state_dict({"weight": seen} if bias is None else {"weight": seen, "bias": bias})
    return nn.Sequential(part, nn.ReLU(), convolution).eval()
