"""A site's own network answers without a line of code, when an adapter fits: one worked example for each."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from domain.errors import Misconfigured, Refuse
from domain.findings import Region
from inference.adapters.detector import overlap
from inference.adapters.landmarks import cobb_angle
from inference.analyst import Analyst
from inference.answer import Answer
from inference.install import add
from inference.network import Network
from inference.package import Package, load
from inference.pixels import MAX_GREY, Radiograph, unwindowed
from tests.factories.networks import spine_of, spot_detector
from tests.factories.packages import build_package, filter_network
from tests.inference.images import instance, write_image

ROWS, COLUMNS = 300, 200
LAYOUTS = ["yolov5", "yolov8"]
COBB = """
[landmarks]
measure = "cobb_angle"
points = {points}
least_certainty = 0.5
"""
MEASURE = """
[[measures]]
label = "Cobb angle"
code = { value = "COBB", scheme = "99COLLIM", meaning = "Cobb angle" }
site = { value = "421060004", scheme = "SCT", meaning = "Vertebral column" }
unit = { value = "deg", scheme = "UCUM", meaning = "degree" }
threshold = 10.0
"""


def detector(folder: Path, layout: str = "yolov8", network: ModelProto | None = None) -> Path:
    return build_package(
        folder,
        name="bone_fracture",
        labels=["Fracture"],
        body_parts=["HAND"],
        crop="padded_square",
        scaling="unit",
        channels=3,
        network=network or spot_detector(layout),
        adapter="detector",
        tables=f'\n[detector]\nlayout = "{layout}"\nmost_overlap = 0.1\n',
    )


def measuring(folder: Path, points: list[tuple[float, float]], *, certainty: float = 0.9) -> Path:
    return build_package(
        folder,
        name="spine",
        labels=[],
        body_parts=["SPINE"],
        crop="none",
        scaling="unit",
        network=spine_of(points, certainty=certainty),
        adapter="landmarks",
        tables=COBB.format(points=len(points)) + MEASURE,
        golden_length=3 * len(points),
    )


def radiograph_with(*spots: tuple[int, int]) -> Radiograph:
    """Dark, with a white square of 75 pixels at each (left, top)."""
    greys = np.zeros((ROWS, COLUMNS), np.uint16)
    for left, top in spots:
        greys[top : top + 75, left : left + 75] = MAX_GREY
    return unwindowed(greys, white=MAX_GREY)


def spine(*steepness: float) -> list[tuple[float, float]]:
    """Corners of vertebrae from the head down, each tilted by so many degrees, in a square image of side 1."""
    corners = []
    for number, degrees in enumerate(steepness):
        rise = math.tan(math.radians(degrees)) * 0.1
        top = 0.1 + 0.15 * number
        for y in (top, top + 0.1):
            corners += [(0.45, y - rise / 2), (0.55, y + rise / 2)]
    return corners


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_detector_puts_a_box_in_source_pixels_around_what_it_finds(tmp_path: Path, layout: str) -> None:
    answer = Network(load(detector(tmp_path / "bone_fracture", layout))).answer(radiograph_with((100, 150)))
    (region,) = answer.regions
    # The input's 32 pixels are the padded square of side 300, 50 pixels to the left of the image.
    assert region == Region(
        label="Fracture", certainty=answer.scores[0], left=81.25, top=131.25, width=112.5, height=112.5
    )
    assert answer.scores[0] > 0.9


def test_two_things_of_a_kind_get_two_boxes_and_one_score(tmp_path: Path) -> None:
    network = Network(load(detector(tmp_path / "bone_fracture")))
    answer = network.answer(radiograph_with((100, 150), (25, 0)))
    assert len(answer.regions) == 2
    assert answer.scores[0] == max(region.certainty for region in answer.regions)


def test_where_nothing_is_found_there_is_a_low_score_and_no_box(tmp_path: Path) -> None:
    answer = Network(load(detector(tmp_path / "bone_fracture"))).answer(radiograph_with())
    assert answer.regions == ()
    assert answer.scores[0] < 0.5


def test_boxes_that_overlap_a_better_one_are_left_out(tmp_path: Path) -> None:
    """Every cell of a white image is as good as the next, and their boxes overlap by a fifth."""
    package = load(detector(tmp_path / "bone_fracture"))
    white = radiograph_with(*((left, top) for left in (0, 75, 125) for top in (0, 75, 150, 225)))
    boxes = [
        np.array([r.left, r.top, r.left + r.width, r.top + r.height]) for r in Network(package).answer(white).regions
    ]
    assert 1 < len(boxes) < 8
    assert all(overlap(one, other) <= 0.1 for place, one in enumerate(boxes) for other in boxes[:place])


def test_two_endplates_give_the_largest_angle_between_them(tmp_path: Path) -> None:
    network = Network(load(measuring(tmp_path / "spine", spine(0, 15, 0, -10, 0))))
    square = np.zeros((200, 200), np.uint16)
    (measured,) = network.answer(unwindowed(square, white=MAX_GREY)).measurements
    assert measured.value == pytest.approx(25.0, abs=0.01)
    assert measured.is_detected
    assert (measured.label, measured.unit.value, measured.threshold) == ("Cobb angle", "deg", 10.0)
    upper, lower = measured.lines
    assert upper.start == pytest.approx((90, 200 * (0.25 - math.tan(math.radians(15)) * 0.05)), abs=0.01)
    assert lower.end == pytest.approx((110, 200 * (0.65 - math.tan(math.radians(10)) * 0.05)), abs=0.01)


def test_an_angle_is_that_of_the_patient_where_pixels_are_not_square() -> None:
    """Pixels twice as high as wide: what is 45 degrees on the patient rises by half as many rows."""
    points = np.array(spine(0, 0, 0, 0, 0)) * 100
    points[5, 1] = points[4, 1] + (points[5, 0] - points[4, 0]) / 2
    angle, _ = cobb_angle(points, np.ones(len(points), bool), pixel_aspect=2.0)
    assert angle == pytest.approx(45.0)


def test_a_straight_spine_is_no_finding(tmp_path: Path) -> None:
    (measured,) = Network(load(measuring(tmp_path / "spine", spine(2, 2, 3, 2)))).answer(radiograph_with()).measurements
    assert not measured.is_detected


def test_without_enough_vertebrae_the_image_is_refused(tmp_path: Path) -> None:
    network = Network(load(measuring(tmp_path / "spine", spine(0, 5, 0, 5), certainty=0.3)))
    with pytest.raises(Refuse, match="only 0 vertebrae were found") as caught:
        network.answer(radiograph_with())
    assert caught.value.reason == "not_measurable"


PACKAGES: dict[str, Callable[[Path], Path]] = {
    "classifier": lambda folder: build_package(folder / "chest", version="2.0.0"),
    "detector": lambda folder: detector(folder / "bone_fracture"),
    "landmarks": lambda folder: measuring(folder / "spine", spine(0, 15, 0, -10, 0)),
}


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_of_each_kind_is_added_and_answers_in_the_child_process(
    tmp_path: Path, new_analyst: Callable[..., Analyst], installed_dir: Path, kind: str
) -> None:
    package: Package = add(PACKAGES[kind](tmp_path / "mine"), installed_dir)
    image = instance(write_image(tmp_path / "image.dcm"))
    (analysed,) = new_analyst().analyse(package.name, [image]).images
    own = Network(package).answer(_read(image.path))
    assert [finding.certainty for finding in analysed.findings] == sorted(own.scores, reverse=True)
    assert (analysed.regions, analysed.measurements) == (own.regions, own.measurements)


def _read(path: str) -> Radiograph:
    from inference import pixels

    return pixels.read(path)


def test_an_answer_survives_its_way_as_json() -> None:
    answer = Answer(scores=(0.25,), regions=(Region(label="a", certainty=0.5, left=1, top=2, width=3, height=4),))
    assert Answer.from_json(answer.as_json()) == answer


@pytest.mark.parametrize(
    ("adapter", "tables", "message"),
    [
        ("oracle", "", 'adapter: expected "classifier" or "detector" or "landmarks"'),
        ("detector", "", "detector: missing"),
        ("detector", '[detector]\nlayout = "yolov1"\nmost_overlap = 0.5\n', "detector.layout: expected"),
        ("detector", '[detector]\nlayout = "yolov8"\nmost_overlap = 2\n', "detector.most_overlap: expected a number"),
        ("landmarks", COBB.format(points=16) + MEASURE, "labels: expected one of measures, and no labels"),
        ("landmarks", COBB.format(points=18), "landmarks.points: expected four corners a vertebra"),
        ("classifier", MEASURE, "labels: expected labels, and no measures"),
    ],
)
def test_a_wrong_adapter_is_named(tmp_path: Path, adapter: str, tables: str, message: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(
            build_package(
                tmp_path / "chest", labels=["Fracture"], adapter=adapter, tables=f"\n{tables}", is_golden_right=False
            )
        )
    assert message in caught.value.message


def test_a_network_of_another_kind_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="one output was expected, it has \\['class_activation', 'scores'\\]"):
        build_package(
            tmp_path / "chest",
            labels=["Fracture"],
            network=filter_network(1),
            adapter="detector",
            tables='\n[detector]\nlayout = "yolov8"\nmost_overlap = 0.1\n',
        )


def test_a_network_that_wants_another_image_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="expected one, an image"):
        detector(tmp_path / "bone_fracture", network=filter_network(1))
