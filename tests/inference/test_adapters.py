"""A site's own network answers without a line of code, when an adapter fits: one worked example for each."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from domain.errors import Misconfigured, Refuse
from domain.findings import Code, Region
from inference.adapters.classifier import LARGEST_MAP, Classifier
from inference.adapters.detector import Detector, Layout, overlap
from inference.adapters.landmarks import cobb_angle
from inference.analyst import Analyst
from inference.answer import Answer
from inference.install import add
from inference.labels import Label
from inference.network import Network
from inference.package import Package, load
from inference.pixels import Radiograph, unwindowed
from inference.preprocess import Box
from inference.presentation import MAX_GREY
from tests.factories.networks import classifier_of, spine_of, spot_detector
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


FRACTURE = Label(
    label="Fracture",
    code=Code(value="125605004", scheme="SCT", meaning="Fracture of bone"),
    site=None,
    threshold=0.5,
    sensitivity=None,
    specificity=None,
)
WHOLE = Box(left=0, top=0, width=64, height=64)


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


def boxed(layout: Layout, *rows: tuple[float, ...]) -> Answer:
    """Of the rows that a network gave for an image of 64 pixels: centre x, centre y, width, height, and scores."""
    output = np.array([rows], np.float32)
    adapter = Detector(layout=layout, most_overlap=0.45, input_size=64)
    outputs = {"output0": output.transpose(0, 2, 1) if layout == "yolov8" else output}
    numbers = adapter.golden_numbers([FRACTURE], outputs)
    answer = adapter.answer([FRACTURE], [], outputs, seen=WHOLE, pixel_aspect=1.0)
    assert numbers == answer.scores
    return answer


NOT_PIXELS = "centre x, centre y, width, height in pixels of the input were expected"
NOT_SCORES = r"scores in \[0, 1\] were expected; does the network end before its sigmoid"


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("yolov8", (10, 10, -20, 5, 0.9), NOT_PIXELS),
        ("yolov8", (10, 10, 20, -5, 0.9), NOT_PIXELS),
        ("yolov8", (1e30, 10, 20, 5, 0.9), NOT_PIXELS),
        ("yolov8", (10, 10, 1e30, 5, 0.9), NOT_PIXELS),
        ("yolov8", (math.inf, 10, 20, 5, 0.9), "not finite"),
        ("yolov8", (10, math.nan, 20, 5, 0.9), "not finite"),
        ("yolov8", (10, 10, 20, 5, math.nan), "not finite"),
        ("yolov8", (0.5, 0.5, 0.4, 0.4, 0.9), "are its own in parts of it, from 0 to 1"),
        ("yolov8", (10, 10, 20, 5, 1.2), NOT_SCORES),
        ("yolov5", (10, 10, 20, 5, -1.2, -0.7), NOT_SCORES),
        ("yolov5", (10, 10, 20, 5, 2.0, 0.4), NOT_SCORES),
        ("yolov5", (10, 10, 20, 5, 0.5, -0.1), NOT_SCORES),
    ],
)
def test_boxes_and_scores_that_cannot_be_any_are_refused(layout: Layout, row: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boxed(layout, row)


def test_a_box_may_be_empty_and_reach_over_the_edge() -> None:
    empty, over = (10.0, 10.0, 0.0, 0.0, 0.9), (60.0, 60.0, 40.0, 8.0, 0.8)
    assert [(one.left, one.top, one.width, one.height) for one in boxed("yolov8", empty, over).regions] == [
        (10, 10, 0, 0),
        (40, 56, 40, 8),
    ]


def test_a_box_of_half_precision_has_corners_where_the_same_numbers_of_single_precision_have_them() -> None:
    """60,000 and the half of it are more than half precision can hold."""
    adapter = Detector(layout="yolov8", most_overlap=0.45, input_size=640)
    output = np.array([[[60_000], [100], [60_000], [33.5], [0.75]]], np.float16)
    seen = Box(left=0, top=0, width=640, height=640)
    (region,) = adapter.answer([FRACTURE], [], {"output0": output}, seen=seen, pixel_aspect=1.0).regions
    assert (region.left, region.top, region.width, region.height) == (30_000, 83.25, 60_000, 33.5)


def test_a_detector_that_finds_nothing_may_fill_its_boxes_with_zeros() -> None:
    assert boxed("yolov8", (0, 0, 0, 0, 0)) == Answer(scores=(0.0,))


def mapped(activation: "np.typing.NDArray[np.floating]") -> Answer:
    """Of one label's class activation (h, w)."""
    outputs = {"scores": np.array([[0.9]], np.float32), "class_activation": activation[np.newaxis, np.newaxis]}
    Classifier().golden_numbers([FRACTURE], outputs)
    return Classifier().answer([FRACTURE], [], outputs, seen=WHOLE, pixel_aspect=1.0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_class_activation_that_is_not_finite_is_refused(broken: float) -> None:
    activation = np.ones((7, 7), np.float32)
    activation[3, 3] = broken
    with pytest.raises(ValueError, match="its class activation is not finite"):
        mapped(activation)


@pytest.mark.parametrize("shape", [(0, 0), (7, 0), (LARGEST_MAP + 1, 7), (7, LARGEST_MAP + 1)])
def test_a_class_activation_without_cells_or_with_too_many_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="activation maps of 1 to 512 cells a side were expected"):
        mapped(np.ones(shape, np.float32))


