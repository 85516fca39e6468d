"""The log holds known keys only, and nothing that a peer sent starts a line of its own."""

import ast
import errno
import io
import json
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from cli.log import ALLOWED_KEYS, configure, escape_control_characters, keep_allowed_keys
from cli.log_floods import LogFloods
from tests.house.test_contracts import ROOMS

LOG_CALLS = frozenset(f"log.{level}" for level in ("debug", "info", "warning", "error", "exception"))


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


def test_every_key_that_the_house_logs_is_on_the_list() -> None:
    root = Path(__file__).parents[2]
    keys = {
        keyword.arg
        for room in ROOMS
        for file in (root / room).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in LOG_CALLS
        for keyword in call.keywords
        if keyword.arg is not None
    }
    assert "clinic" in keys
    assert keys - ALLOWED_KEYS - {"exc_info"} == set()


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener goes on accepting, and a peer is told that there is no room, also where the log has none."""
    monkeypatch.setattr(sys, "stderr", FullDisk())
    configure(output_format="json", level="info")
    structlog.get_logger().warning("store_refused", error="the spool's disk is nearly full")


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As when the collector of a container's logs hangs; what is logged once it goes on stands there again."""
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (one.detach() for one in socket.socketpair())
    with open(writing, "w") as stderr, open(reading, "rb", buffering=0) as reader:
        monkeypatch.setattr(sys, "stderr", stderr)
        configure(output_format="json", level="info")

        def log_much() -> None:
            for _ in range(3_000):
                structlog.get_logger().info("study_closed", reason="x" * 200)
            logging.getLogger("a.library").warning("y" * 2_000)

        thread = threading.Thread(target=log_much, daemon=True)
        thread.start()
        thread.join(10.0)
        assert not thread.is_alive()
        os.set_blocking(reading, False)
        while reader.read(1 << 20):
            pass
        structlog.get_logger().info("receiver_stopped")
        assert json.loads(reader.read(1 << 20).splitlines()[-1])["event"] == "receiver_stopped"


def written(address: str, count: int, floods: LogFloods, event: str = "caller_rejected") -> list[int]:
    """`left_out` of each line that is written of so many events; 0 where it has none."""
    lines = []
    for _ in range(count):
        with suppress(structlog.DropEvent):
            lines.append(floods(None, "warning", {"event": event, "peer_address": address}).get("left_out", 0))
    return lines


def test_of_one_event_a_peer_gets_twenty_lines_a_minute_and_the_next_line_tells_how_many_were_left_out() -> None:
    now = 0.0
    floods = LogFloods(clock=lambda: now)
    assert written("192.0.2.1", 500, floods) == [0] * 20
    assert written("192.0.2.1", 1, floods, "peer_silent") == [480]
    assert written("192.0.2.2", 1, floods) == [0]
    assert written("192.0.2.1", 7, floods) == []
    assert floods(None, "info", {"event": "receiver_stopped"}) == {"event": "receiver_stopped", "left_out": 7}
    assert written("192.0.2.1", 3, floods) == []
    now = 60.0
    assert written("192.0.2.1", 21, floods) == [3] + [0] * 19


def test_peers_of_many_addresses_get_two_hundred_lines_of_one_event_together() -> None:
    floods = LogFloods(clock=lambda: 0.0)
    assert sum(len(written(f"192.0.2.{number}", 3, floods)) for number in range(255)) == 200


def test_what_no_peer_caused_is_never_left_out() -> None:
    floods = LogFloods(clock=lambda: 0.0)
    assert all(floods(None, "info", {"event": "study_closed"}) for _ in range(1_000))


def test_the_log_of_the_node_leaves_floods_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure(output_format="json", level="info")
    for _ in range(100):
        structlog.get_logger().warning("caller_rejected", peer_address="192.0.2.1", calling_ae="CT1")
    structlog.get_logger().info("receiver_stopped")
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert (len(lines), lines[-1]["event"], lines[-1]["left_out"]) == (21, "receiver_stopped", 80)
