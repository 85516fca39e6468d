"""Turns published weights into ONNX, and into a file for GPUs, once, in a process of its own that is thrown away.

    python -m inference.convert CONVERTER SOURCE TARGET_DIR

    pickle -> torchxrayvision's network, with class activation -> model.onnx         ┐ each compared with
                                                               -> model.safetensors  ┘ torchxrayvision itself
           -> these, and golden.json, the reference network's golden scores, in TARGET_DIR

Unpickling runs whatever the file says. The caller has checked its SHA-256, gives this process no secret in its
environment, and never unpickles anything itself; the network is gone before the file is opened, and where the kernel
takes them away, the sight of other processes and all that could be written outside of TARGET_DIR. Only here, in
training and in tests is torch imported, and where a package of torch is served.
"""

import argparse
import json
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domain.errors import CollimatorError, Misconfigured, Refuse
from inference.no_neighbours import take_neighbours_away
from inference.no_network import take_network_away
from inference.preprocess import Float32, Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PARITY_TOLERANCE = 1e-4  # of a score
OPSET = 18
OUTPUTS = ("scores", "class_activation")
ScoresOf = Callable[[Float32], Float32]  # (images, 1, S, S) -> (images, labels)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("converter", choices=sorted(CONVERTERS))
    parser.add_argument("source", type=Path)
    parser.add_argument("target_dir", type=Path)
    arguments = parser.parse_args()
    try:
        take_network_away()
        with suppress(Misconfigured):  # one more wall, where the kernel has it: the node's environment may hold secrets
            take_neighbours_away(writes_only_in=arguments.target_dir)
        CONVERTERS[arguments.converter](arguments.source, arguments.target_dir)
    except CollimatorError as error:
        json.dump({"message": error.message, "hint": error.hint}, sys.stdout)
        return 2 if isinstance(error, Misconfigured) else 1
    return 0


def convert_densenet(source: Path, target_dir: Path) -> None:
    """torchxrayvision's densenet121-res224-all.

    Raises:
        Misconfigured: torch or torchxrayvision is not installed.
        Refuse: the file holds another network, or the converted one answers otherwise.
    """
    xrv = import_torchxrayvision()
    import torch

    saved = torch.load(source, map_location="cpu", weights_only=False)
    reference = densenet_all(saved if isinstance(saved, dict) else saved.state_dict())
    input_size = xrv.models.model_urls["all"]["input_resolution"]
    onnx_file = export_onnx(with_class_activation(reference, is_for_cpu=True), input_size)
    torch_file = export_torch(with_class_activation(reference), input_size)
    for title, scores_of in (("ONNX", by_onnx(onnx_file)), ("torch", by_torch(torch_file))):
        difference = parity(reference, scores_of)
        if not difference <= PARITY_TOLERANCE:
            raise Refuse(
                f"the scores of the network as {title} differ by {difference:.2g} from torchxrayvision's; "
                f"{PARITY_TOLERANCE:g} is tolerated",
                reason="conversion_differs",
            )
    (target_dir / "model.onnx").write_bytes(onnx_file)
    (target_dir / "model.safetensors").write_bytes(torch_file)
    (target_dir / "golden.json").write_text(json.dumps(reference_scores(reference, golden_input())[0].tolist()))


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"torchxrayvision_densenet": convert_densenet}


@cache
def import_torchxrayvision() -> Any:
    """The module torchxrayvision.

    Raises:
        Misconfigured: it, or torch, is not installed.
    """
    try:
        import torch

        if torch.version.cuda is None:
            _define_torchvision_operators()
        import torchxrayvision
    except ImportError as error:
        raise Misconfigured(
            f"converting needs a package that is not installed: {error.name}",
            hint="pip install -c constraints.txt '.[convert]'",
        ) from error
    return torchxrayvision


