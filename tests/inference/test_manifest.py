"""A wrong manifest is answered with the file, the key and what was expected."""

import os
import tomllib
from pathlib import Path

import pytest

from domain.errors import Misconfigured
from inference.package import load, rewritten
from inference.reference import Reference, as_toml
from tests.factories.packages import build_package

REFERENCE = """
[reference]
about = "300 images of a test"
[reference.counts]
"score Pneumonia" = { "0.1" = 200, "0.9" = 100 }
grey = { "0.4" = 300 }
view = { PA = 250, unknown = 50 }
"""


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ('name = "chest"', 'name = "../x"', "name: expected small letters, digits and _"),
        ('name = "chest"', "", "name: missing"),
        ('title = "Test network"', 'titel = "x"', "title: missing"),
        ("is_cleared = false", 'is_cleared = "no"', "is_cleared: expected true or false, found 'no'"),
        ("is_cleared = false", "is_cleared = false\nsurprise = 1", "surprise: unknown key"),
        ("accepts_unknown_age = true", "age_min_years = 9\nage_max_years = 3", "accepts_unknown_age: missing"),
        ("accepts_unknown_age = true", "age_min_years = -1", "accepts.age_min_years: expected a whole number from 0"),
        (
            'crop = "none"',
            'crop = "some"',
            'preprocessing.crop: expected "centre_square" or "padded_square" or "none", found \'some\'',
        ),
        ('file = "model.onnx"', 'file = "../model.onnx"', "weights.file: expected a file name that ends in .onnx"),
        ('file = "model.onnx"', 'file = "model.pt"', "weights.file: expected a file name that ends in .onnx"),
        ('source_url = ""', 'source_url = "http://x"', "weights.source_sha256: expected SHA-256 and size"),
        ("tolerance = 0.0001", "tolerance = 1", "golden.tolerance: expected a number from 1e-07 to 0.05"),
        ('label = "Effusion"', 'label = "pneumonia"', "labels: expected every label once"),
        ("threshold = 0.5", "threshold = 1.5", "labels[0].threshold: expected a number from 0 to 1"),
        ('value = "233604007"', 'value = "12345678901234567"', "labels[0].code.value: expected at most 16 characters"),
        ('title = "Test network"', f'title = "{"T" * 65}"', "title: expected at most 64 characters"),
        ('title = "Test network"', r'title = "A\\B"', "title: expected at most 64 characters, without a backslash"),
        ('title = "Test network"', r'title = "A\nB"', "title: expected at most 64 characters, without a backslash"),
        ('"Collimator tests"', r'"A\\B"', "manufacturer: expected at most 64 characters, without a backslash"),
        ('modalities = ["CR", "DX"]', 'modalities = ["px"]', "accepts.modalities: expected capitals"),
        ('modalities = ["CR", "DX"]', "modalities = []", "accepts.modalities: expected at least one"),
        ('body_parts = ["CHEST"]', "body_parts = []", "accepts.body_parts: expected at least one"),
        ('body_parts = ["CHEST"]', 'body_parts = ["Chest"]', "accepts.body_parts: expected capitals"),
        ("views = []", 'views = ["pa"]', "accepts.views: expected capitals"),
        ('body_parts = ["CHEST"]', 'body_parts = [" CHEST"]', "accepts.body_parts: expected capitals"),
        ('body_parts = ["CHEST"]', 'body_parts = [" "]', "accepts.body_parts: expected capitals"),
        ("views = []", 'sop_classes = ["CR Image Storage"]', "accepts.sop_classes: expected SOP Class UIDs, such as"),
        ("views = []", f'sop_classes = ["1.2{".3" * 31}"]', "accepts.sop_classes: expected SOP Class UIDs, such as"),
        ("input_size = 32", f"input_size = 0x{'f' * 6000}", "from 32 to 2048, found a number of thousands of digits"),
        ("input_size = 32", f"input_size = {'9' * 6000}", "not valid TOML"),
        ("input_size = 32", "input_size = nan", "preprocessing.input_size: expected a whole number from 32 to 2048"),
        ("threshold = 0.5", "threshold = nan", "labels[0].threshold: expected a number from 0 to 1, found nan"),
        ('label = "Effusion"', f'label = "{"L" * 65}"', "labels[1].label: expected at most 64 characters"),
        (
            'label = "Effusion"',
            r'label = "A\\B"',
            "labels[1].label: expected at most 64 characters, without a backslash",
        ),
        ('value = "233604007"', r'value = "A\\B"', "labels[0].code.value: expected at most 16 characters, without"),
        ('value = "233604007"', 'value = "233640007"', "code.value: expected a SNOMED CT identifier whose check digit"),
        ('value = "60046008"', 'value = "233604007"', "labels: expected a code of its own, or a site, for each"),
        ("[golden]", "[golden", "not valid TOML"),
        ("[golden]", f"limits = {'[' * 50_000}", "its lists lie too deep in each other"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, line: str, instead: str, message: str) -> None:
    path = build_package(tmp_path / "chest", body_parts=("CHEST",)) / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, instead, 1), encoding="utf-8")
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path / "chest")
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_a_folder_without_a_manifest_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot be read \(No such file or directory\)"):
        load(tmp_path)


