"""A process from which the network was taken has none any more, nor has anything that it starts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONNECT = "import socket; socket.socket(); print('connected')"


def run(code: str) -> subprocess.CompletedProcess[str]:
    begin = "from inference.no_network import take_network_away\n"
    return subprocess.run([sys.executable, "-c", begin + code], cwd=ROOT, capture_output=True, text=True)


def test_before_it_there_is_one() -> None:
    assert run(CONNECT).stdout == "connected\n"


@pytest.mark.parametrize(
    "code",
    [
        CONNECT,
        f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {CONNECT!r}]))",
        "import ctypes; raise SystemExit(ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0) != -1 or "
        "PermissionError(ctypes.get_errno()))",
    ],
    ids=["itself", "a child", "a ring"],
)
def test_afterwards_there_is_none(code: str) -> None:
    ended = run(f"take_network_away()\n{code}")
    assert ended.returncode == 1
    assert "connected" not in ended.stdout
    assert "PermissionError" in ended.stderr or "13" in ended.stderr


def test_a_thread_that_was_there_before_has_none_either() -> None:
    ended = run(
        "import socket, threading\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=lambda: (go.wait(), socket.socket(), print('connected')))\n"
        "thread.start(); take_network_away(); go.set(); thread.join()"
    )
    assert ended.stdout == ""
    assert "PermissionError" in ended.stderr


def test_what_is_open_stays_open() -> None:
    ended = run(
        "from multiprocessing import Pipe\n"
        "ours, theirs = Pipe()\n"
        "take_network_away(); ours.send_bytes(b'here'); print(theirs.recv_bytes().decode())"
    )
    assert ended.stdout == "here\n"