@cache
def _define_torchvision_operators() -> "torch.library.Library":
    """Let torchvision import on a CPU torch.

    Its wheel is built for CUDA, so its compiled operators do not load, and its import stops at two that nothing here
    calls, unless their schemas are there already. They last as long as the returned library does.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
    return library


def densenet_all(state: "dict[str, Tensor]") -> "nn.Module":
    """The network with the given weights and with the operating points that torchxrayvision publishes for "all"."""
    xrv = import_torchxrayvision()
    import torch

    description = xrv.models.model_urls["all"]
    network = xrv.models.DenseNet(num_classes=len(description["labels"]))
    try:
        network.load_state_dict({key: value for key, value in state.items() if key != "op_threshs"})
    except RuntimeError as error:
        raise Refuse(f"not the weights of a DenseNet-121: {error}"[:300], reason="other_network") from error
    network.op_threshs = torch.tensor(description["op_threshs"])
    evaluating: nn.Module = network.eval()
    return evaluating


def with_class_activation(reference: Any, *, is_for_cpu: bool = False) -> "nn.Module":
    """The same network, giving scores on torchxrayvision's scale and each label's class activation in one pass.

    Class activation (Zhou et al., CVPR 2016) is the linear head applied before the average pooling, with which it
    commutes; torchxrayvision's `op_norm` is written without indexing by masks, so that it can be exported.
    """
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class WithClassActivation(nn.Module):
        points: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.features = _rearranged(reference.features, is_for_cpu=is_for_cpu)
            self.classifier = reference.classifier
            self.register_buffer("points", reference.op_threshs)

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            features = F.relu(self.features(image))
            activation = F.conv2d(features, self.classifier.weight[:, :, None, None])
            p = torch.sigmoid(activation.mean((2, 3)) + self.classifier.bias)
            below, above = p / (2 * self.points), 1 - (1 - p) / (2 * (1 - self.points))
            return torch.where(p < self.points, below, above), activation

    return WithClassActivation().eval()


def _rearranged(features: Any, *, is_for_cpu: bool) -> "nn.Sequential":
    """The same layers, each transition with its pooling before its convolution; for a CPU the blocks of dense_blocks.

    A 1 x 1 convolution and average pooling commute, and after it there are a quarter of the pixels to convolve. What
    else can be folded, onnxruntime folds by itself.
    """
    from torch import nn

    from inference.dense_blocks import DenseBlock

    def rearranged(name: str, layer: Any) -> "nn.Module":
        if "transition" in name:
            return nn.Sequential(layer.norm, layer.relu, layer.pool, layer.conv)
        return DenseBlock(layer) if is_for_cpu and "denseblock" in name else layer

    return nn.Sequential(OrderedDict((name, rearranged(name, layer)) for name, layer in features.named_children()))


def export_onnx(network: "nn.Module", input_size: int) -> bytes:
    """ONNX bytes: input `image` (N, 1, S, S), outputs `scores` and `class_activation`, standard operators only."""
    import torch

    example = torch.zeros(2, 1, input_size, input_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return without_traces(path.read_bytes())


def export_torch(network: "nn.Module", input_size: int) -> bytes:
    """The same as safetensors with its graph, which a GPU serves (inference/torch_graph.py)."""
    import torch

    from inference.torch_graph import write

    return write(network, torch.zeros(2, 1, input_size, input_size), OUTPUTS)


def without_traces(content: bytes) -> bytes:
    """The same network without the exporter's notes: its stack traces name the folders of whoever exported it.

    What is left depends on the network alone, so that the same training gives the same bytes.
    """
    import onnx

    model = onnx.load_from_string(content)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    return bytes(model.SerializeToString(deterministic=True))


def parity(reference: "nn.Module", scores_of: ScoresOf, *, images: int = 6) -> float:
    """The largest difference between both networks' scores for the golden radiograph and random, blurred images."""
    generator = np.random.default_rng(0)
    size = golden_input().shape[-1]
    grids = generator.uniform(-1024, 1024, (images, 1, size // 16, size // 16)).astype(np.float32)
    batch = np.concatenate([golden_input(), np.kron(grids, np.ones((16, 16), np.float32))])
    return float(np.abs(scores_of(batch) - reference_scores(reference, batch)).max())


def by_onnx(content: bytes) -> ScoresOf:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda batch: np.asarray(session.run(["scores"], {"image": batch})[0], np.float32)


def by_torch(content: bytes) -> ScoresOf:
    import torch

    from inference.torch_graph import read

    network = read(content).eval()

    def scores_of(batch: Float32) -> Float32:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(batch))["scores"], np.float32)

    return scores_of


def reference_scores(reference: "nn.Module", batch: Float32) -> Float32:
    """(N, labels) by torchxrayvision's own forward pass."""
    import torch

    with torch.inference_mode():
        return np.asarray(reference(torch.from_numpy(batch)), np.float32)


def golden_input() -> Float32:
    """(1, 1, 224, 224): the golden radiograph as the network's manifest prepares it."""
    from inference.golden import synthetic_radiograph
    from inference.pixels import network_input

    preprocessing = Preprocessing(input_size=224, crop="centre_square", scaling="xrv_1024")
    return network_input(synthetic_radiograph(), preprocessing)[np.newaxis]


if __name__ == "__main__":
    sys.exit(main())
