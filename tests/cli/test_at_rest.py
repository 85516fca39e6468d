"""A key file that does not fit what is encrypted is said to be so before a role works with it, and by the doctor."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cli.__main__ import main
from cli.at_rest import check_keys, look_at_keys
from config.settings import Settings, check
from domain.errors import Misconfigured
from storage.study_keys import MasterKey, StudyKeys, study_name

OLD, NEW = MasterKey(secret=b"o" * 32), MasterKey(secret=b"n" * 32)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """With the new key alone."""
    path = tmp_path / "key"
    path.write_text("6e" * 32, encoding="ascii")
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(tmp_path: Path, key_file: Path) -> Settings:
    return check(
        {"node": {"data_dir": str(tmp_path)}, "storage": {"encryption_key_file": str(key_file)}}, origin="test"
    )


def encrypted(folder: Path, *studies: int, with_key: MasterKey) -> None:
    for number in studies:
        StudyKeys(folder, [with_key]).key_of(study_name("st-mary", f"1.2.{number}"))


def said(settings: Settings) -> list[tuple[bool, bool, str]]:
    return [(finding.is_well, finding.is_fatal, finding.says) for finding in look_at_keys(settings)]


def test_a_key_file_that_fits_is_well(tmp_path: Path, settings: Settings, key_file: Path) -> None:
    encrypted(tmp_path, 1, 2, with_key=NEW)
    with capture_logs() as log:
        check_keys(settings)
    assert log == []
    assert said(settings) == [(True, True, f"{key_file} opens the study keys (2 looked at)")]


def test_a_new_node_has_no_keys_to_fit(settings: Settings, key_file: Path) -> None:
    check_keys(settings)
    assert said(settings) == [(True, True, f"{key_file} opens the study keys (0 looked at)")]


def test_with_the_key_file_of_another_node_no_role_starts(tmp_path: Path, settings: Settings, key_file: Path) -> None:
    encrypted(tmp_path, 1, 2, with_key=OLD)
    with pytest.raises(Misconfigured, match="is not the key file with which studies were encrypted"):
        check_keys(settings)
    assert said(settings) == [
        (False, True, f"2 of 2 study keys are wrapped with a key that is not in {key_file}"),
    ]


@pytest.mark.parametrize("role", ["receiver", "worker"])
def test_a_role_ends_with_the_status_of_a_wrong_configuration(
    tmp_path: Path, settings: Settings, key_file: Path, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted(tmp_path, 1, with_key=OLD)
    config = tmp_path / "collimator.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path}"\n[storage]\nencryption_key_file = "{key_file}"\n', encoding="utf-8"
    )
    assert main([role, "--config", str(config)]) == 2
    assert "storage.encryption_key_file" in capsys.readouterr().err


def test_keys_of_some_studies_that_are_lost_are_an_error_in_the_log_and_stop_nobody(
    tmp_path: Path, settings: Settings, key_file: Path
) -> None:
    encrypted(tmp_path, 1, with_key=OLD)
    encrypted(tmp_path, 2, 3, with_key=NEW)
    with capture_logs() as log:
        check_keys(settings)
    assert log == [{"event": "study_keys_lost", "log_level": "error", "count": 1}]
    assert said(settings)[0][:2] == (False, True)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_file_that_others_may_read_is_a_warning(settings: Settings, key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with capture_logs() as log:
        check_keys(settings)
    assert log == [{"event": "key_file_is_open_to_others", "log_level": "warning", "where": str(key_file)}]
    assert said(settings)[1:] == [(False, False, f"other users of this machine may read the key in {key_file}")]


def test_where_nothing_is_encrypted_there_is_nothing_to_say(tmp_path: Path) -> None:
    settings = check({"node": {"data_dir": str(tmp_path)}}, origin="test")
    check_keys(settings)
    assert said(settings) == []