def test_a_map_has_256_steps_up_to_its_maximum_however_small_that_is() -> None:
    for kind in (np.float32, np.float16):
        shown = mapped(np.array([[-1e-5, 0], [0.5e-5, 1e-5]], kind)).activation
        assert shown is not None
        assert shown.values == pytest.approx((0, 0, 127.5, 255), abs=1.5)


def classifying(folder: Path, activation: "np.typing.NDArray[np.float32]") -> Path:
    network = classifier_of(activation)
    return build_package(folder, version="2.0.0", labels=["Fracture"], network=network, is_golden_right=False)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (np.full((1, 7, 7), np.nan, np.float32), "its class activation is not finite"),
        (np.ones((1, 1792, 1792), np.float32), r"it gave \(1, 1, 1792, 1792\)"),
    ],
)
def test_a_package_whose_maps_nothing_can_be_made_of_is_not_added(
    tmp_path: Path, activation: "np.typing.NDArray[np.float32]", message: str
) -> None:
    """Its scores are right: only what is drawn of them is not."""
    with pytest.raises(Misconfigured, match=message):
        add(classifying(tmp_path / "mine", activation), tmp_path / "models")


def test_the_largest_map_comes_back_from_the_child_process(
    tmp_path: Path, new_analyst: Callable[..., Analyst], installed_dir: Path
) -> None:
    activation = np.ones((1, LARGEST_MAP, LARGEST_MAP), np.float32)
    source = classifying(tmp_path / "mine", activation)
    manifest = source / "manifest.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("[0.5]", "[0.9]"), encoding="utf-8")
    package = add(source, installed_dir)
    (analysed,) = new_analyst().analyse(package.name, [instance(write_image(tmp_path / "image.dcm"))]).images
    assert analysed.activation is not None
    assert analysed.activation.values == (255,) * LARGEST_MAP**2


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


def test_a_spine_whose_corners_were_mixed_up_is_not_measured(tmp_path: Path) -> None:
    corners = spine(0, 5, 0, -5, 0)
    corners[4], corners[5] = corners[5], corners[4]  # would be an angle of 175 degrees
    network = Network(load(measuring(tmp_path / "spine", corners)))
    with pytest.raises(Refuse, match="1 of 5 vertebrae have a right corner that is not to the right") as caught:
        network.answer(radiograph_with())
    assert caught.value.reason == "not_measurable"


def test_endplates_without_width_are_not_measured() -> None:
    points = np.array(spine(0, 5, 0, -5, 0))
    points[:, 0] = 0.5  # would be an angle of 180 degrees
    with pytest.raises(Refuse, match="5 of 5 vertebrae") as caught:
        cobb_angle(points, np.ones(len(points), bool), pixel_aspect=1.0)
    assert caught.value.reason == "not_measurable"


def test_a_corner_that_was_not_found_mixes_nothing_up() -> None:
    points, found = np.array(spine(0, 15, 0, -10, 0)), np.ones(20, bool)
    points[[8, 9]], found[8] = points[[9, 8]], False
    assert cobb_angle(points, found, pixel_aspect=1.0)[0] == pytest.approx(25.0)


def test_an_angle_above_ninety_degrees_is_refused_and_one_below_is_measured() -> None:
    found = np.ones(20, bool)
    assert cobb_angle(np.array(spine(0, 44, 0, -45, 0)), found, pixel_aspect=1.0)[0] == pytest.approx(89.0)
    with pytest.raises(Refuse, match="the angle would be 92 degrees, and none above 90 is measured") as caught:
        cobb_angle(np.array(spine(0, 47, 0, -45, 0)), found, pixel_aspect=1.0)
    assert caught.value.reason == "not_measurable"


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
