"""Converting published weights: the ONNX network answers as torchxrayvision does, and what differs is refused.

The weights here are random: the real ones are downloaded, and a test must not need the network.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydicom.data import get_testdata_file

from benchmarks.inference.radiographs import SYNTAXES, make
from domain.errors import Refuse
from inference import pixels
from inference.bare_environment import bare_environment
from inference.convert import (
    CONVERTERS,
    ScoresOf,
    by_onnx,
    by_torch,
    densenet_all,
    golden_input,
    import_torchxrayvision,
    parity,
)
from inference.gpu.device import Cpu
from inference.gpu.networks import open_network
from inference.install import check, install_source
from inference.network import Network
from inference.package import load
from inference.preprocess import Preprocessing
from inference.registry import BUILTIN_DIR, Registry
from tests.inference.processes import has_landlock

pytestmark = pytest.mark.slow

DCMTK_DECODERS = {"rle": "dcmdrle", "jpeg_lossless": "dcmdjpeg", "jpeg_ls": "dcmdjpls"}
XRV = Preprocessing(input_size=224, crop="centre_square", scaling="xrv_1024")


@pytest.fixture(scope="module")
def source(random_chest: Path) -> Path:
    """A pickle like the published one: a whole torchxrayvision network, with random weights."""
    torch.set_num_threads(1)  # two that wait for each other on a busy machine take many times as long
    return random_chest / "model.pt"


@pytest.fixture(scope="module")
def installed_dir(random_chest: Path) -> Path:
    """Where the shipped `chest` was installed with those weights, as `pull` does after the download."""
    return random_chest / "models"


@pytest.fixture(scope="module")
def converted(installed_dir: Path) -> Network:
    return Network(Registry(installed_dir).get("chest"))


@pytest.fixture(scope="module")
def encoded(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]
) -> dict[int, dict[str, Path]]:
    """Two synthetic chests, the second MONOCHROME1, in every transfer syntax that the benchmark has."""
    require_program("dcmcjpeg")
    folder = tmp_path_factory.mktemp("encoded")
    return {number: make(folder, number=number, rows=620, columns=500) for number in (0, 1)}


@pytest.fixture
def reference_file(tmp_path: Path, require_program: Callable[[str], str]) -> Callable[[Path, str], Path]:
    """The same image as pydicom can read it: what it needs a plugin for, DCMTK has decoded."""

    def decoded(path: Path, syntax: str) -> Path:
        if syntax not in DCMTK_DECODERS:
            return path
        subprocess.run([require_program(DCMTK_DECODERS[syntax]), path, tmp_path / "decoded.dcm"], check=True)
        return tmp_path / "decoded.dcm"

    return decoded


def torchxrayvisions_scores(source: Path, image: Path) -> "np.typing.NDArray[np.float32]":
    """Everything by torchxrayvision and scikit-image but the decoding: normalise, crop, resize, forward."""
    xrv = import_torchxrayvision()
    radiograph = pixels.read(image)
    assert (radiograph.black, radiograph.white) == (32767, 0)  # MONOCHROME1, 15 bits
    normalised = xrv.datasets.normalize(32767 - radiograph.stored.astype(np.float32), 32767)[np.newaxis]
    prepared = xrv.datasets.XRayResizer(224, engine="skimage")(xrv.datasets.XRayCenterCrop()(normalised))
    network = torch.load(source, weights_only=False)
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(prepared.astype(np.float32))[None])[0])


def test_a_converted_network_scores_a_real_chest_as_torchxrayvision_does(source: Path, installed_dir: Path) -> None:
    path = get_testdata_file("RG1_UNCR.dcm")
    assert isinstance(path, str)
    ours = Network(Registry(installed_dir).get("chest")).answer(pixels.read(path)).scores
    theirs = torchxrayvisions_scores(source, Path(path))
    assert np.ptp(theirs) > 0.05
    assert np.abs(np.array(ours) - theirs).max() <= 1e-4


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("number", [0, 1], ids=["MONOCHROME2", "MONOCHROME1"])
def test_the_whole_way_gives_torchxrayvisions_scores_in_every_encoding(
    source: Path,
    converted: Network,
    encoded: dict[int, dict[str, Path]],
    reference_file: Callable[[Path, str], Path],
    number: int,
    syntax: str,
) -> None:
    path = encoded[number][syntax]
    ours = converted.answer(pixels.read(path)).scores
    theirs, _ = by_the_readme(source, reference_file(path, syntax))
    assert np.ptp(theirs) > 0.05
    assert np.abs(np.array(ours) - theirs).max() <= 1e-4


@pytest.mark.parametrize("number", [0, 1])
def test_the_activation_map_is_the_grad_cam_that_autograd_gives(
    source: Path, converted: Network, encoded: dict[int, dict[str, Path]], number: int
) -> None:
    path = encoded[number]["raw"]
    activation = converted.answer(pixels.read(path)).activation
    assert activation is not None
    label = import_torchxrayvision().models.model_urls["all"]["labels"].index(activation.label)
    _, expected = by_the_readme(source, path, grad_cam_of=label)
    ours = np.array(activation.values).reshape(activation.rows, activation.columns)
    assert np.abs(ours - expected * 255).max() <= 0.5 + 0.255  # the steps of the map, and a thousandth


def by_the_readme(
    source: Path, path: Path, *, grad_cam_of: int = 0
) -> "tuple[np.typing.NDArray[np.float32], np.typing.NDArray[np.float32]]":
    """All of it by torchxrayvision, scikit-image and autograd: scores, and a label's Grad-CAM (7, 7) from 0 to 1."""
    xrv = import_torchxrayvision()
    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224, engine="skimage")
    image = torch.from_numpy(resize(crop(xrv.utils.read_xray_dcm(path)[None, ...])))
    network = torch.load(source, weights_only=False)
    features = torch.nn.functional.relu(network.features(image[None, ...]))
    features.retain_grad()
    network.classifier(features.mean((2, 3)))[0, grad_cam_of].backward()
    assert features.grad is not None
    weights = features.grad.mean((2, 3), keepdim=True)
    grad_cam = torch.relu((weights * features.detach()).sum(1))[0]
    with torch.inference_mode():
        scores = network(image[None, ...])[0]
    return np.asarray(scores, np.float32), np.asarray(grad_cam / grad_cam.max(), np.float32)