def test_a_pipe_is_no_manifest_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.toml")
    with pytest.raises(Misconfigured, match=r"manifest\.toml: is no file"):
        load(tmp_path)


def test_truth_values_are_no_golden_scores(tmp_path: Path) -> None:
    path = build_package(tmp_path / "chest", is_golden_right=False) / "manifest.toml"
    path.write_text(rewritten(path.read_text(encoding="utf-8"), {"scores": "[true, false]"}), encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"golden\.scores: expected a list of numbers from 0 to 1"):
        load(tmp_path / "chest")


def test_no_more_is_read_than_a_manifest_may_have(tmp_path: Path) -> None:
    with (tmp_path / "manifest.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Misconfigured, match="too large; a manifest has at most 262144 bytes"):
        load(tmp_path)


def test_the_device_uid_changes_with_the_manifest(tmp_path: Path) -> None:
    first = load(build_package(tmp_path / "a" / "chest"))
    second = load(build_package(tmp_path / "b" / "chest", version="1.0.1"))
    assert first.device_uid != second.device_uid
    assert first.device_uid == load(build_package(tmp_path / "c" / "chest")).device_uid


def test_a_demonstration_says_so_among_the_models_limits(tmp_path: Path) -> None:
    package = load(build_package(tmp_path / "chest"))
    assert not package.identity(is_demonstration=False).is_demonstration
    assert package.identity(is_demonstration=True).limits[-1].startswith("DEMONSTRATION")


def test_a_manifest_may_publish_how_scores_and_images_were_spread(tmp_path: Path) -> None:
    reference = load(build_package(tmp_path / "chest", tables=REFERENCE)).manifest.reference
    assert reference is not None
    assert reference.counts["score Pneumonia"] == {"0.1": 200, "0.9": 100}
    assert load(build_package(tmp_path / "without" / "chest")).manifest.reference is None
    again = load(build_package(tmp_path / "again" / "chest", tables=as_toml(reference))).manifest.reference
    assert again == reference


@pytest.mark.parametrize("about", ["吉野 and 𠮷野.csv", 'quoted "so"\\', "a\x7fb\tc"])
def test_a_reference_is_written_as_it_is_read_whatever_its_table_is_called(about: str) -> None:
    """Half of a character, as JSON writes some, is none in TOML."""
    written = as_toml(Reference(about=about, counts={"view": {about: 200}}))
    assert tomllib.loads(written) == {"reference": {"about": about, "counts": {"view": {about: 200}}}}


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("score Pneumonia", "score Gout", "reference.counts.score Gout: expected one of ['age', 'device', 'grey', "),
        ('"0.9" = 100', '"0.95" = 100', "reference.counts.score Pneumonia.0.95: expected a bin that drift counts"),
        ('"0.4" = 300', '"0.4" = 30', "reference.counts.grey: expected at least 200 images"),
        ("PA = 250", "PA = -1", "reference.counts.view.PA: expected a whole number from 0 to 1000000000"),
        ('about = "300 images of a test"', "", "reference.about: missing"),
    ],
)
def test_a_reference_that_drift_cannot_be_held_against_is_refused(
    tmp_path: Path, line: str, instead: str, message: str
) -> None:
    assert line in REFERENCE
    with pytest.raises(Misconfigured) as caught:
        build_package(tmp_path / "chest", tables=REFERENCE.replace(line, instead))
    assert message in caught.value.message
