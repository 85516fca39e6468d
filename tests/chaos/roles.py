"""The node's processes, each killed and started again; and workers on machines of their own, which are not."""

import ctypes
import json
import os
import re
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ingest.process_tree import ProcessTree
from tests.journeys.house import Node, Process
from tests.kill_loop import child_of

PR_SET_CHILD_SUBREAPER = 36

# A namespace of process ids is what makes a worker look like one on another machine: nobody here can tell by a process
# id that it is gone, and when its first process is killed, all go at once. Who is not root becomes it, in there only.
MACHINE = ["unshare", "--pid", "--fork", "--kill-child=KILL", *([] if os.geteuid() == 0 else ["--map-root-user"])]


@dataclass
class Role:
    """One process of the node. `taken`: held by whoever does something to it, so that nobody else does meanwhile."""

    node: Node
    verb: str
    name: str
    machine: list[str] = field(default_factory=list)
    taken: threading.Lock = field(default_factory=threading.Lock)
    process: Process | None = None
    log_before: int = 0

    def start(self) -> None:
        log = self.node.folder / f"{self.name}.log"
        self.log_before = log.stat().st_size if log.exists() else 0
        command = [*self.machine, sys.executable, "-m", "cli", self.verb, "--config", str(self.node.config)]
        self.process = self.node.start_command(command, self.name)

    def kill(self) -> None:
        """The whole role, or where it is a machine that one, at once."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.process.wait(60)

    def kill_child(self, name: str) -> bool:
        """One of a receiver's own children, which the receiver starts again; whether there was one."""
        assert self.process is not None
        child = child_of(self.process.process.pid, name) if self.is_alive() else None
        if child is not None:
            os.kill(child, signal.SIGKILL)
        return child is not None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.process.send_signal(number)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    def is_ready(self) -> bool:
        return self._ready() is not None

    def executor_id(self) -> str | None:
        """The worker's; None while it starts."""
        ready = self._ready()
        return None if ready is None else str(ready["executor"])

    def _ready(self) -> dict[str, object] | None:
        """What it said when it was, since it was last started."""
        if self.process is None or not self.is_alive():
            return None
        said = lines(self.process.log, from_byte=self.log_before)
        return next((line for line in said if line.get("event") == f"{self.verb}_ready"), None)


def lines(log: Path, *, from_byte: int = 0) -> list[dict[str, object]]:
    """What a role logged as JSON, without what libraries print beside it."""
    found = []
    for line in log.read_bytes()[from_byte:].splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def adopt_orphans() -> None:
    """From now on, whatever a process below this one leaves behind when it dies becomes a child of this one."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[str]:
    """The names of all living processes below this one, but for the database server."""
    found = []
    for process_id in ProcessTree(os.getpid()).process_ids():
        try:
            name, state = re.findall(r"^(?:Name|State):\t(\S+)", Path(f"/proc/{process_id}/status").read_text(), re.M)
        except (OSError, ValueError):
            continue
        if process_id != os.getpid() and state != "Z" and not name.startswith("postgres"):
            found.append(name)
    return sorted(found)
