"""`collimator demo` clears what it left in its folder before, and nothing else."""

from pathlib import Path

import pytest

from cli.__main__ import main
from cli.demo import check
from cli.demo_roles import CONFIGURATION


def test_a_folder_with_somebodys_own_radiographs_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.demo.demo_pacs", lambda _folder: pytest.fail("it has begun"))
    mine = tmp_path / "chest" / "mine.dcm"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"collimator: --out {tmp_path} holds something that is not an earlier demonstration's "
        "(name a folder that is empty or not there yet)\n"
    )
    assert mine.read_bytes() == b"mine"


def test_a_node_of_somebodys_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collimator.toml").write_text('[[clinics]]\nname = "st-mary"\ntier = "basic"\n')
    with pytest.raises(Exception, match="is not an earlier demonstration's"):
        check(tmp_path)


def test_an_earlier_demonstration_an_empty_folder_and_none_are_taken(tmp_path: Path) -> None:
    check(tmp_path)
    check(tmp_path / "none")
    names = ("node", "data_dir", "receiver_port", "portal_port", "tier", "modality", "pacs", "pacs_port")
    (tmp_path / "collimator.toml").write_text(CONFIGURATION.format(clinic="demo-clinic", **dict.fromkeys(names, 1)))
    (tmp_path / "chest").mkdir()
    check(tmp_path)
