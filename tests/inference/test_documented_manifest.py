"""The manifests that docs/packages.md explains and gives as examples are some."""

import re
from pathlib import Path

import pytest

from inference.adapters import READERS
from inference.adapters.detector import Detector
from inference.adapters.landmarks import Landmarks
from inference.package import load

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
