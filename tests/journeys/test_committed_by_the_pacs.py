"""A PACS is asked to commit to the results that it stored; a study is done when it has. What it lost it gets again."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.events import Event

from storage.overview import StudyHistory
from tests.conftest import ROOT
from tests.factories.packages import build_package
from tests.factories.ports import free_port
from tests.journeys.house import LOOPBACK, PACS, Node, Orthanc, wait_until

PUSH_MODEL, WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
KILLED_WORKER = Path(__file__).with_name("killed_worker.py")
# The PACS is a caller as well in tests/journeys/house.py; here it is a destination only.
CALLER = '[[clinics.callers]]\nae_title = "ORTHANC"\n'


def ask_for_commitment(node: Node, *, delivery: str = "", is_caller: bool = False) -> None:
    text = node.config.read_text()
    if not is_caller:
        before, _, after = text.partition(CALLER)
        text = before + after[after.index("[[clinics.destinations]]") :]
    text = text.replace("[delivery]\n", f"[delivery]\n{delivery}")
    node.config.write_text(f"{text}commitment = true\n")


def deliveries(history: StudyHistory) -> list[str]:
    return [delivery.state for result in history.results for delivery in result.deliveries]


def events(history: StudyHistory, event: str) -> list[str]:
    return [one.detail for one in history.events if one.event == event]


def in_state(node: Node, state: str) -> StudyHistory:
    """The study, once all its results are in this state at the PACS."""

    def arrived() -> StudyHistory | None:
        history = next(iter(node.histories()), None)
        return history if history and set(deliveries(history)) == {state} else None

    history: StudyHistory = wait_until(arrived, f"the results are {state}", within_s=180.0)
    return history


def done(node: Node) -> StudyHistory:
    history: StudyHistory = wait_until(
        lambda: next((one for one in node.histories() if one.state == "done"), None),
        "the study is done",
        within_s=240.0,
    )
    return history


# Orthanc


def test_a_study_is_done_when_the_pacs_has_committed_to_its_results(node: Node, orthanc: Orthanc, chest: Path) -> None:
    ask_for_commitment(node)
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    doctor = node.run("doctor")
    assert "destination pacs of st-mary, commitment: takes Storage Commitment" in doctor.stdout
    assert node.send(chest) == ["stored"]

    assert in_state(node, "stored").state == "delivering"
    assert len(node.ledger()) == 1  # by the same commit
    history = done(node)
    assert deliveries(history) == ["committed"] * 3
    (said,) = events(history, "committed")
    assert said.startswith("by pacs: 3 results (transaction 2.25.")
    assert len(node.ledger()) == 1

    uid = history.study_instance_uid
    assert "pacs: committed 20" in node.run("study", uid).stdout
    (line, *_) = json.loads(node.run("study", uid, "--json").stdout)[0]["results"]
    assert line["deliveries"][0]["committed_at"] >= line["deliveries"][0]["delivered_at"]


def test_what_the_pacs_has_lost_it_gets_again_and_is_asked_for_again(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    ask_for_commitment(sqlite_node)
    assert sqlite_node.run("migrate").returncode == 0
    orthanc.start(node_port=sqlite_node.receiver_port)
    sqlite_node.start("receiver")
    killed = sqlite_node.start_command(
        [sys.executable, str(KILLED_WORKER), str(sqlite_node.config)],
        "killed_worker",
        KILLED_AFTER="record",
        PYTHONPATH=str(ROOT),
    )
    assert sqlite_node.send(chest) == ["stored"]
    assert killed.process.wait(120) == -signal.SIGKILL
    assert deliveries(in_state(sqlite_node, "stored")) == ["stored"] * 3
    assert len(orthanc.instances()) == 3
    lost = orthanc.instances()[0]
    before = orthanc.file(lost)
    httpx.delete(f"http://{LOOPBACK}:{orthanc.http_port}/instances/{lost}").raise_for_status()

    sqlite_node.start("worker")
    history = done(sqlite_node)
    assert sorted(orthanc.instances()).count(lost) == 1
    assert orthanc.file(lost) == before
    (said,) = events(history, "not_committed")
    assert said.startswith("by pacs: 1 result (")
    assert said.endswith("0x0112 no such object instance; sent again")
    assert len(events(history, "committed")) == 2
    assert sorted(d.attempts for result in history.results for d in result.deliveries) == [1, 1, 2]
    assert len(sqlite_node.ledger()) == 1


# A PACS that does as a test wants


class CommittingPacs:
    """Stores, and reports on each N-ACTION as `reports` says: it is given the request and the association."""

    def __init__(self, reports: Callable[["CommittingPacs", Dataset, Event], int], node_port: int) -> None:
        self.node_port = node_port
        self.stored: list[str] = []
        self.asked: list[Dataset] = []
        self.answers: list[int] = []
        self._reports = reports
        self._ae = AE(PACS)

    def start(self, port: int) -> None:
        from pynetdicom import AllStoragePresentationContexts

        self._ae.supported_contexts = AllStoragePresentationContexts
        self._ae.add_supported_context(PUSH_MODEL, SYNTAXES)
        handlers = [(evt.EVT_C_STORE, self._on_store), (evt.EVT_N_ACTION, self._on_action)]
        self._server = self._ae.start_server((LOOPBACK, port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]

    def stop(self) -> None:
        self._server.shutdown()  # type: ignore[union-attr]

    def report_apart(self, information: Dataset, event_type: int) -> None:
        """On an association of its own."""
        ae = AE(PACS)
        ae.add_requested_context(PUSH_MODEL, SYNTAXES)
        role = build_role(PUSH_MODEL, scp_role=True)
        association = ae.associate(LOOPBACK, self.node_port, ae_title="COLLIMATOR", ext_neg=[role])
        assert association.is_established
        status, _ = association.send_n_event_report(information, event_type, PUSH_MODEL, WELL_KNOWN_INSTANCE)
        self.answers.append(status.Status)
        association.release()

    def _on_store(self, event: Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        return 0x0000

    def _on_action(self, event: Event) -> tuple[int, None]:
        self.asked.append(event.action_information)
        return self._reports(self, event.action_information, event), None


@pytest.fixture
def pacs_node(tmp_path: Path) -> Iterator[Callable[..., tuple[Node, CommittingPacs]]]:
    """Starts a node and a PACS that reports in this way."""
    started: list[Node | CommittingPacs] = []

    def start(
        reports: Callable[[CommittingPacs, Dataset, Event], int],
        *,
        roles: Sequence[str] = ("serve",),
        delivery: str = "",
    ) -> tuple[Node, CommittingPacs]:
        port = free_port()
        node = Node(tmp_path, pacs_port=port)
        build_package(node.data_dir / "models" / "chest", name="chest")
        ask_for_commitment(node, delivery=delivery)
        assert node.run("migrate").returncode == 0
        pacs = CommittingPacs(reports, node.receiver_port)
        started.extend([node, pacs])
        pacs.start(port)
        for role in roles:
            node.start(role)
        return node, pacs

    yield start
    for one in started:
        one.stop()


def all_of(information: Dataset) -> tuple[Dataset, int]:
    """A report that all is committed to."""
    report = Dataset()
    report.TransactionUID = information.TransactionUID
    report.ReferencedSOPSequence = information.ReferencedSOPSequence
    return report, 1


def none_of(information: Dataset, reason: int) -> tuple[Dataset, int]:
    report = Dataset()
    report.TransactionUID = information.TransactionUID
    report.FailedSOPSequence = information.ReferencedSOPSequence
    for item in report.FailedSOPSequence:
        item.FailureReason = reason
    return report, 2


StartPacs = Callable[..., tuple[Node, CommittingPacs]]


def test_a_pacs_may_report_on_the_association_on_which_it_was_asked(pacs_node: StartPacs, chest: Path) -> None:
    def reports(pacs: CommittingPacs, information: Dataset, event: Event) -> int:
        def answer(after: Event) -> None:
            status, _ = after.assoc.send_n_event_report(*all_of(information), PUSH_MODEL, WELL_KNOWN_INSTANCE)
            pacs.answers.append(status.Status)

        # Once the answer to N-ACTION has left.
        event.assoc.bind(evt.EVT_DATA_SENT, _once(lambda after: _in_background(answer, after)))
        return 0x0000

    node, pacs = pacs_node(reports)
    assert node.send(chest) == ["stored"]
    assert deliveries(done(node)) == ["committed"] * 3
    assert pacs.answers == [0x0000]


def test_a_pacs_that_reports_failure_first_gets_the_results_again(pacs_node: StartPacs, chest: Path) -> None:
    def reports(pacs: CommittingPacs, information: Dataset, event: Event) -> int:
        outcome = none_of(information, 0x0110) if len(pacs.asked) == 1 else all_of(information)
        _in_background(lambda _: pacs.report_apart(*outcome), event)
        return 0x0000

    node, pacs = pacs_node(reports)
    assert node.send(chest) == ["stored"]
    history = done(node)
    assert deliveries(history) == ["committed"] * 3
    assert sorted(pacs.stored) == sorted(pacs.stored[:3] * 2)
    assert pacs.asked[0].TransactionUID != pacs.asked[1].TransactionUID
    assert len(node.ledger()) == 1
    assert 0x0000 in pacs.answers


def test_a_pacs_that_never_reports_leaves_a_study_that_says_so(pacs_node: StartPacs, chest: Path) -> None:
    node, pacs = pacs_node(lambda *_: 0x0000, delivery="commitment_wait_s = 2.0\ngive_up_after_s = 12.0\n")
    assert node.send(chest) == ["stored"]
    history = in_state(node, "uncommitted")
    assert (history.state, history.reason, history.is_charged) == ("failed", "not_committed", True)
    assert {len(asked.ReferencedSOPSequence) for asked in pacs.asked} == {3}
    (last,) = {d.last_error for result in history.results for d in result.deliveries}
    assert last == "stored, but never committed to: there was no report in time"

    before = len(pacs.stored)
    assert node.run("study", history.study_instance_uid, "--retry").returncode == 0
    wait_until(lambda: len(pacs.stored) == before + 3, "the PACS has the results again")
    assert len(node.ledger()) == 1


def test_a_pacs_that_refuses_to_be_asked_is_asked_again_until_it_does_not(pacs_node: StartPacs, chest: Path) -> None:
    def reports(pacs: CommittingPacs, information: Dataset, event: Event) -> int:
        if len(pacs.asked) < 3:
            return 0x0110
        _in_background(lambda _: pacs.report_apart(*all_of(information)), event)
        return 0x0000

    node, pacs = pacs_node(reports)
    assert node.send(chest) == ["stored"]
    history = done(node)
    assert events(history, "not_committed") == ["pacs cannot be asked: the destination refused to commit: 0x0110"]
    assert len({str(asked.TransactionUID) for asked in pacs.asked}) == len(pacs.asked) == 3
    assert len(pacs.stored) == 3


def test_a_worker_that_dies_while_it_asks_loses_neither_the_report_nor_the_question(
    pacs_node: StartPacs, chest: Path
) -> None:
    """The first time the PACS reports all the same, but on the first result only."""

    def reports(pacs: CommittingPacs, information: Dataset, event: Event) -> int:
        report, event_type = all_of(information)
        if len(pacs.asked) == 1:
            node.processes[-1].stop(signal.SIGKILL)
            report.ReferencedSOPSequence = information.ReferencedSOPSequence[:1]
        _in_background(lambda _: pacs.report_apart(report, event_type), event)
        return 0x0000

    node, pacs = pacs_node(reports, roles=("receiver", "worker"))
    assert node.send(chest) == ["stored"]
    wait_until(lambda: pacs.answers == [0x0000], "the receiver has the report", within_s=120.0)

    node.start("worker")
    assert deliveries(done(node)) == ["committed"] * 3
    assert [len(asked.ReferencedSOPSequence) for asked in pacs.asked] == [3, 2]
    assert len(pacs.stored) == 3
    assert len(node.ledger()) == 1


def _once(work: Callable[[Event], None]) -> Callable[[Event], None]:
    waiting = [work]

    def handle(event: Event) -> None:
        if waiting:
            waiting.pop()(event)

    return handle


def _in_background(work: Callable[[Event], None], event: Event) -> None:
    from threading import Thread

    Thread(target=work, args=(event,), daemon=True).start()
