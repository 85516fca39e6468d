"""`collimator models`, as a person or a script calls it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.__main__ import main
from inference.package import load
from tests.factories.packages import build_package
from tests.inference.images import write_image

Collimator = Callable[..., tuple[int, str, str]]


@pytest.fixture
def collimator(config: Path, capsys: pytest.CaptureFixture[str]) -> Collimator:
    """Runs `collimator models …` and returns its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["models", *(str(argument) for argument in arguments), "--config", str(config)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten pictures and two DICOM files: the more of each is white, the later its name."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        Image.fromarray(partly_white(number)).save(folder / f"{number}.png")
    for number in (10, 11):
        values = partly_white(number).astype(np.uint16).tobytes()
        write_image(folder / f"{number}.dcm", Rows=96, Columns=96, PixelData=values)
    return folder


def partly_white(number: int) -> "np.typing.NDArray[np.uint8]":
    """White from the left on black, wider with each number."""
    image = np.full((96, 96), 20, np.uint8)
    image[:, : 3 + 3 * number] = 200
    return image


def table(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def twelve_lines(positives_from: int) -> list[str]:
    names = [f"{number}.png" for number in range(10)] + ["10.dcm", "11.dcm"]
    return [f"{name},{int(number >= positives_from)}" for number, name in enumerate(names)]


@pytest.fixture
def small_chest(tmp_path: Path) -> None:
    """An installed `chest` with two labels."""
    build_package(tmp_path / "var" / "models" / "chest")


@pytest.mark.usefixtures("small_chest")
def test_evaluating_gives_one_object_a_label(collimator: Collimator, images: Path, tmp_path: Path) -> None:
    labels = table(tmp_path, "file,pneumonia,EFFUSION", *[f"{line},{line[-1]}" for line in twelve_lines(6)])
    status, out, _ = collimator("evaluate", "chest", "--images", images, "--labels", labels, "--json")
    pneumonia, effusion = json.loads(out)
    assert status == 0
    assert list(pneumonia) == [
        "label",
        "n",
        "positives",
        "auroc",
        "auroc_low",
        "auroc_high",
        "threshold",
        "sensitivity",
        "sensitivity_low",
        "sensitivity_high",
        "specificity",
        "specificity_low",
        "specificity_high",
        "true_positives",
        "false_negatives",
        "true_negatives",
        "false_positives",
        "patients",
        "intervals_by",
        "brier",
        "brier_low",
        "brier_high",
        "expected_calibration_error",
        "calibration",
        "operating_points",
        "subgroups",
        "outside_intended",
        "unreadable",
    ]
    assert (pneumonia["label"], effusion["label"]) == ("Pneumonia", "Effusion")
    assert (pneumonia["n"], pneumonia["positives"], pneumonia["threshold"]) == (12, 6, 0.5)
    assert 0 <= pneumonia["auroc_low"] <= pneumonia["auroc"] <= pneumonia["auroc_high"] <= 1
    assert pneumonia["true_positives"] + pneumonia["false_negatives"] == 6
    assert pneumonia["sensitivity"] == pneumonia["true_positives"] / 6


@pytest.mark.usefixtures("small_chest")
def test_evaluating_gives_people_a_table(collimator: Collimator, images: Path, tmp_path: Path) -> None:
    labels = table(tmp_path, "file,Pneumonia", *twelve_lines(6), "")
    status, out, _ = collimator("evaluate", "chest", "--images", images, "--labels", labels)
    header, line = out.splitlines()
    assert status == 0
    assert header.startswith("LABEL      N   POSITIVES  AUROC")
    assert line.startswith("Pneumonia  12  6 ")


def test_the_pediatric_package_tells_its_own_radiographs_apart(
    collimator: Collimator, shared_data: Path, tmp_path: Path
) -> None:
    """Its weights saw these images: this shows that the way through is whole, not how accurate it is."""
    folder = shared_data / "chest_pediatric"
    lines = [
        f"{kind}/{path.name},{int(kind == 'pneumonia')}"
        for kind in ("normal", "pneumonia")
        for path in sorted((folder / kind).iterdir())[:20]
    ]
    labels = table(tmp_path, "file,Pneumonia", *lines)
    status, out, _ = collimator("evaluate", "pediatric_chest", "--images", folder, "--labels", labels, "--json")
    (line,) = json.loads(out)
    assert status == 0
    assert line["n"] == 40
    assert line["auroc"] > 0.95


@pytest.mark.usefixtures("small_chest")
def test_evaluating_gives_the_reference_that_drift_is_held_against(
    collimator: Collimator, images: Path, tmp_path: Path
) -> None:
    for copy in range(17):
        shutil.copytree(images, tmp_path / "copies" / str(copy))
    lines = [f"{copy}/{line}" for copy in range(17) for line in twelve_lines(6)]
    images = tmp_path / "copies"
    labels, reference = table(tmp_path, "file,Pneumonia", *lines), tmp_path / "reference.toml"
    status, *_ = collimator("evaluate", "chest", "--images", images, "--labels", labels, "--reference", reference)
    assert status == 0
    package = load(build_package(tmp_path / "mine" / "chest", tables=reference.read_text(encoding="utf-8")))
    assert package.manifest.reference is not None
    counts = package.manifest.reference.counts
    assert {feature: sum(bins.values()) for feature, bins in counts.items()} == {
        "score Pneumonia": 204, "score Effusion": 204, "grey": 204, "age": 204, "view": 204,
    }  # fmt: skip


@pytest.mark.usefixtures("small_chest")
def test_too_few_images_make_no_reference(collimator: Collimator, images: Path, tmp_path: Path) -> None:
    labels, reference = table(tmp_path, "file,Pneumonia", *twelve_lines(6)), tmp_path / "reference.toml"
    status, _, err = collimator("evaluate", "chest", "--images", images, "--labels", labels, "--reference", reference)
    assert (status, err) == (1, "collimator: a reference takes at least 200 images; here are 12\n")
    assert not reference.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,Pneumonia", "0.png,1", "nowhere.png,0"], "nowhere.png: there is no such file"),
        (["file,Pneumonia", "0.png,1", f"{'a' * 300}.png,0"], "aaa.png: there is no such file"),
        (["file,Gout", "0.png,1"], "chest has no label 'Gout'"),
        (["file,Pneumonia", "0.png,1", "1.png,maybe"], "line 3: 'maybe' is neither 0 nor 1"),
        (["file,Pneumonia", "0.png,1", "1.png,"], "line 3: '' is neither 0 nor 1"),
        (["file,Pneumonia", "0.png,1", "1.png"], "line 3: 2 values were expected, not 1"),
        (["file,Pneumonia", "0.png,1", "1.png,1"], "label 'Pneumonia': 2 of 2 images have it"),
        (["file,Pneumonia", "0.png,0"], "label 'Pneumonia': 0 of 1 images have it"),
        (["file,Pneumonia"], "label 'Pneumonia': 0 of 0 images have it"),
        (["file,Pneumonia,pneumonia", "0.png,0,1"], "the table names a column twice"),
        (["picture,Pneumonia", "0.png,1"], "must begin with the line `file,<Label>…`, and begins with 'picture,Pneu"),
        (["Pneumonia,file", "1,0.png"], "and begins with 'Pneumonia,file' (`file` is the first column, at least one"),
        (["file|Pneumonia", "0.png|1"], "and begins with 'file|Pneumonia' (`file` is the first column, at least one"),
        (
            ["file,Pneumonia,", "0.png,1,"],
            "column 3 of the table has no name (Name it, or take it away: is there a sep",
        ),
        (["file,Pneumonia", "0.png,1", "1.png,0", "0.png,1"], "lines 2 and 4 name the same file: 0.png (An image"),
        (["file,Pneumonia", "0.png,1", "1.png,0", "0.png,0"], "lines 2 and 4 name the same file: 0.png (An image"),
        (["file,Pneumonia", "0.png,1", "", "a/.././0.png,1"], "lines 2 and 4 name the same file: a/.././0.png"),
        (["file;Pneumonia;age", "0.png;1;4,5"], "line 2: '4,5' is no age (Years, as 4.5, or 018M for months.)"),
        (["file;Pneumonia", "0.png;1,0"], "line 2: '1,0' is neither 0 nor 1"),
        (["file;Pneumonia", "0.png,1"], "line 2: 2 values were expected, not 1"),
        (["file"], "the table must begin with the line `file,<Label>…`"),
        ([], "the table must begin with the line `file,<Label>…`"),
        (["file,Pneumonia", "0.png,1", "broken.png,0"], "broken.png: neither DICOM nor a readable JPEG or PNG"),
        (["file,Pneumonia", '"0.png,1'], "cannot be read: unexpected end of data"),
    ],
)
@pytest.mark.usefixtures("small_chest")
def test_a_table_that_cannot_be_used_is_answered_with_one_clear_line(
    collimator: Collimator, images: Path, tmp_path: Path, lines: list[str], message: str
) -> None:
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    labels = table(tmp_path, *lines)
    status, out, err = collimator("evaluate", "chest", "--images", images, "--labels", labels)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_file_is_the_same_by_its_whole_path(
    collimator: Collimator, images: Path, tmp_path: Path, small_chest: None
) -> None:
    labels = table(tmp_path, "file,Pneumonia", "0.png,1", f"{images / '0.png'},0")
    status, _, err = collimator("evaluate", "chest", "--images", images, "--labels", labels)
    assert status == 1
    assert f"lines 2 and 3 name the same file: {images / '0.png'}" in err


