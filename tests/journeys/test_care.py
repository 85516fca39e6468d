"""A study through trouble: parked, cancelled, tried again, analysed anew, and carried over an upgrade."""

import json
import signal
import sys
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from storage.instances import ResultFolder
from storage.overview import StudyHistory
from tests.journeys.house import Node, Orthanc, wait_until
from tests.journeys.test_killed_between_steps import another_study

DAY_MS = 86_400_000


def ask(node: Node, study_instance_uid: str, verb: str) -> str:
    """What the node said to the one or the other way."""
    asked = node.run("study", study_instance_uid, f"--{verb}")
    return asked.stdout if asked.returncode == 0 else asked.stderr


def events(history: StudyHistory) -> list[str]:
    return [event.event for event in history.events]


def engine_table(node: Node) -> str:
    return "workflow_status" if node.database.is_sqlite else "dbos.workflow_status"


def jobs(node: Node) -> dict[str, str]:
    """What the engine remembers: the names of jobs, and their statuses."""
    with node.database.read() as connection:
        rows = connection.execute(sa.text(f"SELECT workflow_uuid, status FROM {engine_table(node)}"))
        return {str(row.workflow_uuid): str(row.status) for row in rows}


def checkpoints(node: Node) -> int:
    table = "operation_outputs" if node.database.is_sqlite else "dbos.operation_outputs"
    with node.database.read() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table} WHERE workflow_uuid = 'study:1:1'")) or 0


def age_jobs(node: Node, days: int) -> None:
    with node.database.write() as connection:
        connection.execute(
            sa.text(
                f"UPDATE {engine_table(node)} SET created_at = created_at - {days * DAY_MS}, "
                f"completed_at = completed_at - {days * DAY_MS}"
            )
        )


def test_a_study_from_a_pacs_that_is_away_to_its_second_analysis(node: Node, orthanc: Orthanc, chest: Path) -> None:
    """Jobs that ended are forgotten meanwhile; what is on its way is not."""
    node.start("receiver")
    worker = node.start("worker")
    node.send(chest)
    wait_until(lambda: node.histories() and "delivery" in events(node.histories()[0]), "an attempt has failed")
    uid = node.histories()[0].study_instance_uid
    assert "the study is delivering and cannot be cancelled" in ask(node, uid, "cancel")
    assert worker.stop() == 0
    assert jobs(node)["study:1:1"] == "SUCCESS"
    assert checkpoints(node) > 0
    on_its_way = {name for name, status in jobs(node).items() if status != "SUCCESS"}
    assert len(on_its_way) == 1

    age_jobs(node, days=31)
    orthanc.start(node_port=node.receiver_port)
    node.start("worker")
    first = node.wait_for("done", uid)
    wait_until(lambda: "study:1:1" not in jobs(node), "the old job is forgotten")
    assert checkpoints(node) == 0
    assert events(first).count("charged") == 1

    assert "generation 2, is queued" in ask(node, uid, "reanalyse")
    wait_until(lambda: [history.state for history in node.histories(uid)] == ["done", "done"], "it is analysed anew")
    before, after = node.histories(uid)
    assert report_of(before) in predecessors_of(node, report_of(after))
    assert len(node.ledger()) == 1
    assert (before.is_charged, after.is_charged) == (True, False)
    assert after.events[0].detail == "asked for from the command line"
    assert {"received", "complete", "routed", "analysed", "written", "delivery", "charged", "done"} <= set(
        events(before)
    )
    told = node.run("study", uid)
    assert told.returncode == 0, told.stderr
    assert "asked for from the command line" in told.stdout


def report_of(history: StudyHistory) -> str:
    (report,) = (result.sop_instance_uid for result in history.results if result.kind == "measurement_sr")
    return report


