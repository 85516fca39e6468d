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
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from domain.errors import Misconfigured, Refuse
from inference.convert import _define_torchvision_operators
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


class SmallUNet(nn.Module):
    """Down twice, up twice, the one way with a transposed convolution, the other by interpolation; joined across."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU(), nn.Dropout(0.5))
        self.deepest = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.Hardswish())
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.last = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(20, 2, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(image)
        second = self.second(F.avg_pool2d(first, 2))
        joined = torch.cat([self.up(self.deepest(second)), second], 1)
        across = torch.cat([F.interpolate(joined, scale_factor=2, mode="bilinear"), first], 1)
        masks = self.last(across)
        nearest = F.interpolate(masks, scale_factor=2, mode="nearest")
        return torch.sigmoid(masks), F.softmax(nearest, 1).amax((2, 3))


def of_torchvision(name: str) -> nn.Module:
    _operators = _define_torchvision_operators() if torch.version.cuda is None else None
    from torchvision import models

    small: dict[str, Callable[[], nn.Module]] = {
        "DenseNet": lambda: models.DenseNet(4, (2, 2), 8, num_classes=2),
        "ResNet": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2),
        "MobileNetV3": lambda: models.mobilenet_v3_small(num_classes=2),
        "SwinTransformer": lambda: models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=2),
    }
    return small[name]()


@pytest.mark.parametrize("name", ["SmallUNet", "DenseNet", "ResNet", "MobileNetV3", "SwinTransformer"])
def test_networks_of_the_usual_kinds_can_be_written(name: str) -> None:
    torch.manual_seed(1)
    network = (SmallUNet() if name == "SmallUNet" else of_torchvision(name)).eval()
    batch = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        given = network(batch)
        expected = given if isinstance(given, tuple) else (given,)
        names = [f"output {number}" for number in range(len(expected))]
        again = read(write(network, torch.zeros(2, 3, 64, 64), names))(batch)
    for one, name in zip(expected, names, strict=True):
        assert torch.allclose(again[name], one, atol=1e-5)


def test_the_same_network_gives_the_same_bytes() -> None:
    example = torch.zeros(2, 3, 32, 32)
    torch.manual_seed(1)
    network = Mixed()
    assert write(network, example, ["a", "b"]) == write(network, example, ["a", "b"])


def test_a_network_that_draws_lots_is_not_written() -> None:
    class Noisy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image + torch.rand_like(image)

    with pytest.raises(Refuse, match="none of the operators that may be called") as caught:
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
        "aten.max_pool2d_with_indices_backward.default",  # writes wherever its indices say
        "aten.embedding_dense_backward.default",
        "aten._embedding_bag.default",
        "aten.index_put.default",
        "aten.scatter.src",
        "aten.nonzero.default",
        "aten._native_batch_norm_legit.default",  # changes its statistics
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
def test_nothing_but_pure_operators_that_a_network_answers_with_is_called(name: str) -> None:
    with pytest.raises(Refuse, match="none of the operators that may be called"):
        operator_named(name)


@pytest.mark.parametrize("index", [4, -5, 1 << 45, -(1 << 45)])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten.index.Tensor", lambda index: ([index],)),
        ("aten.index_select.default", lambda index: (0, index)),
        ("aten.embedding.default", lambda index: (index,)),
        ("aten.gather.default", lambda index: (0, index[:, None])),
        ("aten.select.int", lambda index: (0, int(index))),
        ("aten.as_strided.default", lambda index: ([2], [1], 4 * int(index))),
        ("aten.topk.default", lambda index: (abs(int(index)) + 1,)),
    ],
)
def test_no_index_leads_out_of_a_tensor(name: str, arguments: Callable[[Tensor], tuple[Any, ...]], index: int) -> None:
    with pytest.raises((IndexError, RuntimeError), match=r"out of|invalid storage offset"):
        operator_named(name)(torch.zeros(4, 4), *arguments(torch.tensor([index])))


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_a_normalisation_whose_vectors_are_too_short_is_refused(place: int) -> None:
    """torch itself reads on behind their end."""
    arguments = [torch.zeros(1, 1000, 2, 2), *(torch.ones(1000) for _ in range(4))]
    normalise = operator_named("aten._native_batch_norm_legit_no_training.default")
    assert normalise(*arguments, 0.1, 1e-5)[0].shape == (1, 1000, 2, 2)
    arguments[place] = torch.ones(1)
    with pytest.raises(ValueError, match=r"a normalisation of \(1, 1000, 2, 2\) has a vector of \(1,\)"):
        normalise(*arguments, 0.1, 1e-5)


def test_a_normalisation_without_statistics_is_refused() -> None:
    """torch itself reads them at address 0."""
    with pytest.raises(ValueError, match="neither statistics of its own"):
        operator_named("aten._native_batch_norm_legit.no_stats")(torch.zeros(1, 4, 2, 2), None, None, False, 0.1, 1e-5)


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
        (lambda graph: graph["nodes"][0].update(call="os.system"), "none of the operators that may be called"),
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


def node(name: str, call: str, *args: object) -> dict[str, Any]:
    return {"name": name, "call": call, "args": list(args), "kwargs": {}}


@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (
            node("n", "aten.sym_size.int", {"node": "image"}, 0),
            Misconfigured,
            "outputs .*'scores'.* are no tensors",
        ),
        (node("n", "floordiv", 1, 0), Misconfigured, "the network cannot be run: integer division or modulo by zero"),
        (node("n", "aten.full.default", [1 << 40], 1.0), Refuse, "cannot be checked: the analysis process died"),
    ],
    ids=["number", "zero", "memory"],
)
def test_a_graph_that_cannot_be_run_is_told_in_one_line(
    tmp_path: Path, last: dict[str, Any], error: type[Exception], message: str
) -> None:
    def change(graph: dict[str, Any]) -> None:
        graph["nodes"].append(last)
        graph["outputs"]["scores"] = "n"

    folder = build_package(tmp_path / "mine" / "chest", torch_network=tampered(change), is_golden_right=False)
    with pytest.raises(error, match=message):
        add(folder, tmp_path / "models")


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
