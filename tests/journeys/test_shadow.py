"""A new version of a model watches beside the one in use: the PACS, the ledger and the reports know nothing of it."""

import signal
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.tables import model_runs
from tests.factories.packages import build_package
from tests.journeys.house import Node, Orthanc, wait_until

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")
SHADOW_KILLED = Path(__file__).with_name("shadow_killed.py")
MODELS = """
[[clinics.models]]
package = "chest"
active = "1.0.0"
shadow = ["1.1.0", "1.2.0"]
"""


def runs(node: Node) -> list[tuple[str, str, bool]]:
    with node.database.read() as connection:
        rows = connection.execute(sa.select(model_runs).order_by(model_runs.c.id)).all()
    return [(row.version, row.role, bool(row.scores)) for row in rows]


def test_what_a_shadow_says_stays_in_the_node(node: Node, orthanc: Orthanc, chest: Path) -> None:
    build_package(node.data_dir / "models" / "chest" / "1.1.0", version="1.1.0", thresholds=(0.0, 0.0))
    build_package(node.data_dir / "models" / "chest" / "1.2.0", version="1.2.0", age_max_years=5)
    node.config.write_text(node.config.read_text() + MODELS)
    node.start("receiver")
    node.start("worker")
    orthanc.start(node_port=node.receiver_port)
    assert node.send(chest) == ["stored"]
    history = node.wait_for("done")
    wait_until(lambda: len(runs(node)) == 3, "all versions have looked")
    assert runs(node) == [("1.0.0", "active", True), ("1.1.0", "shadow", True), ("1.2.0", "shadow", False)]
    assert {finding.model_version for finding in history.findings} == {"1.0.0"}
    assert len(orthanc.instances()) == len(history.results) == 3
    assert [row.packages for row in node.ledger()] == [("chest",)]
    assert [one.events for one in node.histories()] == [history.events]


@pytest.mark.parametrize(
    ("program", "step"),
    [
        (SHADOW_KILLED, "amid the watch"),
        (KILLED_WORKER, "watch chest 1.1.0"),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_a_worker_that_is_killed_while_a_shadow_looks_leaves_one_run_of_each_version_and_one_charge(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, program: Path, step: str
) -> None:
    node = sqlite_node
    for version in ("1.1.0", "1.2.0"):
        build_package(node.data_dir / "models" / "chest" / version, version=version)
    node.config.write_text(node.config.read_text() + MODELS)
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    killed = node.start_command([sys.executable, str(program), str(node.config)], "killed_worker", KILLED_AFTER=step)
    node.send(chest)
    assert killed.process.wait(120) == -signal.SIGKILL
    node.start("worker")
    history = node.wait_for("done")
    wait_until(lambda: not jobs_left(node), "no job is left")
    assert runs(node) == [("1.0.0", "active", True), ("1.1.0", "shadow", True), ("1.2.0", "shadow", True)]
    assert len(orthanc.instances()) == len(history.results) == 3
    assert len(node.ledger()) == 1


def jobs_left(node: Node) -> int:
    with node.database.read() as connection:
        waiting = sa.text("SELECT count(*) FROM workflow_status WHERE status IN ('ENQUEUED', 'PENDING')")
        return int(connection.scalar(waiting) or 0)
