"""What a power failure would spare, in the order in which the kernel is asked for it, for one C-STORE.

write  ->  fdatasync  ->  rename  ->  fsync of the directory  ->  C-STORE-RSP
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.instances import Spool
from tests.conftest import skip_or_fail
from tests.factories import hostile
from tests.journeys.house import Node, wait_until

CALLS = "trace=write,writev,pwrite64,pwritev,fdatasync,fsync,rename,renameat,renameat2,sendto,sendmsg"
LINE = re.compile(r"(?P<thread>\d+) +(?P<resumed><\.\.\. )?(?P<name>\w+)(?P<rest>.*)")


@dataclass
class Call:
    """A system call; `began` and `ended` are places in the trace, which may lie apart when threads run side by side."""

    name: str
    thread: str
    arguments: str
    began: int
    ended: int


@pytest.mark.parametrize("pixels", [1_000, 3_000_000], ids=["in one piece", "in many pieces"])
def test_the_answer_leaves_after_the_instance_is_durable(
    tmp_path: Path, require_program: Callable[[str], str], pixels: int
) -> None:
    trace, node = tmp_path / "trace", Node(tmp_path, pacs_port=1)
    role = [sys.executable, "-m", "cli", "receiver", "--config", str(node.config)]
    # -D: the tracer steps aside, so that the process that the test stops is the receiver itself.
    traced = [require_program("strace"), "-D", "-f", "-y", "-s", "16", "-o", str(trace), "-e", CALLS, *role]
    try:
        node.start_command(traced, "receiver")
    except AssertionError:
        if "ptrace" in (tmp_path / "receiver.log").read_text():
            skip_or_fail("this machine does not let a process be traced")
        raise
    with hostile.Peer(node.receiver_port, timeout_s=30.0) as peer:
        assert (
            peer.associate().say(*hostile.store("2.25.1", hostile.an_instance("2.25.1", pixels=pixels))).status() == 0
        )
    (key,) = Spool(node.data_dir).stored_keys()
    wait_until(lambda: "sendto" in trace.read_text(), "the trace is written")
    node.stop()

    calls = read(trace)
    writes = [call for call in calls if "write" in call.name and f"/{key}." in call.arguments]
    sync = only(call for call in calls if call.name == "fdatasync" and f"/{key}." in call.arguments)
    rename = only(call for call in calls if "rename" in call.name and f"{key}.dcm" in call.arguments)
    directory = only(call for call in calls if call.name == "fsync" and f"spool/{key[:2]}>" in call.arguments)
    answer = next(call for call in calls if call.name.startswith("send") and call.began > writes[0].began)
    assert '"\\4' in answer.arguments, "a P-DATA-TF"
    assert answer.thread == writes[0].thread
    assert writes[-1].ended < sync.began
    assert sync.ended < rename.began
    assert rename.ended < directory.began
    assert directory.ended < answer.began


def only(calls: Iterable[Call]) -> Call:
    (call,) = calls
    return call


def read(trace: Path) -> list[Call]:
    """The calls in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    for place, line in enumerate(trace.read_text(encoding="utf-8", errors="replace").splitlines()):
        match = LINE.fullmatch(line)
        if match is None:  # a signal, or the end of a process
            continue
        if match["resumed"]:
            open_calls.pop(match["thread"]).ended = place
            continue
        call = Call(match["name"], match["thread"], match["rest"], place, place)
        calls.append(call)
        if line.endswith("<unfinished ...>"):
            call.ended = sys.maxsize
            open_calls[call.thread] = call
    return calls
