"""The report on what was asked for: it says what is held, reaches whoever asked, and is tried until it does."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from structlog.testing import capture_logs

import storage.requests.commitments
from domain.clinics import Caller, Clinic
from domain.commitment import CommitmentRequest, CommitmentRules, Reference
from domain.plans import Tier
from domain.tls import TlsFiles
from scp.tls import server_context
from storage.database import Database, utc_now
from storage.instances import Spool
from storage.intake import record_instances
from storage.plain import to_plain
from storage.requests.commitments import record_commitments
from storage.requests.files import RequestBox
from storage.tables import commitments
from tests.factories.arrivals import read_back, spooled
from tests.factories.certificates import Authority, files_of
from tests.factories.ports import free_port
from tests.factories.sources import DX, radiograph
from tests.journeys.house import wait_until
from workflow.commitment import Commitments

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
LOOPBACK = "127.0.0.1"
HERE = str(radiograph(1).SOPInstanceUID)
RULES = CommitmentRules(first_retry_s=10.0, give_up_after_s=3600.0)


@pytest.fixture(autouse=True)
def _nothing_has_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.requests.commitments, "SETTLES_WITHIN_S", 0.0)
    monkeypatch.setattr(storage.requests.commitments, "INDEXER_BEHIND_S", 0.0)


@dataclass
class Modality:
    """What a modality got: (Event Type ID, Event Information) in order; and how many associations that took."""

    port: int
    status: int = 0x0000
    told: list[tuple[int, Dataset]] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)
    associations: int = 0

    def on_report(self, event: Event) -> tuple[int, None]:
        self.told.append((event.event_type or 0, event.event_information))
        self.instances.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        return self.status, None

    def on_accepted(self, _event: Event) -> None:
        self.associations += 1

    @contextmanager
    def listening(self, *, knows_roles: bool = True, tls: TlsFiles | None = None) -> Iterator["Modality"]:
        """pynetdicom as the SCU of storage commitment: it accepts that whoever calls is the SCP, or knows no roles."""
        ae = AE("MODALITY1")
        role = True if knows_roles else None
        ae.add_supported_context(PUSH_MODEL, scu_role=role, scp_role=role)
        ae.require_called_aet = True
        ae.require_calling_aet = ["COLLIMATOR"]
        handlers = [(evt.EVT_N_EVENT_REPORT, self.on_report), (evt.EVT_ACCEPTED, self.on_accepted)]
        server = ae.start_server(
            (LOOPBACK, self.port),
            block=False,
            evt_handlers=handlers,  # type: ignore[arg-type]
            ssl_context=None if tls is None else server_context(tls),
        )
        yield self
        server.shutdown()  # type: ignore[union-attr]


@pytest.fixture
def modality() -> Modality:
    return Modality(port=free_port())


@dataclass
class Node:
    database: Database
    spool: Spool
    box: RequestBox
    worker: Callable[..., Commitments]

    def ask(self, *uids: str, transaction_uid: str = "2.25.9", address: str = LOOPBACK, sop_class: str = DX) -> None:
        request = CommitmentRequest(
            clinic="st-mary",
            calling_ae_title="MODALITY1",
            peer_address=address,
            transaction_uid=transaction_uid,
            asked=tuple(Reference(sop_class_uid=sop_class, sop_instance_uid=uid) for uid in uids),
            requested_at=utc_now(),
        )
        self.box.put(json.dumps(to_plain(request)).encode())
        record_commitments(self.database, self.box)

    def rows(self) -> list[tuple[str, int, str]]:
        with self.database.read() as connection:
            rows = connection.execute(sa.select(commitments).order_by(commitments.c.id)).all()
        return [(row.state, row.attempts, row.last_error) for row in rows]

    def make_due(self) -> None:
        with self.database.write() as connection:
            connection.execute(sa.update(commitments).values(due_at=utc_now()))


@pytest.fixture
def node(database: Database, tmp_path: Path, modality: Modality) -> Node:
    """st-mary holds one instance; its MODALITY1 listens for reports where `modality` does."""
    spool = Spool(tmp_path)
    record_instances(database, spool, [read_back(spool, spooled(spool, radiograph(1)))])
    caller = Caller(ae_title="MODALITY1", commitment_port=modality.port)
    clinic = Clinic(name="st-mary", tier=Tier.BASIC, sends_notes=False, callers=(caller,), destinations=())

    def worker(
        rules: CommitmentRules = RULES, clinic: Clinic = clinic, tls_files: TlsFiles | None = None
    ) -> Commitments:
        return Commitments(
            database,
            spool,
            clinics=[clinic],
            rules=rules,
            ae_title="COLLIMATOR",
            tls_files=tls_files,
            timeout_s=5.0,
        )

    return Node(database, spool, RequestBox(tmp_path, "commitments"), worker)


def references(items: object) -> list[tuple[str, str]]:
    return [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in items]  # type: ignore[attr-defined]


@pytest.mark.parametrize("knows_roles", [True, False], ids=["negotiates roles", "knows no roles"])
def test_what_is_held_is_committed_to(node: Node, modality: Modality, knows_roles: bool) -> None:
    node.ask(HERE)
    with modality.listening(knows_roles=knows_roles):
        node.worker().work()
    ((event_type, information),) = modality.told
    assert (event_type, information.TransactionUID, modality.instances) == (1, "2.25.9", [WELL_KNOWN_INSTANCE])
    assert references(information.ReferencedSOPSequence) == [(DX, HERE)]
    assert "FailedSOPSequence" not in information
    assert node.rows() == [("reported", 1, "")]


def test_what_is_not_held_is_refused_with_its_reason_beside_what_is(node: Node, modality: Modality) -> None:
    node.ask(HERE, "1.2.3.404")
    with modality.listening():
        node.worker().work()
    ((event_type, information),) = modality.told
    assert event_type == 2
    assert references(information.ReferencedSOPSequence) == [(DX, HERE)]
    assert references(information.FailedSOPSequence) == [(DX, "1.2.3.404")]
    assert information.FailedSOPSequence[0].FailureReason == 0x0112


def test_where_everything_is_refused_nothing_is_committed_to(node: Node, modality: Modality) -> None:
    node.ask(HERE)
    short = replace(RULES, pixel_retention_days=7.0, minimum_retention_days=30.0)
    with modality.listening():
        node.worker(short).work()
    ((event_type, information),) = modality.told
    assert (event_type, "ReferencedSOPSequence" in information) == (2, False)
    assert [item.FailureReason for item in information.FailedSOPSequence] == [0x0110]


def test_an_instance_of_another_class_than_asked_for_is_refused(node: Node, modality: Modality) -> None:
    node.ask(HERE, sop_class="1.2.840.10008.5.1.4.1.1.2")
    with modality.listening():
        node.worker().work()
    assert [item.FailureReason for item in modality.told[0][1].FailedSOPSequence] == [0x0119]


def test_a_caller_that_is_away_gets_its_report_when_it_is_back_and_it_says_what_is_true_then(
    node: Node, modality: Modality
) -> None:
    node.ask("1.2.3.404")
    worker = node.worker()
    worker.work()
    ((state, attempts, error),) = node.rows()
    assert (state, attempts, error != "") == ("pending", 1, True)
    worker.work()
    assert node.rows()[0][1] == 1, "the next attempt is not due"
    late = radiograph(1)
    late.SOPInstanceUID = "1.2.3.404"
    record_instances(node.database, node.spool, [read_back(node.spool, spooled(node.spool, late))])
    node.make_due()
    with modality.listening():
        worker.work()
    assert [event_type for event_type, _ in modality.told] == [1]
    assert node.rows() == [("reported", 2, "")]


def test_a_caller_that_answers_with_a_failure_is_told_again(node: Node, modality: Modality) -> None:
    node.ask(HERE)
    modality.status = 0x0110
    with modality.listening():
        node.worker().work()
        assert node.rows() == [("pending", 1, "the caller answered 0x0110")]
        modality.status = 0x0000
        node.make_due()
        node.worker().work()
    assert node.rows() == [("reported", 2, "")]


def test_a_report_that_is_given_up_is_an_error_in_the_log(node: Node) -> None:
    node.ask(HERE)
    with capture_logs() as log:
        node.worker().work()
        node.make_due()
        node.worker(replace(RULES, give_up_after_s=0.0)).work()
    assert [(line["log_level"], line["event"]) for line in log] == [
        ("warning", "commitment_not_reported"),
        ("error", "commitment_given_up"),
    ]
    assert "commitment_port" in log[-1]["error"]
    assert node.rows()[0][:2] == ("given_up", 2)


def test_who_asks_again_after_the_report_gets_another(node: Node, modality: Modality) -> None:
    node.ask(HERE)
    with modality.listening():
        node.worker().work()
        node.ask(HERE)
        node.worker().work()
        node.worker().work()
    assert [information.TransactionUID for _, information in modality.told] == ["2.25.9", "2.25.9"]
    assert node.rows() == [("reported", 1, "")]


def test_all_reports_of_a_caller_go_over_one_association(node: Node, modality: Modality) -> None:
    for number in range(3):
        node.ask(HERE, transaction_uid=f"2.25.{number}")
    with modality.listening():
        node.worker().work()
    assert sorted(information.TransactionUID for _, information in modality.told) == ["2.25.0", "2.25.1", "2.25.2"]
    assert modality.associations == 1


def test_a_caller_that_is_away_does_not_hold_up_another(node: Node, modality: Modality) -> None:
    node.ask(HERE, address="127.0.0.2", transaction_uid="2.25.8")
    node.ask(HERE)
    with modality.listening():
        node.worker().work()
    assert [state for state, _, _ in node.rows()] == ["pending", "reported"]


def test_a_caller_whose_port_left_the_configuration_waits_for_an_administrator(node: Node, modality: Modality) -> None:
    node.ask(HERE)
    without = Clinic(name="st-mary", tier=Tier.BASIC, sends_notes=False, callers=(), destinations=())
    node.worker(clinic=without).work()
    ((state, _, error),) = node.rows()
    assert state == "pending"
    assert "set clinics.callers.commitment_port" in error
    node.make_due()
    with modality.listening():
        node.worker().work()
    assert node.rows()[0][0] == "reported"


@pytest.mark.parametrize(
    ("name", "state", "error"),
    [("", "reported", ""), ("ct.example", "pending", "its certificate is not trusted: Hostname mismatch")],
)
def test_a_report_goes_over_tls_to_a_caller_that_is_who_it_should_be(
    node: Node, modality: Modality, tmp_path: Path, name: str, state: str, error: str
) -> None:
    authority = Authority(tmp_path, "authority")
    caller = Caller(ae_title="MODALITY1", commitment_port=modality.port, commitment_tls=True, commitment_tls_name=name)
    clinic = Clinic(name="st-mary", tier=Tier.BASIC, sends_notes=False, callers=(caller,), destinations=())
    node.ask(HERE)
    with modality.listening(tls=files_of(authority.identity("modality"), authority)):
        node.worker(clinic=clinic, tls_files=files_of(authority.identity("collimator"), authority)).work()
    ((seen, _, said),) = node.rows()
    assert (seen, error in said, bool(said)) == (state, True, bool(error))
    assert len(modality.told) == (state == "reported")


def test_a_report_that_is_to_go_over_tls_never_goes_without(node: Node, modality: Modality) -> None:
    caller = Caller(ae_title="MODALITY1", commitment_port=modality.port, commitment_tls=True)
    clinic = Clinic(name="st-mary", tier=Tier.BASIC, sends_notes=False, callers=(caller,), destinations=())
    node.ask(HERE)
    with modality.listening():
        node.worker(clinic=clinic).work()
    ((state, _, error),) = node.rows()
    assert (state, modality.told) == ("pending", [])
    assert "MODALITY1 has commitment_tls, and the node has no certificate to show" in error


def test_two_workers_send_one_report(node: Node, modality: Modality) -> None:
    node.ask(HERE)
    with modality.listening():
        workers = [Thread(target=node.worker().work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=30)
    assert len(modality.told) == 1
    assert node.rows() == [("reported", 1, "")]


def test_a_running_worker_reports_by_itself(node: Node, modality: Modality) -> None:
    worker = node.worker()
    with modality.listening():
        worker.start()
        node.ask(HERE)
        wait_until(lambda: node.rows() == [("reported", 1, "")], "the report has gone out", within_s=20.0)
        worker.stop()
