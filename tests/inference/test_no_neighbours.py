"""A process from which its neighbours were taken sees nothing of them any more, nor does anything that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.processes import has_landlock

ROOT = Path(__file__).parents[2]
LOOK = f"print(len(open('/proc/{os.getpid()}/environ', 'rb').read()) > 0)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    begin = "from inference.no_neighbours import take_neighbours_away\n"
    return subprocess.run([sys.executable, "-c", begin + code], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def kernel_with_landlock() -> None:
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")


def test_before_it_the_parents_environment_can_be_read() -> None:
    assert run(LOOK).stdout == "True\n"


@pytest.mark.parametrize(
    "code",
    [LOOK, f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {LOOK!r}]))"],
    ids=["itself", "a child"],
)
def test_afterwards_it_cannot(code: str) -> None:
    ended = run(f"take_neighbours_away()\n{code}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "PermissionError" in ended.stderr


def test_itself_it_still_sees() -> None:
    ended = run("take_neighbours_away()\nprint(len(open('/proc/self/environ', 'rb').read()) > 0)")
    assert ended.stdout == "True\n"