@pytest.mark.parametrize(
    ("separator", "header"),
    [
        (";", "file;Pneumonia;age"),
        ("\t", "file\tPneumonia\tage"),
        (";", '"File";"Pneumonia";"age"'),
        (",", "file,Pneumonia,age"),
    ],
)
def test_semicolons_and_tabs_part_columns_as_commas_do(
    collimator: Collimator, images: Path, tmp_path: Path, small_chest: None, separator: str, header: str
) -> None:
    lines = [
        f"{line},{'4.5' if place else '018M'}".replace(",", separator) for place, line in enumerate(twelve_lines(6))
    ]
    labels = table(tmp_path, header, *lines)
    status, out, _ = collimator("evaluate", "chest", "--images", images, "--labels", labels, "--json")
    assert status == 0
    (measured,) = json.loads(out)
    assert (measured["n"], measured["positives"]) == (12, 6)
    ages = {one["group"]: one["images"] for one in measured["subgroups"] if one["attribute"] == "age"}
    assert ages == {"under 2 years": 1, "2 to 11 years": 11}


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_that_is_not_utf_8_says_how_to_save_it(
    collimator: Collimator, images: Path, tmp_path: Path, small_chest: None, encoding: str
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("file,Pneumonia,manufacturer\n0.png,1,André\n", encoding=encoding)
    status, _, err = collimator("evaluate", "chest", "--images", images, "--labels", labels)
    assert status == 1
    assert err.endswith("(Save it as UTF-8: in Excel, `CSV UTF-8`.)\n")


def test_a_table_that_is_not_there_is_named(collimator: Collimator, tmp_path: Path, small_chest: None) -> None:
    status, _, err = collimator("evaluate", "chest", "--images", tmp_path, "--labels", tmp_path / "none.csv")
    assert status == 1
    assert err == f"collimator: {tmp_path / 'none.csv'}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("package", "message"), [("chest", "is not configured"), ("brain", "no model package is named")]
)
def test_evaluating_without_a_model_is_a_matter_of_configuration(
    collimator: Collimator, images: Path, tmp_path: Path, package: str, message: str
) -> None:
    labels = table(tmp_path, "file,Pneumonia", *twelve_lines(6))
    status, _, err = collimator("evaluate", package, "--images", images, "--labels", labels)
    assert status == 2
    assert message in err