def test_the_labels_of_the_shipped_manifest_are_torchxrayvisions_in_its_order() -> None:
    labels = [label.label for label in load(BUILTIN_DIR / "chest").manifest.labels]
    assert labels == import_torchxrayvision().models.model_urls["all"]["labels"]


def test_class_activation_is_the_linear_head_before_the_average(source: Path, installed_dir: Path) -> None:
    session = onnxruntime.InferenceSession(Registry(installed_dir).get("chest").weights_path.read_bytes())
    activation = session.run(["class_activation"], {"image": golden_input()})[0]
    network = torch.load(source, weights_only=False)
    with torch.inference_mode():
        network.op_threshs = None
        network.apply_sigmoid = False
        logits = np.asarray(network(torch.from_numpy(golden_input())))
    bias = network.classifier.bias.detach().numpy()
    assert activation.shape == (1, 18, 7, 7)
    np.testing.assert_allclose(activation.mean((2, 3)) + bias, logits, atol=1e-3)


def test_a_converted_package_is_configured_and_passes_its_own_checks(source: Path, installed_dir: Path) -> None:
    package = Registry(installed_dir).get("chest")
    assert package.is_configured
    assert len(package.manifest.golden.scores) == 18
    assert package.manifest.weights.source_sha256.startswith("56524913dd16")
    content = package.weights_path.read_bytes()
    assert package.manifest.weights.sha256 == hashlib.sha256(content).hexdigest()
    assert package.manifest.weights.size_bytes == len(content)
    check(package)
    assert os.listdir(installed_dir) == ["chest"]


def test_a_converted_package_has_a_file_for_the_cpu_and_one_for_gpus(installed_dir: Path) -> None:
    package = Registry(installed_dir).get("chest")
    assert sorted(os.listdir(package.folder)) == ["manifest.toml", "model.onnx", "model.safetensors", "model_card.md"]
    content = (package.folder / "model.safetensors").read_bytes()
    for_device = package.for_device
    assert for_device.weights_path.read_bytes() == content
    assert for_device.manifest.weights.sha256 == hashlib.sha256(content).hexdigest()
    assert (package.manifest.weights.format, for_device.manifest.weights.format) == ("onnx", "torch")