def predecessors_of(node: Node, sop_instance_uid: str) -> set[str]:
    """SOP Instance UIDs in the Predecessor Documents Sequence (0040,A360)."""
    dataset = pydicom.dcmread(ResultFolder(node.data_dir).path(sop_instance_uid))
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in dataset.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def test_a_study_that_takes_the_worker_down_is_parked_after_three_tries_and_the_others_go_on(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    node, runs = sqlite_node, tmp_path / "runs"
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    poison, healthy = "2.25.1001", "2.25.1002"
    environment = {"POISON": poison, "RUNS": str(runs), "COLLIMATOR_WORKER__CONCURRENCY": "1"}
    command = [sys.executable, "-m", "tests.journeys.poisoned_worker", str(node.config)]
    node.send(another_study(chest, tmp_path, poison))
    for number in range(3):
        worker = node.start_command(command, "poisoned_worker", **environment)
        assert worker.process.wait(60) == -signal.SIGKILL
        if number == 0:
            node.send(another_study(chest, tmp_path, healthy))
    node.start_command(command, "poisoned_worker", **environment)
    assert node.wait_for("done", healthy).is_charged
    parked = node.wait_for("failed", poison)
    assert runs.read_text() == "run\n" * 3
    assert (parked.reason, parked.is_charged, parked.results) == ("keeps_failing", False, ())
    assert "took the worker down 3 times" in parked.events[-1].detail
    node.processes[-1].stop()

    assert "is queued" in ask(node, poison, "retry")
    node.start("worker")
    assert node.wait_for("done", poison).is_charged


def test_who_runs_beside_a_study_that_takes_the_worker_down_is_not_parked_with_it(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    """Each death takes both down: which of them did it shows when they take turns."""
    node, runs = sqlite_node, tmp_path / "runs"
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    poison, innocent = "2.25.1001", "2.25.1002"
    environment = {"POISON": poison, "RUNS": str(runs), "COMPANY": "yes"}
    command = [sys.executable, "-m", "tests.journeys.poisoned_worker", str(node.config)]
    for uid in (innocent, poison):
        node.send(another_study(chest, tmp_path, uid))
    for _ in range(3):
        worker = node.start_command(command, "poisoned_worker", **environment)
        assert worker.process.wait(60) == -signal.SIGKILL
    node.start_command(command, "poisoned_worker", **environment)
    assert node.wait_for("failed", poison).reason == "keeps_failing"
    assert node.wait_for("done", innocent).is_charged
    assert runs.read_text() == "run\n" * 3
    assert len(node.ledger()) == 1


def test_a_cancelled_study_is_not_analysed_until_somebody_says_so(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    node = sqlite_node
    orthanc.start(node_port=node.receiver_port)
    assert node.run("migrate").returncode == 0
    node.start("receiver")
    node.send(chest)
    (received,) = wait_until(node.histories, "it is received")
    uid = received.study_instance_uid
    assert "is cancelled" in ask(node, uid, "cancel")
    node.start("worker")
    assert "is cancelled already" in ask(node, uid, "cancel")
    assert "is queued" in ask(node, uid, "retry")
    history = node.wait_for("done", uid)
    assert [name for name in events(history) if name in ("cancelled", "requeued")] == ["cancelled", "requeued"]
    shown = json.loads(node.run("study", uid, "--json").stdout)
    assert [one["state"] for one in shown] == ["done"]


@pytest.mark.parametrize("step", ["admit", "write", "hand over", "send", "record"])
def test_what_an_older_version_has_begun_the_next_one_finishes(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, step: str
) -> None:
    history = upgraded(sqlite_node, orthanc, chest, KILLED_AFTER=step)
    assert list(jobs(sqlite_node)).count("study:1:1") == 1
    assert "study:1:2" not in jobs(sqlite_node), "the study goes on where it was"
    assert events(history).count("retry") == 0


def test_what_was_begun_under_other_steps_is_begun_anew_and_finished(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    history = upgraded(sqlite_node, orthanc, chest, KILLED_AFTER="analyse chest", OLDER_STEPS="yes")
    assert "study:1:2" in jobs(sqlite_node)
    assert events(history).count("retry") == 1


def upgraded(node: Node, orthanc: Orthanc, chest: Path, **environment: str) -> StudyHistory:
    """A study that the older worker began and this version's finished."""
    orthanc.start(node_port=node.receiver_port)
    node.start("receiver")
    node.send(chest)
    older = node.start_command(
        [sys.executable, "-m", "tests.journeys.older_worker", str(node.config)], "older_worker", **environment
    )
    assert older.process.wait(60) == -signal.SIGKILL
    node.start("worker")
    history = node.wait_for("done")
    assert [result.kind for result in history.results] == ["overlay", "measurement_sr", "text_sr"]
    assert (len(node.ledger()), len(orthanc.instances())) == (1, 3)
    return history
