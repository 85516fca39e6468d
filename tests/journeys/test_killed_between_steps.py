"""A worker that is killed after any step, or within one: one set of results and one ledger row all the same."""

import signal
import sys
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import UID

from tests.chaos.promises import jobs_table
from tests.journeys.house import Node, Orthanc, Process, wait_until

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")

JOB = "workflow_uuid = 'study:1:1'"
STATUS = sa.text(f"SELECT status FROM workflow_status WHERE {JOB}")
TAKEN_BACK = sa.text(f"UPDATE workflow_status SET status = 'PENDING' WHERE {JOB}")
OF_NOBODY = sa.text(f"UPDATE workflow_status SET executor_id = 'elsewhere/pid:[1]/1/0a1b2c3d' WHERE {JOB}")

# The steps of process_study and of drain in their order, and what they do before their rows are committed: the worker
# is killed after each of them.
STEPS = (
    *("admit", "analyse", "write", "hand over"),
    *("look", "send", "record", "go on"),
)


@pytest.mark.slow
def test_a_worker_killed_after_any_step_leaves_one_set_of_results_and_one_charge(
    node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    """Each worker finishes what the one before it has begun, and is killed in the next study."""
    doomed = tmp_path / "doomed"
    doomed.write_text("")

    def start_worker() -> Process:
        command = [sys.executable, str(KILLED_WORKER), str(node.config)]
        return node.start_command(command, "killed_worker", KILLED_AFTER=f"@{doomed}")

    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    worker = start_worker()
    for number, step in enumerate(STEPS, start=1):
        study_instance_uid = f"2.25.{number}000"
        doomed.write_text(step)
        node.send(another_study(chest, tmp_path, study_instance_uid))
        assert worker.process.wait(120) == -signal.SIGKILL, f"the worker was not killed after {step!r}"

        doomed.write_text("")
        worker = start_worker()
        history = node.wait_for("done", study_instance_uid)
        wait_until(lambda: not jobs_under_way(node), "no job is left")
        assert [result.kind for result in history.results] == ["overlay", "measurement_sr", "text_sr"], step
        assert [event.event for event in history.events].count("charged") == 1, step
        assert len([row for row in node.ledger() if row.study_instance_uid == study_instance_uid]) == 1, step
        assert len(orthanc.instances()) == 3 * number, step
    assert node.counts().deliveries[0].value == 3 * len(STEPS)


def test_a_worker_whose_process_is_gone_is_replaced_at_once_without_waiting_for_its_lease(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    with open(sqlite_node.config, "a") as config:
        config.write("[worker]\nlease_s = 600\n")  # nothing here waits as long
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("receiver")
    killed = sqlite_node.start_command(
        [sys.executable, str(KILLED_WORKER), str(sqlite_node.config)], "killed_worker", KILLED_AFTER="admit"
    )
    sqlite_node.send(chest)
    assert killed.process.wait(120) == -signal.SIGKILL
    sqlite_node.start("worker")
    wait_until(lambda: sqlite_node.histories()[0].state == "done", "the study is done")


@pytest.mark.parametrize("owner", ["its own worker", "a worker that nobody knows"])
def test_a_job_that_nobody_runs_any_more_is_run_to_its_end(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, owner: str
) -> None:
    """To all it looks as if it were at work: its worker lives and has lost it, or has died and has no row."""
    with open(sqlite_node.config, "a") as config:
        config.write("[worker]\nlease_s = 3.0\n")
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("serve")
    sqlite_node.send(chest)
    sqlite_node.wait_for("done")
    with sqlite_node.database.write() as connection:
        assert connection.scalar(STATUS) == "SUCCESS"
        connection.execute(TAKEN_BACK)
        if owner == "a worker that nobody knows":
            connection.execute(OF_NOBODY)

    def has_ended() -> bool:
        with sqlite_node.database.read() as connection:
            return bool(connection.scalar(STATUS) == "SUCCESS")

    wait_until(has_ended, "the job has ended")
    assert len(sqlite_node.ledger()) == 1


def jobs_under_way(node: Node) -> int:
    statement = f"SELECT count(*) FROM {jobs_table(node)} WHERE status IN ('ENQUEUED', 'PENDING')"
    with node.database.read() as connection:
        return connection.scalar(sa.text(statement)) or 0


def another_study(chest: Path, folder: Path, study_instance_uid: str) -> Path:
    """The same radiograph as a study of its own."""
    dataset = pydicom.dcmread(chest)
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = f"{study_instance_uid}.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{study_instance_uid}.1.1")
    path = folder / f"{study_instance_uid}.dcm"
    dataset.save_as(path)
    return path
