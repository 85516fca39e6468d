"""`collimator portal` as a process of its own, on a real socket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from storage.api_keys import create_key
from storage.database import Database
from tests.factories.ports import free_port

HEAVY = ("torch", "onnxruntime", "highdicom", "pynetdicom", "dbos", "imagecodecs", "numpy", "pydicom", "stripe")
STARTS_WITHIN_S = 60.0


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def config(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "collimator.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "var"}"\n[portal]\nport = {port}\n[[clinics]]\nname = "a"\ntier = "basic"\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def portal(config: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A portal that answers."""
    command = [sys.executable, "-m", "cli", "portal", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health")
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_the_portal_answers_without_a_banner_and_logs_no_query(
    portal: subprocess.Popen[str], port: int, tmp_path: Path
) -> None:
    key = create_key(Database(f"sqlite:///{tmp_path / 'var' / 'collimator.db'}"), name="one", role="viewer")
    answer = httpx.get(
        f"http://127.0.0.1:{port}/api/v1/studies",
        params={"accession_number": "CANARY-1"},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.json() == []
    assert "Server" not in answer.headers
    portal.send_signal(signal.SIGTERM)
    logged = portal.communicate()[1]
    assert "where=/api/v1/studies" in logged
    assert "CANARY" not in logged
    assert key not in logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_portal_ends_well_when_told_to(portal: subprocess.Popen[str], number: signal.Signals) -> None:
    portal.send_signal(number)
    logged = portal.communicate(timeout=30)[1]
    assert portal.returncode == 0
    assert "Traceback" not in logged


def test_a_browser_without_a_network_shows_the_documentation(
    portal: subprocess.Popen[str], port: int, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert os.environ.get("COLLIMATOR_CI") != "1", "chromium is not installed, and CI must not skip"
        pytest.skip("chromium is not installed")
    page = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"http://127.0.0.1:{port}/docs",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert "Authorize" in page
    assert "All that was done to one study, and why" in page
    assert "Unable to render" not in page


def test_a_port_that_is_taken_is_told_as_what_it_is(config: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        command = [sys.executable, "-m", "cli", "portal", "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"the portal cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


def test_the_portal_imports_nothing_heavy() -> None:
    code = f"import sys, cli.portal; print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
