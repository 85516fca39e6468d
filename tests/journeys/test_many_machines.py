"""Two receivers, three workers and a portal with disks of their own, PostgreSQL and a bucket between them."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from scu.echo import echo
from scu.store import Address, describe, send_files
from tests.factories.packages import build_package
from tests.factories.ports import free_port
from tests.factories.shared_stores import CREDENTIALS, MotoServer, bucket_url
from tests.journeys.house import LOOPBACK, MODALITY, Node, Orthanc, Process, wait_until
from tests.journeys.test_killed_between_steps import another_study

STUDIES = [f"2.25.{number}000" for number in range(1, 13)]


class Machine:
    """One machine with one role: what it shares with the others is the configuration, the database and the bucket."""

    def __init__(self, node: Node, role: str, name: str, shared_url: str) -> None:
        self.data_dir = node.folder / name
        self.port = free_port()
        self._node, self._role, self._name = node, role, name
        self._environment = {
            **CREDENTIALS,
            "COLLIMATOR_NODE__DATA_DIR": str(self.data_dir),
            "COLLIMATOR_RECEIVER__PORT": str(self.port),
            "COLLIMATOR_PORTAL__PORT": str(self.port),
            "COLLIMATOR_STORAGE__SHARED_URL": shared_url,
            "COLLIMATOR_WORKER__CONCURRENCY": "1",
            # That an association was released goes down with a receiver: silence completes its studies.
            "COLLIMATOR_COMPLETION__QUIET_S": "4",
        }
        self.address = Address(ae_title="COLLIMATOR", host=LOOPBACK, port=self.port)

    def start(self) -> Process:
        command = [sys.executable, "-m", "cli", self._role, "--config", str(self._node.config)]
        self.process = self._node.start_command(command, self._name, **self._environment)
        return self.process

    def die_and_come_back(self) -> None:
        """Every process of it is killed at once; then it starts again on the same disk."""
        parent = self.process.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for process_id in (parent, *map(int, children)):
            os.kill(process_id, signal.SIGKILL)
        self.process.process.wait(30)
        self.start()

    def send(self, *paths: Path) -> list[str]:
        def answers() -> bool:
            try:
                echo(self.address, calling_ae_title=MODALITY, timeout_s=5.0)
            except Exception:
                return False
            return True

        wait_until(answers, f"{self._name} answers C-ECHO", within_s=120)
        files = [describe(path) for path in paths]
        outcomes = send_files(files, self.address, calling_ae_title=MODALITY, timeout_s=60.0)
        return [outcome.answer.value for outcome in outcomes]

    def spooled(self) -> list[Path]:
        return [path for path in (self.data_dir / "spool").rglob("*") if path.is_file()]


@pytest.fixture
def node(tmp_path: Path, orthanc: Orthanc, postgresql_url: str) -> Iterator[Node]:
    """What all machines have in common."""
    node = Node(tmp_path, pacs_port=orthanc.port, database_url=postgresql_url)
    migrated = node.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    yield node
    for process in node.processes:
        process.process.terminate()
    node.stop()


@pytest.fixture
def machine(node: Node, moto: MotoServer, tmp_path: Path) -> Callable[[str, str], Machine]:
    model = build_package(tmp_path / "model" / "chest", name="chest")

    def make(role: str, name: str) -> Machine:
        made = Machine(node, role, name, bucket_url(moto, tmp_path.name))
        if role == "worker":
            shutil.copytree(tmp_path / "model" / "chest", made.data_dir / "models" / "chest")
        return made

    assert model
    return make


def test_machines_share_the_work_and_any_of_them_may_die(
    node: Node, machine: Callable[[str, str], Machine], orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    receivers = [machine("receiver", f"receiver_{name}") for name in "ab"]
    workers = [machine("worker", f"worker_{name}") for name in "abc"]
    portal = machine("portal", "the_portal")
    for one in (*receivers, *workers, portal):
        one.start()
    orthanc.start(node_port=receivers[0].port)
    paths = [another_study(chest, tmp_path, uid) for uid in STUDIES]

    assert receivers[0].send(*paths[:3]) == ["stored"] * 3
    receivers[0].die_and_come_back()  # some of the three may have no row, or lie in the bucket without one
    assert receivers[1].send(*paths[6:]) == ["stored"] * 6
    wait_until(lambda: any(history.state == "done" for history in node.histories()), "a study is done", within_s=120)
    workers[0].process.stop(signal.SIGKILL)
    assert receivers[0].send(*paths[3:6]) == ["stored"] * 3

    for uid in STUDIES:
        history = node.wait_for("done", uid)
        assert [result.kind for result in history.results] == ["overlay", "measurement_sr", "text_sr"]
        assert [event.event for event in history.events].count("charged") == 1
    assert sorted(row.study_instance_uid for row in node.ledger()) == sorted(STUDIES)
    assert len(orthanc.instances()) == 3 * len(STUDIES)
    wait_until(lambda: not any(receiver.spooled() for receiver in receivers), "the spools are empty")
    assert len(workers_of(node)) > 1
    answered = httpx.get(f"http://{LOOPBACK}:{portal.port}/health", timeout=30.0).json()
    assert "database" in str(answered)
    assert not portal.data_dir.exists()


def workers_of(node: Node) -> set[str]:
    """Which of them analysed a study."""
    query = sa.text("SELECT DISTINCT executor_id FROM dbos.workflow_status WHERE name = 'process_study'")
    with node.database.read() as connection:
        return set(connection.scalars(query))
