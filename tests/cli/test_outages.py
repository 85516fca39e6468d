"""What is away, or not for this user, is one line and status 1, whatever the verb; a bug keeps its trace."""

import errno
import getpass
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli.__main__ import main
from cli.parts import open_database
from config.settings import load
from storage.study_keys import MasterKey, StudyKeys
from tests.factories.ports import free_port

READING = [["studies"], ["study", "1.2.3"], ["ledger"], ["subscriptions"], ["commitments"], ["keys", "list"]]


def configured(folder: Path, *, database_url: str = "", data_dir: str = "") -> str:
    config = folder / "collimator.toml"
    config.write_text(f'[node]\ndata_dir = "{data_dir or folder / "var"}"\ndatabase_url = "{database_url}"\n')
    return str(config)


def said(arguments: list[str], config: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a verb that fails."""
    assert main([*arguments, "--config", config]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removesuffix("\n")


@pytest.mark.parametrize("arguments", READING)
def test_a_database_server_that_is_away_is_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, database_url=f"postgresql://node:geheim@127.0.0.1:{free_port()}/collimator")
    line = said(arguments, config, capsys)
    assert line.startswith("collimator: the database does not answer: ")
    assert line.endswith("(check node.database_url and the server)")
    assert "geheim" not in line


def test_a_server_that_nobody_has_migrated_is_one_line_with_the_verb_that_does(
    postgresql_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(["studies"], configured(tmp_path, database_url=postgresql_url), capsys)
    assert line == "collimator: the database is not at this version (run `collimator migrate`)"


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    line = said(["studies"], configured(tmp_path, data_dir=str(tmp_path / "file" / "var")), capsys)
    assert (
        line == f"collimator: {tmp_path}/file/var: Not a directory (is it there, and may {getpass.getuser()} use it?)"
    )


def test_a_disk_that_is_full_in_the_middle_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{'6e' * 32}\n{'6f' * 32}\n")
    StudyKeys(tmp_path / "var", [MasterKey(secret=b"o" * 32)]).key_of("")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", full)
    monkeypatch.setenv("COLLIMATOR_STORAGE__ENCRYPTION_KEY_FILE", str(keys))
    line = said(["storage", "rotate-keys"], configured(tmp_path), capsys)
    assert line == "collimator: No space left on device (make room on the disk, and do it again)"


def test_who_only_reads_does_not_wait_for_a_frozen_process_that_was_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a role reads when it starts, too: were it Misconfigured, it would end the whole node."""
    config = configured(tmp_path)
    assert main(["migrate", "--config", config]) == 0
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_MS", 200)
    frozen = sqlite3.connect(tmp_path / "var" / "collimator.db", isolation_level=None)
    frozen.execute("BEGIN IMMEDIATE")
    assert main(["studies", "--config", config]) == 0
    open_database(load(Path(config))).close()
    frozen.close()


def test_a_bug_keeps_its_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_args: object) -> int:
        raise sa.exc.ProgrammingError("SELECT x", {}, Exception("syntax error"))

    monkeypatch.setattr("cli.migrate.run", fail)
    with pytest.raises(sa.exc.ProgrammingError):
        main(["migrate", "--config", configured(tmp_path)])
