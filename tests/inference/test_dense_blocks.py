"""Blocks that are joined less often answer as the published ones do."""

import pytest
import torch
from torch import nn

from inference.convert import import_torchxrayvision
from inference.dense_blocks import DenseBlock


def published_block(layers: int, channels: int) -> nn.Module:
    """Of torchxrayvision, evaluating, with normalisations that have seen something: gains of either sign."""
    torch.manual_seed(layers)
    models = import_torchxrayvision().models
    block: nn.Module = models._DenseBlock(layers, channels, bn_size=4, growth_rate=8, drop_rate=0)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for name, values in norm.state_dict().items():
                if name == "running_var":
                    values.uniform_(0.1, 2.0)
                elif values.ndim:
                    values.normal_()
    return block.eval()


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 8, 9, 12])
@pytest.mark.parametrize("channels", [7, 16])
def test_a_block_answers_as_the_published_one(layers: int, channels: int) -> None:
    published = published_block(layers, channels)
    images = torch.randn(2, channels, 9, 7)
    with torch.inference_mode():
        expected = published(images)
        answer = DenseBlock(published)(images)
    assert expected.shape == (2, channels + 8 * layers, 9, 7)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


def test_a_block_leaves_the_published_one_as_it_was() -> None:
    published = published_block(5, 7)
    before = {name: value.clone() for name, value in published.state_dict().items()}
    DenseBlock(published)
    assert all(torch.equal(value, before[name]) for name, value in published.state_dict().items())
