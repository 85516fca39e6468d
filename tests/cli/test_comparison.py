"""`collimator models compare`, as a person or a script calls it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.__main__ import main
from domain.versions import Role
from storage.database import Database
from tests.factories.databases import copied
from tests.factories.runs import ran, study


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    with copied(sqlite_template, tmp_path / "var" / "collimator.db") as database:
        yield database


@pytest.fixture
def config(tmp_path: Path, database: Database) -> str:
    """Two studies that 1.0.0 and 1.1.0 have seen."""
    for number, after in ((1, 0.9), (2, 0.7)):
        study_id = study(database, number)
        ran(database, study_id, number, 0.6, version="1.0.0")
        ran(database, study_id, number, after, version="1.1.0", role=Role.SHADOW)
    path = tmp_path / "collimator.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "var"}"\n', encoding="utf-8")
    return str(path)


def test_people_get_two_tables(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "compare", "chest", "--config", config]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1.0.0", "2", "2", "0", "0.020", "0.020"]
    assert "chest from 1.0.0 to 1.1.0: 2 images of 2 studies seen by both" in lines
    assert lines[-1].split() == [
        "Pneumonia",
        "2",
        "1.000",
        "-",
        "2",
        "0",
        "0",
        "0",
        "0.200",
        "0.300",
        "+0.200",
        "-",
        "+0",
        "-0",
        "+0",
        "-0",
    ]


def test_programs_get_a_list_of_one_object(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "compare", "chest", "--json", "--since", "2026-01-01", "--config", config]) == 0
    (compared,) = json.loads(capsys.readouterr().out)
    assert list(compared) == ["package", "from_version", "to_version", "studies", "images", "labels"]
    assert list(compared["from_version"]) == [
        "version", "studies", "images", "failed_studies", "infer_p50_s", "infer_p95_s",
    ]  # fmt: skip
    assert list(compared["labels"][0]) == [
        "label", "images", "from_threshold", "to_threshold", "both", "only_from", "only_to", "neither", "agreement",
        "kappa", "difference_mean", "difference_p95", "shift", "psi", "from_words", "to_words",
    ]  # fmt: skip


def test_one_version_alone_is_one_line_on_stderr(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "compare", "spine", "--config", config]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("collimator: spine has no two versions to compare: there are no runs of it (")


def test_a_day_that_is_none_is_wrong_usage(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", "compare", "chest", "--since", "yesterday", "--config", config])
    assert ended.value.code == 2
    assert "invalid day value: 'yesterday'" in capsys.readouterr().err
