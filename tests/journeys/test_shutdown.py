"""SIGTERM at a bad moment: nothing that was acknowledged is lost, and no object is cut in the middle."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.inference.processes import is_running
from tests.journeys.house import LOOPBACK, Node, Orthanc, Process, wait_until
from tests.journeys.throttle import SlowLine


def test_an_object_under_way_is_stored_and_answered_before_the_node_stops(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, require_program: Callable[[str], str]
) -> None:
    node = sqlite_node
    serving = node.start("serve")
    line = SlowLine(node.receiver_port, bytes_per_s=2_000_000)
    sender = Process(
        [require_program("storescu"), "-aet", "MODALITY1", "-aec", "COLLIMATOR", LOOPBACK, str(line.port), str(chest)],
        node.folder / "storescu.log",
    )
    wait_until(lambda: line.passed > 1_000_000, "a part of the object has passed")
    assert serving.stop() == 0
    assert (sender.process.wait(30), sender.log.read_text()) == (0, "")
    assert len(list((node.data_dir / "spool").rglob("*.dcm"))) == 1
    assert list((node.data_dir / "spool").rglob("*.part")) == []

    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    node.wait_for("done")
    assert len(node.ledger()) == 1


def test_a_worker_stops_within_its_time_though_a_decoder_hangs_and_the_study_goes_on_at_the_next_start(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    node = sqlite_node
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    worker = node.start("worker")
    node.send(chest)
    decoder = ["pgrep", "-P", str(worker.process.pid), "-f", "inference.child"]
    os.kill(int(wait_until(lambda: subprocess.run(decoder, capture_output=True).stdout, "it starts")), signal.SIGSTOP)
    wait_until(lambda: "routed" in [event.event for history in node.histories() for event in history.events], "at work")
    assert worker.stop() == 0  # which waits a minute, as docker/compose.yaml does
    assert not subprocess.run(decoder, capture_output=True).stdout

    node.start("worker")
    assert node.wait_for("done").is_charged


def test_a_supervisor_that_is_killed_leaves_no_role_behind(sqlite_node: Node) -> None:
    node = sqlite_node
    serving = node.start("serve")
    serving.process.kill()
    serving.process.wait()
    wait_until(lambda: not node.answers_echo(), "the receiver is gone", within_s=30.0)
    running = subprocess.run(["pgrep", "-f", str(node.config)], capture_output=True, text=True)
    wait_until(
        lambda: not subprocess.run(["pgrep", "-f", str(node.config)], capture_output=True).stdout,
        f"every role is gone; running: {running.stdout}",
    )


def test_a_role_that_dies_is_started_again(sqlite_node: Node) -> None:
    node = sqlite_node
    node.start("serve")
    # The oldest of its processes is the parent of the others.
    oldest = ["pgrep", "-o", "-f", f"cli receiver --config {node.config}"]
    receiver = int(subprocess.check_output(oldest))
    children = [int(child) for child in subprocess.check_output(["pgrep", "-P", str(receiver)]).split()]
    os.kill(receiver, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, children)), "its children are gone as well")
    wait_until(node.answers_echo, "the receiver is back")
