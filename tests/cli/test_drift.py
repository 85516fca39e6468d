"""`collimator models drift`, as a person or a script calls it."""

import json
from pathlib import Path

import pytest

from cli.__main__ import main
from tests.factories.databases import copied
from tests.factories.runs import age_weeks, count, study


@pytest.fixture
def config(sqlite_template: Path, tmp_path: Path) -> str:
    """200 images of a while ago, and 40 of this week whose scores are others."""
    with copied(sqlite_template, tmp_path / "var" / "collimator.db") as database:
        study_id = study(database, 1)
        count(database, study_id, 200, mean=0.3)
        age_weeks(database, 3)
        count(database, study_id, 40, mean=0.8)
    path = tmp_path / "collimator.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "var"}"\n', encoding="utf-8")
    return str(path)


def test_people_get_a_line_a_feature(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "drift", "--config", config]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["CLINIC", "CALLER", "PACKAGE", "VERSION", "WEEK"]
    alarms = {line.split()[6]: line.split()[-1] for line in lines}
    assert alarms == {"age": "no", "device": "no", "grey": "no", "view": "no", "score": "yes"}


def test_several_weeks_are_a_series_of_each_feature(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "drift", "chest", "--weeks", "4", "--config", config]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    scores = [line.split() for line in lines if "score Pneumonia" in line]
    assert [(line[5], line[-1]) for line in scores] == [("200", "no"), ("40", "yes")]
    assert scores[0][4] < scores[1][4]
    assert main(["models", "drift", "--weeks", "3", "--json", "--config", config]) == 0
    assert {line["images"] for line in json.loads(capsys.readouterr().out)} == {40}


@pytest.mark.parametrize("weeks", ["0", "-1", "521", "two", "1.5"])
def test_a_number_of_weeks_that_is_none_is_named(config: str, capsys: pytest.CaptureFixture[str], weeks: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["models", "drift", "--weeks", weeks, "--config", config])
    assert caught.value.code == 2
    assert f"expected 1 to 520, found '{weeks}'" in capsys.readouterr().err


def test_programs_get_the_counts_as_well(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "drift", "chest", "--json", "--config", config]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert list(lines[0]) == [
        "clinic", "calling_ae_title", "package", "version", "week", "feature", "images", "reference_images", "psi",
        "chance", "is_alarm", "counts", "reference",
    ]  # fmt: skip
    assert {sum(line["reference"].values()) for line in lines} == {200}


def test_after_a_change_that_is_right_the_next_images_are_the_reference(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "drift", "chest", "--new-reference", "--caller", "MODALITY1", "--config", config]) == 0
    assert capsys.readouterr().out.startswith("1 of chest begin anew, with the next 200 images")
    assert main(["models", "drift", "chest", "--new-reference", "--config", config]) == 1
    assert capsys.readouterr().err.startswith("collimator: there is no reference of chest to begin anew")