def test_on_a_device_the_converted_network_answers_as_torchxrayvision_does(
    source: Path, installed_dir: Path, encoded: dict[int, dict[str, Path]]
) -> None:
    network = open_network(Registry(installed_dir).get("chest"), Cpu(), largest=2)
    images = [pixels.network_input(pixels.read(encoded[number]["raw"]), XRV) for number in (0, 1)]
    scores = network.start(images).outputs()["scores"]
    for place in (0, 1):
        expected, _ = by_the_readme(source, encoded[place]["raw"])
        assert np.abs(scores[place] - expected).max() <= 1e-4


@pytest.mark.parametrize(("file", "scores_of"), [("model.onnx", by_onnx), ("model.safetensors", by_torch)])
def test_parity_notices_a_network_that_answers_a_little_otherwise(
    source: Path, installed_dir: Path, file: str, scores_of: Callable[[bytes], ScoresOf]
) -> None:
    network: Any = torch.load(source, weights_only=False)
    converted = scores_of((Registry(installed_dir).get("chest").folder / file).read_bytes())
    assert parity(network, converted) <= 1e-4
    with torch.no_grad():
        network.classifier.bias[3] += 0.01
    assert parity(network, converted) > 1e-4


def test_a_pickle_with_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 3), tmp_path / "model.pt")
    with pytest.raises(Refuse, match="not the weights of a DenseNet-121"):
        install_source(load(BUILTIN_DIR / "chest"), tmp_path / "model.pt", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_that_is_no_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"<html>Not found</html>")
    with pytest.raises(Refuse, match="the conversion failed: "):
        install_source(load(BUILTIN_DIR / "chest"), tmp_path / "model.pt", tmp_path / "models")


def test_without_torch_the_converter_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here', name='torch')\n", encoding="utf-8")
    environment = bare_environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    command = [sys.executable, "-P", "-m", "inference.convert", "torchxrayvision_densenet", "x", str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == (
        '{"message": "converting needs a package that is not installed: torch", '
        '"hint": "pip install -c constraints.txt \'.[convert]\'"}'
    )


def test_unpickling_happens_in_a_process_that_has_no_secret_no_network_and_an_empty_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLIMATOR_STRIPE__KEY", "secret")
    outside = tmp_path / "outside"
    outside.write_text("as it was", encoding="utf-8")
    torch.save(Spy(outside), tmp_path / "model.pt")
    with pytest.raises(Refuse) as caught:
        install_source(load(BUILTIN_DIR / "chest"), tmp_path / "model.pt", tmp_path / "models")
    seen = caught.value.message
    assert "secret" not in seen
    assert f"HOME={os.environ.get('HOME')}\n" not in seen
    assert f"PROCESS={os.getpid()}\n" not in seen
    assert "PermissionError" in seen
    assert "READ ITS PARENT" not in seen or not has_landlock()
    assert "WROTE AT HOME" in seen
    assert outside.read_text(encoding="utf-8") == "as it was" or not has_landlock()


class Spy:
    """What a hostile pickle could do: run a program when it is loaded. It tells what it saw as the process's error."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        connects = f"'{sys.executable}' -c 'import socket; socket.socket()' 2>&1"
        reads = f"cat /proc/{os.getpid()}/environ > /dev/null && echo READ ITS PARENT"
        writes = f"echo changed > '{self._target}'; echo 1 > $HOME/one && echo WROTE AT HOME"
        tells = "import json, sys; print(json.dumps({'message': sys.stdin.read(), 'hint': ''}))"
        sees = f"(env; echo PROCESS=$PPID; {connects}; {reads}; {writes})"
        return os.system, (f"{sees} | '{sys.executable}' -c \"{tells}\"",)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(Refuse, match="not the weights of a DenseNet-121"):
        densenet_all({"classifier.weight": torch.zeros(3, 1024)})


def test_the_converter_is_known_by_the_shipped_manifest() -> None:
    assert load(BUILTIN_DIR / "chest").manifest.weights.converter in CONVERTERS
