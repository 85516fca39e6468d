"""The manifests that docs/packages.md explains and gives as examples are some."""

import hashlib
import re
from pathlib import Path

import pytest
from onnx import ModelProto

from domain.errors import Misconfigured
from inference.adapters import READERS
from inference.adapters.detector import Detector
from inference.adapters.landmarks import Landmarks
from inference.install import add
from inference.package import load
from tests.factories.networks import CELLS, spine_of, spot_detector
from tests.factories.packages import filter_network

PAGE = Path(__file__).parents[2] / "docs" / "packages.md"


def blocks() -> list[str]:
    """The indented pieces of TOML; commands are left out."""
    pieces = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    unindented = [re.sub(r"^    ", "", piece, flags=re.MULTILINE) for piece in pieces]
    return [piece for piece in unindented if not piece.lstrip().startswith("collimator ")]


def written(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "manifest.toml").write_text(content.replace('"…"', f'"{"0" * 64}"'), encoding="utf-8")
    return folder


def of_size(network: ModelProto, size: int) -> ModelProto:
    """The network for images of this size; a detector's cells grow with it."""
    (image,) = network.graph.input
    for dimension in image.type.tensor_type.shape.dim[2:]:
        dimension.dim_value = size
    for node in network.graph.node:
        if node.op_type == "AveragePool":
            for attribute in node.attribute:
                attribute.ints[:] = [size // CELLS] * 2
    return network


NETWORKS = {
    "classifier": of_size(filter_network(1), 224),
    "detector": of_size(spot_detector("yolov5"), 640),
    "landmarks": of_size(spine_of([(0.5, n / 68) for n in range(68)], certainty=0.9), 512),
}


@pytest.mark.parametrize("adapter", READERS)
def test_whoever_begins_with_an_example_is_told_its_golden_scores_and_then_has_a_package(
    tmp_path: Path, adapter: str
) -> None:
    """As the page says: the file's size and SHA-256 first, then the scores that `models add` gives."""
    content = NETWORKS[adapter].SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    text = (PAGE.parent / "examples" / adapter / "manifest.toml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^size_bytes = 0 ", f"size_bytes = {len(content)} ", text)
    text = re.sub(r'(?m)^sha256 = ""', f'sha256 = "{hashlib.sha256(content).hexdigest()}"', text)
    (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Misconfigured) as caught:
        add(tmp_path, tmp_path / "models")
    gives = caught.value.message.rpartition("it gives ")[2]
    text = re.sub(r"(?m)^scores = \[.*?\]", f"scores = {gives}", text)
    (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
    assert add(tmp_path, tmp_path / "models").manifest.adapter_name == adapter


@pytest.mark.parametrize("adapter", READERS)
def test_there_is_an_example_of_each_adapter(adapter: str) -> None:
    package = load(PAGE.parent / "examples" / adapter)
    assert package.manifest.adapter_name == adapter
    assert f"(examples/{adapter}/manifest.toml)" in PAGE.read_text(encoding="utf-8")


def test_the_detector_is_one(tmp_path: Path) -> None:
    manifest, detector, _ = blocks()
    package = load(written(tmp_path / "bone_fracture", manifest + detector))
    assert package.manifest.adapter == Detector(layout="yolov8", most_overlap=0.45, input_size=640)


def test_the_landmarks_are_some(tmp_path: Path) -> None:
    manifest, _, landmarks = blocks()
    without_labels = manifest.partition("[[labels]]")[0].replace('adapter = "detector"', 'adapter = "landmarks"')
    unverified = without_labels.replace('"…"', '""')  # no golden scores of 68 points stand on the page
    package = load(written(tmp_path / "spine", unverified.replace('"bone_fracture"', '"spine"') + landmarks))
    assert package.manifest.adapter == Landmarks(measure="cobb_angle", points=68, least_certainty=0.5)
    assert [measure.label for measure in package.manifest.measures] == ["Cobb angle"]
