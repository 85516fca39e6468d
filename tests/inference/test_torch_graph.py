"""A torch network as data: what was written answers the same, and what was tampered with never runs."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from domain.errors import Misconfigured, Refuse
from inference.install import add
from inference.network import Network
from inference.package import load
from inference.torch_graph import GRAPH, operator_named, read, write
from tests.factories.packages import build_package
from tests.factories.torch_networks import torch_filter


class Mixed(nn.Module):
    """Operators of several kinds: convolution, attention, constants, shapes that follow the number of images."""

    boxes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.AdaptiveAvgPool2d(4))
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("boxes", torch.rand(1, 16, 2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        places = self.first(image).flatten(2).transpose(1, 2)
        seen, _ = self.heads(places, places, places, need_weights=False)
        count = image.shape[0]
        numbers = torch.arange(16.0)[None, :, None].expand(count, -1, 1)
        return torch.cat([seen, self.boxes.expand(count, -1, -1), numbers], 2), seen.amax((1, 2))


@pytest.mark.parametrize("images", [1, 2, 5])
def test_what_was_written_answers_as_the_network_did(images: int) -> None:
    torch.manual_seed(1)
    network = Mixed().eval()
    content = write(network, torch.zeros(2, 3, 32, 32), ["boxes", "best"])
    batch = torch.rand(images, 3, 32, 32)
    with torch.inference_mode():
        expected, given = network(batch), read(content)(batch)
    for one, name in zip(expected, ("boxes", "best"), strict=True):
        assert given[name].shape == one.shape
        assert torch.allclose(given[name], one, atol=1e-6)


def test_the_same_network_gives_the_same_bytes() -> None:
    example = torch.zeros(2, 3, 32, 32)
    torch.manual_seed(1)
    network = Mixed()
    assert write(network, example, ["a", "b"]) == write(network, example, ["a", "b"])


def test_a_network_that_draws_lots_is_not_written() -> None:
    class Noisy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image + torch.rand_like(image)

    with pytest.raises(Refuse, match="which is not of core ATen") as caught:
        write(Noisy(), torch.zeros(2, 1, 32, 32), ["out"])
    assert caught.value.reason == "custom_operator"


@pytest.mark.parametrize(
    "name",
    [
        "aten.from_file.default",  # reads a file
        "aten.rand.default",  # draws lots
        "aten.empty.memory_format",  # gives out memory as it lies there
        "aten.add_.Tensor",  # changes its input
        "aten.atan2.out",
        "aten.__class__.default",
        "aten.relu.__init__",
        "aten.relu",
        "prims.device_put.default",
        "torch.load",
        "os.system",
        "builtins.eval",
        "",
    ],
)
def test_nothing_but_pure_core_operators_is_called(name: str) -> None:
    with pytest.raises(Refuse, match="not of core ATen"):
        operator_named(name)


def tampered(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The filter with a changed graph."""
    content = torch_filter()
    size = int.from_bytes(content[:8], "little")
    graph = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][GRAPH])
    change(graph)
    return bytes(save_tensors(load_tensors(content), metadata={GRAPH: json.dumps(graph)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda graph: graph["nodes"][0].update(call="os.system"), "not of core ATen"),
        (lambda graph: graph["nodes"][0].update(args=[{"node": "nowhere"}]), "which nothing has made"),
        (lambda graph: graph["nodes"][0].update(kwargs={"x": {"word": "torch.load"}}), "no value of a network"),
        (lambda graph: graph["nodes"][0].update(args=[{"call": "eval"}]), "no value of a network"),
        (lambda graph: graph.update(outputs={"scores": "nowhere"}), "nothing makes the outputs"),
        (lambda graph: graph.update(outputs={"scores": graph["nodes"][0]["name"] + "x"}), "nothing makes the outputs"),
        (lambda graph: graph.pop("nodes"), "KeyError: 'nodes'"),
        (lambda graph: graph.update(nodes=7), "TypeError"),
    ],
)
def test_a_graph_that_was_tampered_with_is_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    with pytest.raises(Refuse, match=says):
        read(tampered(change))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x05", bytes(8), b"\xff" * 8 + b"{}", pickle.dumps({"a": 1}), save_tensors({"a": torch.zeros(1)})],
)
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(Refuse, match="not a network that inference/torch_graph") as caught:
        read(content)
    assert caught.value.reason == "not_a_torch_graph"


class Bomb:
    """What a pickle from a stranger may hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_a_pickle_under_the_name_of_a_network_is_never_opened(tmp_path: Path, name: str) -> None:
    folder = build_package(tmp_path / "mine" / "chest", torch_network=torch_filter() if "safe" in name else b"")
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    (folder / name).write_bytes(bomb)
    manifest = (folder / "manifest.toml").read_text(encoding="utf-8")
    package = load(folder)
    known = {
        str(package.manifest.weights.size_bytes): str(len(bomb)),
        package.manifest.weights.sha256: hashlib.sha256(bomb).hexdigest(),
    }
    for before, after in known.items():
        manifest = manifest.replace(before, after)
    (folder / "manifest.toml").write_text(manifest, encoding="utf-8")
    with pytest.raises((Refuse, Misconfigured)):
        add(folder, tmp_path / "models")
    assert not (tmp_path / "exploded").exists()


def test_a_torch_package_is_added_and_answers_as_its_onnx_twin_does(tmp_path: Path) -> None:
    onnx = Network(load(build_package(tmp_path / "onnx" / "chest")))
    torch_package = add(build_package(tmp_path / "mine" / "chest", torch_network=torch_filter()), tmp_path / "models")
    assert torch_package.manifest.weights.format == "torch"
    assert np.allclose(Network(torch_package).golden_numbers(), onnx.golden_numbers(), atol=1e-5)
