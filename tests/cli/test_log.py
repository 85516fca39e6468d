"""The log holds known keys only, and nothing that a peer sent starts a line of its own."""

import io
import json
import sys

import pytest
import structlog

from cli.log import ALLOWED_KEYS, configure, escape_control_characters, keep_allowed_keys


@pytest.fixture(autouse=True)
def _structlog_as_before() -> object:
    yield
    structlog.reset_defaults()


def logged(monkeypatch: pytest.MonkeyPatch, output_format: str, level: str = "info", **values: object) -> str:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure(output_format=output_format, level=level)
    structlog.get_logger().info("instance_recorded", **values)
    return stderr.getvalue()


@pytest.mark.parametrize("key", ["patient_name", "patient_id", "birth_date", "dataset", "value", "accession_number"])
def test_a_key_that_is_not_on_the_list_does_not_reach_the_log(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    for output_format in ("json", "console"):
        told = logged(monkeypatch, output_format, clinic="st-mary", **{key: "DOE^JANE"})
        assert "st-mary" in told
        assert "DOE" not in told
        assert key not in told


def test_the_list_names_nobody() -> None:
    assert [key for key in ALLOWED_KEYS if "patient" in key or "name" in key or "birth" in key] == []


def test_every_line_of_the_json_log_is_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = logged(monkeypatch, "json", calling_ae="CT\n{}", status="0x0000").splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["calling_ae"]) == ("instance_recorded", "info", "CT\\n{}")
    assert set(event) == {"event", "level", "timestamp", "calling_ae", "status"}


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("A\nB", "A\\nB"),
        ("A\r\nB", "A\\r\\nB"),
        ("A\x1b[2J", "A\\x1b[2J"),
        ("A\0B", "A\\x00B"),
        ("A\u2028B", "A\\u2028B"),
        ("A\u202eB", "A\\u202eB"),
        ("MÜLLER 山田", "MÜLLER 山田"),
    ],
)
def test_a_control_character_is_written_out(sent: str, written: str) -> None:
    assert escape_control_characters(None, "info", {"calling_ae": sent}) == {"calling_ae": written}


def test_what_a_peer_sent_cannot_begin_a_line_on_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    told = logged(monkeypatch, "console", error="refused\n2026-01-01 [info] all_is_well")
    assert len(told.splitlines()) == 1


def test_less_than_the_level_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logged(monkeypatch, "json", level="warning") == ""


def test_what_is_no_text_is_kept_as_it_is() -> None:
    assert keep_allowed_keys(None, "info", {"count": 3, "other": 4}) == {"count": 3}
    assert escape_control_characters(None, "info", {"count": 3}) == {"count": 3}
