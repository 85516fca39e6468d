"""Processes as the kernel tells of them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def children(process_id: int) -> list[int]:
    """Process ids of the direct children."""
    tasks = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(child) for task in tasks for child in _read(task).split()]


def running_children(module: str) -> list[int]:
    """Those of this process that run `python -m MODULE`."""
    name = module.encode()
    commands = {child: _read(Path(f"/proc/{child}/cmdline")) for child in children(os.getpid())}
    return sorted(child for child, command in commands.items() if name in command.split(b"\0") and is_running(child))


def is_running(process_id: int) -> bool:
    status = _read(Path(f"/proc/{process_id}/stat"))
    return bool(status) and status.rsplit(b")", 1)[1].split()[0] != b"Z"


def _read(path: Path) -> bytes:
    """Empty where the process, or the thread, has ended: it may do so at any moment, also while this reads."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def has_landlock() -> bool:
    """Whether this kernel closes other processes to one that asks for it."""
    asks = "from inference.no_neighbours import take_neighbours_away; take_neighbours_away()"
    ended = subprocess.run([sys.executable, "-c", asks], cwd=Path(__file__).parents[2], capture_output=True)
    return ended.returncode == 0
