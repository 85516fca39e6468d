"""Small model packages with a real ONNX network, made in milliseconds and without torch."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from inference.network import Network
from inference.package import load, rewritten
from reports.codes import KNOWN_FINDINGS

INPUT_SIZE = 32
STRIDE = 4

# Each as routing calls it: so all of them are accepted.
EVERY_BODY_PART = ("ABDOMEN", "BONE", "BREAST", "CHEST", "DENTAL", "HEAD", "HEART", "NECK", "SPINE")

MANIFEST = """\
name = {name}
version = {version}
title = "Test network"
manufacturer = "Collimator tests"
intended_use = "Tests only."
limits = ["A fixed filter that knows nothing."]
is_cleared = false
{adapter}
[accepts]
modalities = {modalities}
body_parts = {body_parts}
views = {views}
{ages}accepts_unknown_age = {accepts_unknown_age}

[preprocessing]
input_size = {input_size}
crop = {crop}
scaling = {scaling}
channels = {channels}

[weights]
file = {file}
size_bytes = {size_bytes}
sha256 = {sha256}
licence = {licence}
source_url = {source_url}
source_sha256 = {source_sha256}
source_size_bytes = {source_size_bytes}
converter = ""
{device}
[golden]
scores = {scores}
tolerance = {tolerance}
"""

DEVICE = """\
device_file = "model.safetensors"
device_size_bytes = {size_bytes}
device_sha256 = {sha256}
"""

LABEL = """
[[labels]]
label = {label}
threshold = {threshold}
code = {{ value = {value}, scheme = {scheme}, meaning = {meaning} }}
"""


def build_package(
    folder: Path,
    *,
    name: str = "chest",
    version: str = "1.0.0",
    labels: Sequence[str] = ("Pneumonia", "Effusion"),
    thresholds: Sequence[float] = (),
    body_parts: Sequence[str] = EVERY_BODY_PART,
    modalities: Sequence[str] = ("CR", "DX"),
    views: Sequence[str] = (),
    age_min_years: int | None = None,
    age_max_years: int | None = None,
    accepts_unknown_age: bool = True,
    crop: str = "none",
    scaling: str = "standardise",
    channels: int = 1,
    input_size: int = INPUT_SIZE,
    network: ModelProto | None = None,
    torch_network: bytes = b"",
    device_network: bytes = b"",
    tolerance: float = 0.0001,
    adapter: str = "",
    tables: str = "",
    golden_length: int = 0,
    is_golden_right: bool = True,
    licence: str = "Apache-2.0",
    source_url: str = "",
) -> Path:
    """Write manifest.toml and model.onnx into `folder`; `models add` and the registry accept them.

    Args:
        labels: names from reports.codes.KNOWN_FINDINGS get their code, others a local one.
        thresholds: one a label; none: 0.5 for each.
        input_size: of `network` or `torch_network`; the fixed filter's is INPUT_SIZE.
        network: instead of the fixed filter. `torch_network`: what inference/torch_graph.py wrote, instead of ONNX.
        device_network: the same, beside the ONNX file, for a GPU.
        tolerance: of the golden check.
        adapter: its kind; "": a classifier. `tables`: TOML that this kind wants besides.
        golden_length: how many numbers the golden check compares; 0: one a label. Where `is_golden_right` is False,
            the manifest says 0.5 for each of them, whatever the network gives.
        source_url: where `models pull` finds the network's bytes; "": nowhere.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = torch_network or (network or filter_network(len(labels))).SerializeToString(deterministic=True)
    file = "model.safetensors" if torch_network else "model.onnx"
    (folder / file).write_bytes(content)
    device = ""
    if device_network:
        (folder / "model.safetensors").write_bytes(device_network)
        device = DEVICE.format(
            size_bytes=len(device_network), sha256=json.dumps(hashlib.sha256(device_network).hexdigest())
        )
    ages = {"age_min_years": age_min_years, "age_max_years": age_max_years}
    manifest = MANIFEST.format(
        name=json.dumps(name),
        version=json.dumps(version),
        modalities=json.dumps(list(modalities)),
        body_parts=json.dumps(list(body_parts)),
        views=json.dumps(list(views)),
        ages="".join(f"{key} = {years}\n" for key, years in ages.items() if years is not None),
        accepts_unknown_age=json.dumps(accepts_unknown_age),
        input_size=input_size,
        crop=json.dumps(crop),
        scaling=json.dumps(scaling),
        channels=channels,
        adapter=f"adapter = {json.dumps(adapter)}\n" if adapter else "",
        file=json.dumps(file),
        tolerance=tolerance,
        size_bytes=len(content),
        sha256=json.dumps(hashlib.sha256(content).hexdigest()),
        licence=json.dumps(licence),
        source_url=json.dumps(source_url),
        source_sha256=json.dumps(hashlib.sha256(content).hexdigest() if source_url else ""),
        source_size_bytes=len(content) if source_url else 0,
        device=device,
        scores=json.dumps([0.5] * (golden_length or len(labels))),
    )
    operating_points = thresholds or [0.5] * len(labels)
    manifest += "".join(_label(label, point) for label, point in zip(labels, operating_points, strict=True))
    manifest += tables
    path = folder / "manifest.toml"
    path.write_text(manifest, encoding="utf-8")
    if is_golden_right:
        scores = Network(load(folder), is_golden_checked=False).golden_numbers()
        path.write_text(rewritten(manifest, {"scores": json.dumps(list(scores))}), encoding="utf-8")
    return folder


def filter_network(labels: int, *, domain: str = "") -> ModelProto:
    """A rectifier, one convolution and a mean: scores that differ by image and label, and a real class activation.

    `domain` other than "" names the activation function's operator set, which no runtime knows then.
    """
    weights = filters(labels)
    bias: NDArray[np.float32] = np.linspace(-1.4, -1.8, labels, dtype=np.float32)
    graph = helper.make_graph(
        [
            # Without it, every image of mean 0 would score the same.
            helper.make_node("Relu", ["image"], ["light"]),
            helper.make_node(
                "Conv",
                ["light", "weights", "bias"],
                ["class_activation"],
                strides=[STRIDE, STRIDE],
                kernel_shape=[4, 4],
            ),
            helper.make_node("ReduceMean", ["class_activation", "axes"], ["logits"], keepdims=0),
            helper.make_node("Sigmoid", ["logits"], ["scores"], domain=domain),
        ],
        "filter",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, INPUT_SIZE, INPUT_SIZE])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", labels]),
            helper.make_tensor_value_info("class_activation", TensorProto.FLOAT, ["batch", labels, None, None]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        ],
    )
    operator_sets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=operator_sets, ir_version=10)


def filters(labels: int) -> NDArray[np.float32]:
    """(labels, 1, 4, 4): gratings, one phase a label, and a constant, so that a brighter image scores otherwise."""
    down, across = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")
    gratings = [0.25 + 0.2 * np.sin(down + across * (label + 1)) for label in range(labels)]
    return np.stack(gratings)[:, np.newaxis].astype(np.float32)


def _label(label: str, threshold: float) -> str:
    known = {finding.label.casefold(): finding.code for finding in KNOWN_FINDINGS}
    code = known.get(label.casefold())
    value, scheme, meaning = (code.value, code.scheme, code.meaning) if code else (label[:16], "99COLLIM", label)
    return LABEL.format(
        label=json.dumps(label),
        threshold=threshold,
        value=json.dumps(value),
        scheme=json.dumps(scheme),
        meaning=json.dumps(meaning),
    )
