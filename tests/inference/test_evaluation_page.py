"""`collimator models evaluate --html`: one page that stands alone, says what was measured, and hides nothing."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.__main__ import main
from inference.package import load
from tests.factories.packages import build_package
from tests.inference.images import write_image

SVG = "{http://www.w3.org/2000/svg}"
Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 DICOM files of women of 30 and men of 70, by two makers, and one file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(24):
        pixels = np.full((32, 32), 500, np.uint16)
        pixels[:, : 1 + number] = 3000
        write_image(
            folder / f"{number}.dcm",
            Rows=32,
            Columns=32,
            PixelData=pixels.tobytes(),
            PatientBirthDate="",
            PatientAge="070Y" if number % 2 else "030Y",
            PatientSex="M" if number % 2 else "F",
            ViewPosition="PA",
            Manufacturer="Acme <b>X-ray</b>" if number < 20 else "Other",
        )
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM broken")
    return folder


@pytest.fixture
def evaluate(config: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Evaluates the small `chest` on a table; returns status, stdout and stderr. The page is page.html."""
    build_package(tmp_path / "var" / "models" / "chest", age_min_years=18, age_max_years=60)

    def run(lines: list[str], *arguments: str) -> tuple[int, str, str]:
        table = tmp_path / "labels.csv"
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = ["--images", str(images), "--labels", str(table), "--html", str(tmp_path / "page.html"), *arguments]
        status = main(["models", "evaluate", "chest", *words, "--config", str(config)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def lines(header: str = "file,Pneumonia", more: Callable[[int], str] = lambda _: "") -> list[str]:
    return [header, *(f"{number}.dcm,{int(number % 4 > 1)}{more(number)}" for number in range(24))]


def words_of(page: Path) -> str:
    """What a reader sees, in one line."""
    html = re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


class Tags(HTMLParser):
    """Every tag is closed, and every address is one on the page itself."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        for name, value in attributes:
            if name in ("src", "href", "action", "data", "xlink:href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in ("meta", "link", "br", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate(lines("file,Pneumonia,Effusion", lambda number: f",{number % 2}"))[0] == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = Tags(html)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "link", "img", "iframe", "object", "embed"})
    assert len(set(tags.ids)) == len(tags.ids)
    assert {address.removeprefix("#") for address in tags.addresses} <= set(tags.ids)
    assert not re.search(r"url\(|@import|https?://", html)


def test_every_plot_says_in_words_what_it_shows(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate(lines())
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    plots = re.findall(r'<svg class="figure".*?</svg>', html, flags=re.DOTALL)
    assert len(plots) == 3
    for plot in plots:
        drawn = ElementTree.fromstring(plot.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
        ids = [drawn.find(f"{SVG}{name}").attrib["id"] for name in ("title", "desc")]  # type: ignore[union-attr]
        assert drawn.attrib["aria-labelledby"].split() == ids
        assert drawn.attrib["role"] == "img"
        assert "Pneumonia" in (drawn.findtext(f"{SVG}title") or "")
        assert len(drawn.findtext(f"{SVG}desc") or "") > 80


def test_the_page_names_what_was_measured_and_how(evaluate: Evaluate, images: Path, tmp_path: Path) -> None:
    _, out, _ = evaluate(lines(), "--json")
    words = words_of(tmp_path / "page.html")
    package = load(tmp_path / "var" / "models" / "chest")
    (measured,) = json.loads(out)
    for expected in (
        "Test network 1.0.0",
        "Not for diagnosis.",
        "A fixed filter that knows nothing.",
        package.manifest.weights.sha256,
        package.manifest_sha256,
        f"collimator models evaluate chest --images {images} --labels {tmp_path / 'labels.csv'} "
        f"--html {tmp_path / 'page.html'} --config {tmp_path / 'collimator.toml'}",
        "12 images with the finding, 12 without.",
        f"AUROC {measured['auroc']:.3f} 95 %: {measured['auroc_low']:.3f} to {measured['auroc_high']:.3f}",
        f"Expected calibration error {measured['expected_calibration_error']:.3f}.",
        "2000 resamples",
    ):
        assert expected in words


def test_thresholds_that_were_found_here_are_marked(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate(lines())
    words = words_of(tmp_path / "page.html")
    assert "0.5000 the manifest's, as in service 0." in words
    assert "sensitivity of 90% or more found here" in words
    assert "largest sum of both (Youden) found here" in words
    assert "on others they do worse than the table says" in words


def test_without_patients_the_page_says_that_each_image_counts_as_one(evaluate: Evaluate, tmp_path: Path) -> None:
    _, out, _ = evaluate(lines(), "--json")
    assert "The table names no patients, so each image counts as a patient of its own" in words_of(
        tmp_path / "page.html"
    )
    (measured,) = json.loads(out)
    assert (measured["intervals_by"], measured["patients"]) == ("image", 24)


def test_with_patients_intervals_are_theirs(evaluate: Evaluate, tmp_path: Path) -> None:
    _, out, _ = evaluate(lines("file,Pneumonia,Patient", lambda number: f",p{number % 4}"), "--json")
    words = words_of(tmp_path / "page.html")
    assert "Evaluated on 24 labelled images of 4 patients" in words
    assert "12 images with the finding (2 patients), 12 without (2 patients)." in words
    assert "each image counts as" not in words
    (measured,) = json.loads(out)
    assert (measured["intervals_by"], measured["patients"]) == ("patient", 4)


def test_groups_come_from_the_headers(evaluate: Evaluate, tmp_path: Path) -> None:
    _, out, _ = evaluate(lines(), "--json")
    (measured,) = json.loads(out)
    assert [(one["attribute"], one["group"], one["images"]) for one in measured["subgroups"]] == [
        ("age", "18 to 39 years", 12),
        ("age", "60 to 79 years", 12),
        ("sex", "female", 12),
        ("sex", "male", 12),
        ("view", "PA", 24),
        ("manufacturer", "ACME <B>X-RAY</B>", 20),
        ("manufacturer", "OTHER", 4),
    ]
    assert [one["accuracy"] is None for one in measured["subgroups"]] == [True] * 4 + [False, False, True]
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ACME &lt;B&gt;X-RAY&lt;/B&gt;" in html
    assert "OTHER 4 2 too few for a figure" in words_of(tmp_path / "page.html")


def test_the_table_goes_before_the_headers(evaluate: Evaluate) -> None:
    table = lines("file,Pneumonia,age,manufacturer", lambda number: f",{'018M' if number < 3 else ''},Mine")
    _, out, _ = evaluate(table, "--json")
    (measured,) = json.loads(out)
    groups = {one["group"]: one["images"] for one in measured["subgroups"]}
    assert {name: groups[name] for name in ("under 2 years", "18 to 39 years", "60 to 79 years")} == {
        "under 2 years": 3,
        "18 to 39 years": 10,
        "60 to 79 years": 11,
    }
    assert (groups["MINE"], groups["PA"], groups["female"], groups["male"]) == (24, 24, 12, 12)


def test_images_that_the_package_would_refuse_are_counted(evaluate: Evaluate, tmp_path: Path) -> None:
    _, out, _ = evaluate(lines(), "--json")
    assert json.loads(out)[0]["outside_intended"] == 12
    assert "12 of the 24 images lie outside of what the package accepts" in words_of(tmp_path / "page.html")


def test_pictures_without_headers_have_no_groups(evaluate: Evaluate, images: Path, tmp_path: Path) -> None:
    for number in range(4):
        Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * (number + 1), (32, 1))).save(images / f"{number}.png")
    _, out, _ = evaluate(["file,Pneumonia", *(f"{number}.png,{number % 2}" for number in range(4))], "--json")
    assert json.loads(out)[0]["subgroups"] == []
    assert "Not known of any image: age, sex, view, manufacturer." in words_of(tmp_path / "page.html")


def test_an_unreadable_image_ends_the_evaluation(evaluate: Evaluate, tmp_path: Path) -> None:
    status, out, err = evaluate([*lines(), "broken.dcm,1"])
    assert (status, out) == (1, "")
    assert "broken.dcm: " in err
    assert not (tmp_path / "page.html").exists()


def test_unreadable_images_can_be_left_out_and_are_named(evaluate: Evaluate, tmp_path: Path) -> None:
    table = [*lines(), "broken.dcm,1", "/nowhere/gone.dcm,0"]
    status, out, err = evaluate(table, "--skip-unreadable", "--json")
    assert status == 0
    (measured,) = json.loads(out)
    assert (measured["n"], measured["unreadable"]) == (24, 2)
    broken, gone = err.splitlines()
    assert broken.startswith("collimator: left out: broken.dcm: ")
    assert gone == "collimator: left out: /nowhere/gone.dcm: there is no such file"
    words = words_of(tmp_path / "page.html")
    assert "2 images of the table could not be read and are left out" in words
    assert "gone.dcm there is no such file" in words
    assert "--skip-unreadable" in words


def test_what_is_left_must_still_have_both_classes(evaluate: Evaluate) -> None:
    status, _, err = evaluate(["file,Pneumonia", "0.dcm,0", "1.dcm,0", "broken.dcm,1"], "--skip-unreadable")
    assert status == 1
    assert "label 'Pneumonia': 0 of 2 images have it" in err


def test_scores_that_are_places_about_an_operating_point_are_called_so(
    config: Path, images: Path, tmp_path: Path, evaluate: Evaluate
) -> None:
    evaluate(lines())
    assert "torchxrayvision" not in words_of(tmp_path / "page.html")
    build_package(tmp_path / "var" / "models" / "chest", scaling="xrv_1024")
    evaluate(lines())
    assert "stretches each label's output so that 0.5 is its operating point" in words_of(tmp_path / "page.html")


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("file,Pneumonia,patient", ",", "line 2: no patient"),
        ("file,Pneumonia,age", ",old", "line 2: 'old' is no age"),
        ("file,Pneumonia,age", ",nan", "line 2: 'nan' is no age"),
        ("file,Pneumonia,age", ",-3", "line 2: '-3' is no age"),
        ("file,Pneumonia,weight", ",70", "chest has no label 'weight'"),
        ("file,sex", "", "the table must begin with the line `file,<Label>…`"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(evaluate: Evaluate, header: str, cells: str, message: str) -> None:
    status, _, err = evaluate(lines(header, lambda _: cells))
    assert status == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_page_without_a_folder_is_refused_before_anything_is_scored(
    config: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", str(images), "--labels", "none.csv", "--html", str(tmp_path / "no" / "page.html")]
    assert main(["models", "evaluate", "chest", *words, "--config", str(config)]) == 2
    assert f"{tmp_path / 'no'}: there is no such folder" in capsys.readouterr().err
