"""The floors of the house hold, and a violation of each contract is caught."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = (
    "cli", "workflow", "portal_api", "scp", "scu", "inference", "reports", "metering", "storage", "config", "domain",
)  # fmt: skip

# Contract -> (module that gets a line too much, that line)
PLANTED = {
    "floors": ("scp/echo.py", "import metering.ledger"),
    "doorstep": ("portal_api/auth.py", "import onnxruntime"),
    "frontdoor": ("workflow/intake.py", "import scp.server"),
    "settings": ("workflow/rooms.py", "import config.settings"),
    "dimse": ("workflow/deliver.py", "import pynetdicom"),
    "networks": ("reports/picture/page.py", "import torch"),
    "objects": ("inference/pixels.py", "import highdicom"),
    "web": ("cli/doctor.py", "import fastapi"),
    "payments": ("portal_api/app.py", "import stripe"),
    "engine": ("workflow/steps.py", "import dbos"),
    "database": ("scu/echo.py", "import sqlalchemy"),
    "ciphers": ("scp/callers.py", "import cryptography.x509"),
    "buckets": ("storage/shared/files.py", "import obstore"),
    "domain": ("domain/plans.py", "import numpy"),
    "writers": ("reports/writers/overlay.py", "import reports.writers.text_sr"),
    "acyclic": ("storage/database.py", "import storage.jobs"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms."""
    copy = tmp_path_factory.mktemp("house")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    shutil.copy(ROOT / ".importlinter", copy)
    return copy


def contracts() -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return [name.rpartition(":")[2] for name in parser.sections() if ":contract:" in name]


def lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-cache", "--contract", contract]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_every_contract_has_a_planted_violation() -> None:
    assert sorted(contracts()) == sorted(PLANTED)


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_violation_is_caught(house: Path, contract: str) -> None:
    place, line = PLANTED[contract]
    original = (house / place).read_text()
    assert lint(house, contract).returncode == 0
    try:
        (house / place).write_text(f"{original}\n{line}\n")
        caught = lint(house, contract)
        assert caught.returncode != 0
        assert "BROKEN" in caught.stdout
    finally:
        (house / place).write_text(original)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_the_one_of_this_checkout(room: str) -> None:
    """Several rooms share a name with a package on PyPI; the one that is imported must be ours."""
    found = subprocess.run(
        [sys.executable, "-c", f"import {room}; print({room}.__file__)"], capture_output=True, text=True, cwd="/"
    )
    assert Path(found.stdout.strip()).parent.parent == ROOT


@pytest.mark.parametrize("role", ["receiver", "worker", "portal", "serve"])
def test_a_serving_node_never_imports_torch(role: str) -> None:
    code = f"import sys, cli.{role}; print([m for m in ('torch', 'torchxrayvision', 'onnx') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")
