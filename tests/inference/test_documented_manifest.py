"""The manifest that docs/packages.md explains is one."""

import re
from pathlib import Path

from inference.adapters.detector import Detector
from inference.adapters.landmarks import Landmarks
from inference.package import load

PAGE = Path(__file__).parents[2] / "docs" / "packages.md"


def blocks() -> list[str]:
    """The indented pieces of TOML, without their comments."""
    pieces = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"^    ", "", piece, flags=re.MULTILINE) for piece in pieces]


def written(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "manifest.toml").write_text(content.replace('"…"', f'"{"0" * 64}"'), encoding="utf-8")
    return folder


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