def test_listing_names_every_slot(collimator: Collimator) -> None:
    status, out, _ = collimator("list", "--json")
    lines = {line["name"]: line for line in json.loads(out)}
    assert status == 0
    assert list(lines) == ["bone_fracture", "chest", "dental", "pediatric_chest", "spine"]
    assert not lines["chest"]["is_configured"]
    assert lines["chest"]["why_not"] == "Its weights are not installed yet: run `collimator models pull chest`."
    assert lines["pediatric_chest"]["is_configured"]
    assert lines["pediatric_chest"]["age_max_years"] == 5
    for slot in ("bone_fracture", "dental", "spine"):
        assert not lines[slot]["is_configured"]
        assert lines[slot]["why_not"].startswith("No verified weights are known for it. ")
        assert "`collimator models add DIR`" in lines[slot]["why_not"]
    assert "Pneumothorax" in lines["chest"]["labels"]


@pytest.mark.usefixtures("small_chest")
@pytest.mark.parametrize("verb", ["list", "verify"])
def test_a_broken_manifest_is_named_beside_all_others(collimator: Collimator, tmp_path: Path, verb: str) -> None:
    folder = tmp_path / "var" / "models" / "knee" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text("half written", encoding="utf-8")
    status, out, err = collimator(verb)
    assert status == 1
    assert "spine" in out
    assert err.startswith(f"collimator: {folder / 'manifest.toml'}: not valid TOML: ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("small_chest")
@pytest.mark.parametrize("content", ["half written", "[]", '{"licence": "MIT"}', '{"accepted_at": 2026}'])
def test_a_damaged_acceptance_is_named_beside_all_packages(
    collimator: Collimator, tmp_path: Path, content: str
) -> None:
    collimator("add", build_package(tmp_path / "mine", name="knee"))
    path = tmp_path / "var" / "models" / "knee" / "1.0.0" / "licence_accepted.json"
    path.write_text(content, encoding="utf-8")
    status, out, err = collimator("list")
    assert status == 1
    assert {"chest", "knee", "spine"} <= {line.partition(" ")[0] for line in out.splitlines()}
    assert err.startswith(f"collimator: {path}: cannot be read: ")
    assert err.count("\n") == 1


def test_a_package_is_added_listed_and_verified(collimator: Collimator, tmp_path: Path) -> None:
    folder = build_package(tmp_path / "mine", name="knee", version="3.1.0")
    assert collimator("add", folder) == (
        0,
        f"knee 3.1.0: checked and installed in {tmp_path / 'var' / 'models' / 'knee' / '3.1.0'}\n",
        "",
    )
    assert "knee" in collimator("list")[1]
    assert collimator("verify", "knee") == (0, "knee 3.1.0: bytes, network and golden scores are right\n", "")


def test_adding_another_version_says_which_one_answers(collimator: Collimator, tmp_path: Path) -> None:
    collimator("add", build_package(tmp_path / "mine", name="knee", version="3.1.0"))
    _, newer, _ = collimator("add", build_package(tmp_path / "newer", name="knee", version="3.2.0"))
    _, older, _ = collimator("add", build_package(tmp_path / "older", name="knee", version="3.0.0"))
    other = ", for every clinic whose [[clinics.models]] names no other"
    assert newer.splitlines()[1] == f"knee 3.2.0 answers from now on{other}"
    assert older.splitlines()[1] == f"knee 3.0.0 waits; 3.2.0 answers{other}"
    knees = [line for line in json.loads(collimator("list", "--json")[1]) if line["name"] == "knee"]
    assert [(line["version"], line["is_active"]) for line in knees] == [
        ("3.2.0", True),
        ("3.1.0", False),
        ("3.0.0", False),
    ]


def test_verifying_everything_looks_past_a_damaged_package(collimator: Collimator, tmp_path: Path) -> None:
    folder = build_package(tmp_path / "var" / "models" / "knee", name="knee")
    shutil.copyfile(folder / "manifest.toml", folder / "model.onnx")
    status, out, err = collimator("verify")
    assert status == 1
    assert "spine: not configured" in out
    assert err.startswith("collimator: knee: ")
    assert err.count("\n") == 1


def test_verifying_a_package_without_weights_by_name_fails(collimator: Collimator) -> None:
    assert collimator("verify", "spine") == (
        1,
        "",
        "collimator: spine: not configured (No verified weights are known for it. ScolioVis "
        "(github.com/Blankeos/scoliovis) measures Cobb angles but is published without its weights: "
        "bring your own with `collimator models add DIR`.)\n",
    )


def test_adding_what_is_no_package_is_a_matter_of_configuration(collimator: Collimator, tmp_path: Path) -> None:
    status, _, err = collimator("add", tmp_path / "nothing")
    assert status == 2
    assert "nothing/manifest.toml: cannot be read (No such file or directory)" in err


def test_pulling_where_there_is_no_network_fails_with_one_line(
    collimator: Collimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    status, out, err = collimator("pull", "chest")
    assert status == 1
    assert out.startswith("chest: the weights' licence is Apache-2.0. You may use, change and pass it on")
    assert err.startswith("collimator: https://huggingface.co/torchxrayvision/")
    assert err.endswith("cannot be downloaded: [Errno 111] Connection refused (Is the network reachable from here?)\n")


@pytest.mark.parametrize("order", [["models", "--config", "{}", "list"], ["models", "list", "--config", "{}"]])
def test_the_configuration_may_be_named_before_or_behind_the_subcommand(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], order: list[str]
) -> None:
    build_package(tmp_path / "var" / "models" / "knee", name="knee")
    assert main([word.format(config) for word in order]) == 0
    assert "knee" in capsys.readouterr().out
