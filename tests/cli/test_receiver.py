"""`collimator receiver`: its processes, how they stand in for each other, and how they stop."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from scu.store import Address, describe, send_files
from storage.arrivals.receivers import receiver_signs
from storage.database import Database
from storage.instances import Spool
from storage.tables import instances, quarantine, studies
from tests.factories.ports import free_port
from tests.factories.sources import radiograph
from tests.inference.processes import is_running
from tests.journeys.house import LOOPBACK, Process, wait_until

CONFIGURATION = """\
[node]
data_dir = "{data_dir}"
[receiver]
port = {port}
{more}
minimum_free_gb = 0
minimum_free_percent = 0
[[clinics]]
name = "st-mary"
tier = "basic"
[[clinics.callers]]
ae_title = "MODALITY1"
"""
released = sa.select(studies.c.id).where(studies.c.released_at.is_not(None)).subquery()


class Role:
    """A receiver with all of its processes, seen from outside."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.config = folder / "collimator.toml"
        self.config.write_text(CONFIGURATION.format(data_dir=folder / "var", port=self.port, more=more))
        self.spool = Spool(folder / "var")
        self.database = Database(f"sqlite:///{folder / 'var' / 'collimator.db'}")
        self.database.migrate()

    def start(self) -> None:
        self.process = Process(self.command, self.folder / "log")
        wait_until(lambda: "receiver_ready" in self.log() or self.process.process.poll() is not None, "it is ready")

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "cli", "receiver", "--config", str(self.config)]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def children(self) -> dict[str, int]:
        """Process id by name."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,comm=", "--ppid", str(self.process.process.pid)], capture_output=True, text=True
        ).stdout
        return {line.split(maxsplit=1)[1].strip(): int(line.split()[0]) for line in listed.splitlines()}

    def send(self, number: int, content: str = "") -> int | None:
        """Send a radiograph as the modality; the Status."""
        dataset = radiograph(number)
        dataset.StudyDescription = content
        path = self.folder / "sent.dcm"
        dataset.save_as(path, enforce_file_format=True)
        address = Address(ae_title="COLLIMATOR", host=LOOPBACK, port=self.port)
        (outcome,) = send_files([describe(path)], address, calling_ae_title="MODALITY1", timeout_s=30.0)
        return outcome.status

    def count(self, table: sa.FromClause) -> int:
        with self.database.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.fixture
def role(tmp_path: Path) -> Iterator[Callable[[str], Role]]:
    """Starts a receiver with more lines in its section [receiver]."""
    roles: list[Role] = []

    def started(more: str = "") -> Role:
        roles.append(Role(tmp_path, more))
        roles[-1].start()
        return roles[-1]

    yield started
    for one in roles:
        one.process.stop(signal.SIGKILL)
        one.database.close()


def test_one_listener_and_one_indexer_do_the_work_of_a_default_receiver(role: Callable[[str], Role]) -> None:
    receiver = role("")
    assert sorted(receiver.children()) == ["indexer", "listener 0"]
    assert receiver.send(1) == 0x0000
    wait_until(lambda: receiver.count(instances) == 1, "it has its row")
    wait_until(lambda: receiver.count(released) == 1, "its study is released")


def test_none_of_its_processes_holds_what_decodes_pixels(role: Callable[[str], Role]) -> None:
    receiver = role("")
    assert receiver.send(1) == 0x0000
    wait_until(lambda: receiver.count(instances) == 1, "it has its row")
    for process_id in receiver.children().values():
        mapped = Path(f"/proc/{process_id}/maps").read_text()
        assert "/pydantic_core/" in mapped
        assert [name for name in ("numpy", "PIL", "_gdcm", "openjpeg") if f"/{name}/" in mapped] == []


def test_a_receiver_makes_the_tables_of_a_new_node(tmp_path: Path) -> None:
    receiver = Role(tmp_path)
    receiver.database.close()
    for file in (tmp_path / "var").glob("collimator.db*"):
        file.unlink()
    receiver.start()
    assert receiver.send(1) == 0x0000
    wait_until(lambda: "instances_recorded" in receiver.log(), "it has its row")
    assert receiver.count(instances) == 1
    assert receiver.process.stop() == 0


def test_a_receiver_whose_database_cannot_be_used_ends(tmp_path: Path) -> None:
    receiver = Role(tmp_path)
    receiver.database.close()
    for file in (tmp_path / "var").glob("collimator.db*"):
        file.unlink()
    (tmp_path / "var" / "collimator.db").mkdir()
    ended = subprocess.run(receiver.command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "cannot be used" in ended.stderr


def test_no_process_of_a_receiver_loads_what_decodes_pixels(role: Callable[[str], Role]) -> None:
    receiver = role("")
    assert receiver.send(1) == 0x0000
    wait_until(lambda: receiver.count(instances) == 1, "all of them have worked")
    for process_id in (receiver.process.process.pid, *receiver.children().values()):
        loaded = Path(f"/proc/{process_id}/maps").read_text()
        assert "/pydantic_core/" in loaded
        assert not any(f"/{package}/" in loaded for package in ("numpy", "PIL"))


def test_a_listener_does_without_pynetdicom() -> None:
    check = "import sys, cli.listener; sys.exit('pynetdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0


def test_several_listeners_share_the_port_and_are_told_as_ready_when_all_are(role: Callable[[str], Role]) -> None:
    receiver = role("processes = 3")
    assert sorted(receiver.children()) == ["indexer", "listener 0", "listener 1", "listener 2"]
    assert receiver.log().index("receiver_ready") > max_index(receiver.log(), "receiver_listening", 3)
    for number in range(1, 9):
        assert receiver.send(number) == 0x0000
    wait_until(lambda: receiver.count(instances) == 8, "all have their rows")


@pytest.mark.parametrize("name", ["listener 0", "indexer"])
def test_a_process_that_is_killed_comes_back_and_nothing_is_lost(role: Callable[[str], Role], name: str) -> None:
    receiver = role("")
    killed = receiver.children()[name]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: receiver.children().get(name, killed) != killed, f"{name} is back")
    wait_until(lambda: receiver.log().count("receiver_listening") == (2 if name == "listener 0" else 1), "it listens")
    assert receiver.send(1) == 0x0000
    wait_until(lambda: receiver.count(instances) == 1, "it has its row")


def test_what_is_received_while_the_indexer_is_gone_is_indexed_when_it_is_back(role: Callable[[str], Role]) -> None:
    receiver = role("")
    os.kill(receiver.children()["indexer"], signal.SIGSTOP)
    assert [receiver.send(number) for number in range(1, 6)] == [0x0000] * 5
    os.kill(receiver.children()["indexer"], signal.SIGKILL)
    wait_until(lambda: receiver.count(instances) == 5, "all have their rows")


def test_what_a_listener_that_died_had_begun_is_cleared_away(role: Callable[[str], Role]) -> None:
    receiver = role("")
    process_id = receiver.children()["listener 0"]
    left = receiver.spool.root / "00" / f"{'0' * 32}.{process_id}.part"
    left.write_bytes(b"half")
    os.kill(process_id, signal.SIGKILL)
    wait_until(lambda: not left.exists(), "it is gone")


def test_what_an_earlier_receiver_left_is_cleared_away_at_the_start(tmp_path: Path) -> None:
    receiver = Role(tmp_path)
    (receiver.spool.root / "00" / f"{'0' * 32}.{2**22 + 1}.part").write_bytes(b"half")
    receiver.start()
    assert list(receiver.spool.unfinished()) == []
    assert receiver.process.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_receiver_that_is_told_to_stop_indexes_what_it_has_and_leaves_no_process(
    role: Callable[[str], Role], number: signal.Signals
) -> None:
    receiver = role("processes = 2")
    children = receiver.children().values()
    assert receiver.send(1) == 0x0000
    assert receiver.process.stop(number) == 0
    assert receiver.count(instances) == 1
    assert not any(Path(f"/proc/{process_id}").exists() for process_id in children)
    assert receiver_signs(receiver.database) == []


def test_the_terminals_interrupt_which_all_processes_get_stops_them_in_order(role: Callable[[str], Role]) -> None:
    receiver = role("")
    assert receiver.send(1) == 0x0000
    for process_id in receiver.children().values():
        os.kill(process_id, signal.SIGINT)
    assert receiver.process.stop(signal.SIGINT) == 0
    assert receiver.count(instances) == 1


def test_children_end_when_their_parent_is_killed(role: Callable[[str], Role]) -> None:
    receiver = role("processes = 2")
    children = list(receiver.children().values())
    receiver.process.stop(signal.SIGKILL)
    wait_until(lambda: not any(is_running(process_id) for process_id in children), "all have ended")


def test_a_receiver_may_be_started_the_moment_after_its_predecessor_was_killed(role: Callable[[str], Role]) -> None:
    receiver = role("")
    receiver.process.stop(signal.SIGKILL)
    receiver.start()
    wait_until(lambda: receiver.log().count("receiver_ready") == 2, "it is ready again")
    assert receiver.send(1) == 0x0000


def test_a_conflicting_instance_is_answered_with_a_warning_where_that_is_asked_for(
    role: Callable[[str], Role],
) -> None:
    receiver = role('conflicting_instances = "warn"')
    statuses = [receiver.send(1, content) for content in ("first", "first", "other")]
    assert statuses == [0x0000, 0x0000, 0x0111]
    assert (receiver.count(instances), receiver.count(quarantine)) == (1, 1)


def test_a_conflicting_instance_is_accepted_without_a_word_by_default(role: Callable[[str], Role]) -> None:
    receiver = role("")
    assert [receiver.send(1, content) for content in ("first", "other")] == [0x0000, 0x0000]
    wait_until(lambda: receiver.count(quarantine) == 1, "it is in quarantine")


def test_a_port_that_is_taken_ends_the_receiver_and_says_so(tmp_path: Path) -> None:
    receiver = Role(tmp_path)
    with socket.create_server((LOOPBACK, receiver.port)):
        receiver.start()
        assert receiver.process.process.wait(60) == 2
    assert f"the receiver cannot listen on {LOOPBACK}:{receiver.port}: Address already in use" in receiver.log()
    wait_until(lambda: not any(is_running(p) for p in receiver.children().values()), "nothing is left running")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('processes = 2\npath = "stock"', 'receiver.path is "stock" and receiver.processes is more than 1'),
        ("processes = 2\n#", "receiver.port is 0 and receiver.processes is more than 1"),
    ],
)
def test_what_several_listeners_cannot_do_is_told_before_any_starts(tmp_path: Path, more: str, says: str) -> None:
    receiver = Role(tmp_path, more)
    if more.endswith("#"):
        receiver.config.write_text(receiver.config.read_text().replace(f"port = {receiver.port}", "port = 0"))
    ended = subprocess.run(receiver.command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, says in ended.stderr) == (2, True)


def test_a_receiver_shows_that_it_is_alive(role: Callable[[str], Role]) -> None:
    receiver = role("processes = 2")
    (sign,) = wait_until(lambda: receiver_signs(receiver.database), "it has shown itself")
    assert sign.name == f"{socket.gethostname()}:{receiver.port}"
    assert sign.is_alive


def test_the_indexer_gives_way_to_the_listeners(role: Callable[[str], Role]) -> None:
    children = role("").children()
    assert os.getpriority(os.PRIO_PROCESS, children["indexer"]) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    assert os.getpriority(os.PRIO_PROCESS, children["listener 0"]) == os.getpriority(os.PRIO_PROCESS, 0)


def max_index(text: str, word: str, count: int) -> int:
    """Where the last of so many stands."""
    position = -1
    for _ in range(count):
        position = text.index(word, position + 1)
    return position
