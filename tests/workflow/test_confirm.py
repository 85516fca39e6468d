"""Destinations that are to commit to what they stored: when they are asked, and what comes of what they report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import storage.requests.confirmations
from domain.commitment import Reference
from domain.confirmation import Failed, Report
from domain.errors import Retry
from metering.ledger import read_ledger
from storage.database import Database, utc_now
from storage.erasure import mark_erased
from storage.overview import DeliveryLine, StudyFilter, StudyHistory, read_history
from storage.requests.confirmation_folder import Asked, ConfirmationFolder
from storage.requests.confirmations import begin
from storage.retention import forget_confirmations
from storage.tables import confirmations, deliveries
from tests.workflow.conftest import Direct, Puts
from tests.workflow.test_delivery import Pacs, delay_of, events, run_newest, states, waiting_study
from workflow.confirm import Confirmations
from workflow.deliver import drain
from workflow.rooms import Rooms

LONG_AGO = timedelta(days=30)


@pytest.fixture(autouse=True)
def _nothing_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.requests.confirmations, "GATHER_S", 0.0)


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Pacs:
    pacs = Pacs()
    monkeypatch.setattr("workflow.sending.store_association", pacs)
    return pacs


@dataclass
class Archive:
    """Stands for scu.confirmation.request_commitment: what it was asked, and why it does not want to be."""

    asked: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)
    refuses: str = ""

    def __call__(self, transaction_uid: str, references: Sequence[Reference], _to: object, **_: object) -> None:
        if self.refuses:
            raise Retry(self.refuses)
        self.asked.append((transaction_uid, tuple(references)))

    def uids(self) -> list[list[str]]:
        return [[reference.sop_instance_uid for reference in references] for _, references in self.asked]


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    archive = Archive()
    monkeypatch.setattr("workflow.confirm.request_commitment", archive)
    return archive


@pytest.fixture
def rooms(rooms: Rooms) -> Rooms:
    """Of st-mary and mercy, whose PACS is to commit to what it stored."""
    return asking(rooms, commitment=True)


def asking(rooms: Rooms, *, commitment: bool) -> Rooms:
    clinics = [
        replace(clinic, destinations=tuple(replace(one, commitment=commitment) for one in clinic.destinations))
        for clinic in rooms.clinics
    ]
    return replace(rooms, clinics=tuple(clinics))


@pytest.fixture
def folder(tmp_path: Path) -> ConfirmationFolder:
    return ConfirmationFolder(tmp_path)


@pytest.fixture
def confirm(rooms: Rooms, folder: ConfirmationFolder) -> Confirmations:
    return Confirmations(rooms, folder, take_report=lambda *_: 0)


@pytest.fixture
def study_id(rooms: Rooms, puts: Puts, pacs: Pacs) -> int:
    """A study whose overlay, 2.25.100, and report, 2.25.101, the PACS has stored."""
    study_id = waiting_study(rooms, 1)
    run_newest(rooms, puts)
    return study_id


def report(
    folder: ConfirmationFolder,
    asked: tuple[str, tuple[Reference, ...]],
    *,
    failed: Sequence[str] = (),
    only: int = 1000,
) -> None:
    """What the PACS says of the first so many that it was asked for."""
    transaction_uid, references = asked
    folder.keep(
        Report(
            transaction_uid=transaction_uid,
            committed=tuple(one for one in references[:only] if one.sop_instance_uid not in failed),
            failed=tuple(
                Failed(reference=one, reason=0x0112) for one in references[:only] if one.sop_instance_uid in failed
            ),
        )
    )


def make_due(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.update(confirmations).values(due_at=utc_now()))


def let_time_go_by(database: Database) -> None:
    """The destination had all the time there is."""
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(owed_since=utc_now() - LONG_AGO))


def lines(database: Database) -> list[DeliveryLine]:
    return [line for result in history(database).results for line in result.deliveries]


def history(database: Database) -> StudyHistory:
    return read_history(database, StudyFilter())[0]


def test_a_study_is_done_when_all_that_was_stored_is_committed_to(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    assert states(database) == ("delivering", ["stored", "stored"])
    assert len(read_ledger(database)) == 1
    confirm.ask_all()
    assert archive.uids() == [["2.25.100", "2.25.101"]]
    confirm.settle_all()
    assert states(database) == ("delivering", ["stored", "stored"])

    report(folder, archive.asked[0])
    confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])
    assert all(line.committed_at is not None for line in lines(database))
    assert events(database, "committed") == [f"by pacs: 2 results (transaction {archive.asked[0][0]})"]
    assert len(read_ledger(database)) == 1
    confirm.ask_all()
    assert len(archive.asked) == 1


def test_a_destination_that_is_not_asked_has_delivered_when_it_has_stored(
    rooms: Rooms, database: Database, puts: Puts, pacs: Pacs, archive: Archive, folder: ConfirmationFolder
) -> None:
    rooms = asking(rooms, commitment=False)
    waiting_study(rooms, 1)
    run_newest(rooms, puts)
    Confirmations(rooms, folder, take_report=lambda *_: 0).ask_all()
    assert (states(database), archive.asked) == (("done", ["delivered", "delivered"]), [])


def test_what_is_stored_shortly_after_each_other_is_asked_for_at_once(
    rooms: Rooms,
    puts: Puts,
    pacs: Pacs,
    confirm: Confirmations,
    archive: Archive,
    study_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage.requests.confirmations, "GATHER_S", 1000.0)
    confirm.ask_all()
    assert archive.asked == []
    waiting_study(rooms, 2)
    run_newest(rooms, puts)
    monkeypatch.setattr(storage.requests.confirmations, "GATHER_S", 0.0)
    confirm.ask_all()
    assert archive.uids() == [["2.25.100", "2.25.101", "2.25.200", "2.25.201"]]


def test_it_is_on_disk_who_is_asked_before_he_is(
    confirm: Confirmations, folder: ConfirmationFolder, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Asked | None] = []
    monkeypatch.setattr(
        "workflow.confirm.request_commitment", lambda uid, *_, **__: seen.append(folder.asked_under(uid))
    )
    confirm.ask_all()
    assert seen == [Asked(clinic="st-mary", destination="pacs")]


def test_what_the_pacs_has_lost_is_sent_again_after_a_wait_and_asked_for_again(
    rooms: Rooms,
    database: Database,
    puts: Puts,
    pacs: Pacs,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    confirm.ask_all()
    report(folder, archive.asked[0], failed=["2.25.100"])
    confirm.settle_all()
    assert states(database) == ("delivering", ["pending", "committed"])
    assert lines(database)[0].last_error == "stored, but not kept: 0x0112 no such object instance"
    assert events(database, "not_committed") == [
        f"by pacs: 1 result (transaction {archive.asked[0][0]}): 0x0112 no such object instance; sent again"
    ]
    run_newest(rooms, puts)
    assert pacs.stored == ["2.25.100", "2.25.101", "2.25.100"]
    assert states(database) == ("delivering", ["stored", "committed"])

    confirm.ask_all()
    assert archive.uids()[1:] == [["2.25.100"]]
    assert archive.asked[1][0] != archive.asked[0][0]
    report(folder, archive.asked[1])
    confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])
    assert len(read_ledger(database)) == 1


def test_the_pacs_gets_again_what_it_lost_no_sooner_than_after_the_first_wait(
    rooms: Rooms,
    puts: Puts,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    confirm.ask_all()
    report(folder, archive.asked[0], failed=["2.25.100", "2.25.101"])
    confirm.settle_all()
    destination, clinic, number, _ = puts.jobs[-1]
    drain(str(clinic), destination, number, rooms=rooms, durable=Direct(rooms.database))
    assert 0 < delay_of(puts) <= 6.0


def test_what_the_pacs_keeps_losing_is_given_up_in_the_end(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    let_time_go_by(database)
    report(folder, archive.asked[0], failed=["2.25.100"])
    confirm.settle_all()
    assert states(database) == ("failed", ["uncommitted", "committed"])
    assert history(database).reason == "not_committed"
    assert lines(database)[0].last_error == "stored, but not kept: 0x0112 no such object instance"


def test_a_pacs_that_does_not_report_in_time_is_asked_again_under_another_transaction_uid(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    make_due(database)
    confirm.settle_all()
    assert lines(database)[0].last_error == "there was no report in time"
    confirm.ask_all()
    first, second = archive.asked
    assert (first[1], first[0] == second[0]) == (second[1], False)
    report(folder, second)
    confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])
    assert lines(database)[0].last_error == ""


def test_a_late_report_counts(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    make_due(database)
    confirm.settle_all()
    confirm.ask_all()
    report(folder, archive.asked[0])
    confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])


def test_a_late_report_does_not_count_for_what_was_lost_and_sent_again_since(
    rooms: Rooms,
    database: Database,
    puts: Puts,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    confirm.ask_all()
    make_due(database)
    confirm.settle_all()
    confirm.ask_all()
    report(folder, archive.asked[1], failed=["2.25.100", "2.25.101"])
    confirm.settle_all()
    run_newest(rooms, puts)
    report(folder, archive.asked[0])
    confirm.settle_all()
    assert states(database) == ("delivering", ["stored", "stored"])


def test_a_late_report_of_failure_changes_nothing_that_a_newer_request_asks_for(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    make_due(database)
    confirm.settle_all()
    confirm.ask_all()
    report(folder, archive.asked[0], failed=["2.25.100", "2.25.101"])
    confirm.settle_all()
    assert states(database) == ("delivering", ["stored", "stored"])


def test_the_same_report_again_changes_nothing(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    for _ in range(3):
        report(folder, archive.asked[0])
        confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])
    assert len(events(database, "committed")) == 1


def test_what_a_report_does_not_mention_is_waited_for_and_then_asked_for_again(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    report(folder, archive.asked[0], only=1)
    confirm.settle_all()
    confirm.ask_all()
    assert states(database) == ("delivering", ["committed", "stored"])
    assert len(archive.asked) == 1
    make_due(database)
    confirm.settle_all()
    confirm.ask_all()
    assert archive.uids()[1:] == [["2.25.101"]]


def test_an_instance_that_is_committed_to_under_another_class_is_not_committed_to(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    transaction_uid, references = archive.asked[0]
    report(folder, (transaction_uid, tuple(replace(one, sop_class_uid="1.2.3") for one in references)))
    confirm.settle_all()
    assert states(database) == ("delivering", ["stored", "stored"])


def test_a_pacs_that_cannot_be_asked_is_asked_again_after_longer_and_longer_waits(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    archive.refuses = "the destination refused to commit: 0x0110"
    for failures, delay_s in ((1, 5.0), (2, 10.0), (3, 20.0)):
        confirm.ask_all()
        confirm.ask_all()  # not before its time
        with database.read() as connection:
            row = connection.execute(sa.select(confirmations).order_by(confirmations.c.id.desc())).first()
        assert row is not None
        assert row.failures == failures
        assert (row.due_at - utc_now()).total_seconds() == pytest.approx(delay_s, rel=0.3, abs=1.0)
        make_due(database)
        confirm.settle_all()
    assert {line.last_error for line in lines(database)} == {archive.refuses}
    assert events(database, "not_committed") == [f"pacs cannot be asked: {archive.refuses}"]
    archive.refuses = ""
    confirm.ask_all()
    report(folder, archive.asked[0])
    confirm.settle_all()
    assert states(database) == ("done", ["committed", "committed"])


def test_a_pacs_that_never_commits_leaves_a_study_that_says_so_and_was_charged_once(
    database: Database, confirm: Confirmations, archive: Archive, study_id: int
) -> None:
    archive.refuses = "the destination refused to commit: 0x0110"
    confirm.ask_all()
    make_due(database)
    let_time_go_by(database)
    confirm.settle_all()
    assert states(database) == ("failed", ["uncommitted", "uncommitted"])
    assert history(database).reason == "not_committed"
    assert lines(database)[0].last_error == f"stored, but never committed to: {archive.refuses}"
    assert len(read_ledger(database)) == 1


def test_one_result_that_was_refused_says_more_of_a_study_than_one_that_is_not_committed_to(
    rooms: Rooms, database: Database, puts: Puts, pacs: Pacs, confirm: Confirmations, archive: Archive
) -> None:
    pacs.says = {"2.25.100": [0xC000]}
    waiting_study(rooms, 1)
    run_newest(rooms, puts)
    assert states(database) == ("delivering", ["refused", "stored"])
    confirm.ask_all()
    make_due(database)
    let_time_go_by(database)
    confirm.settle_all()
    assert (history(database).state, history(database).reason) == ("failed", "not_delivered")


def test_a_destination_that_is_no_longer_to_commit_has_delivered(
    rooms: Rooms,
    database: Database,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    Confirmations(asking(rooms, commitment=False), folder, take_report=lambda *_: 0).ask_all()
    assert (states(database), archive.asked) == (("done", ["delivered", "delivered"]), [])


def test_what_waits_for_a_report_is_delivered_as_well_when_nobody_asks_any_more(
    rooms: Rooms,
    database: Database,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    confirm.ask_all()
    later = Confirmations(asking(rooms, commitment=False), folder, take_report=lambda *_: 0)
    make_due(database)
    later.settle_all()
    later.ask_all()
    assert states(database) == ("done", ["delivered", "delivered"])


def test_an_erased_study_is_neither_asked_for_nor_sent_again(
    database: Database,
    puts: Puts,
    confirm: Confirmations,
    archive: Archive,
    folder: ConfirmationFolder,
    study_id: int,
) -> None:
    confirm.ask_all()
    with database.write() as connection:
        mark_erased(connection, clinic="st-mary", study_instance_uid="1.2.3.1")
    report(folder, archive.asked[0], failed=["2.25.100"])
    put = len(puts.jobs)
    confirm.settle_all()
    confirm.ask_all()
    assert states(database) == ("failed", ["uncommitted", "uncommitted"])
    assert (len(archive.asked), len(puts.jobs)) == (1, put)
    with database.read() as connection:
        assert connection.scalars(sa.select(confirmations.c.report)).all() == [None]


# What a worker that dies leaves behind


def test_a_worker_that_dies_before_it_asks_leaves_a_row_that_ends(
    database: Database, confirm: Confirmations, archive: Archive, study_id: int
) -> None:
    begun = begin(database, clinic="st-mary", destination="pacs", taken_for_s=60.0)
    assert begun is not None
    confirm.ask_all()
    assert archive.asked == []
    make_due(database)
    confirm.settle_all()
    confirm.ask_all()
    assert archive.uids() == [["2.25.100", "2.25.101"]]


def test_two_workers_do_not_ask_for_the_same(database: Database, study_id: int) -> None:
    asked = [begin(database, clinic="st-mary", destination="pacs", taken_for_s=60.0) for _ in range(2)]
    assert [one is None for one in asked] == [False, True]


def test_a_report_whose_row_was_forgotten_is_put_away(
    database: Database, confirm: Confirmations, folder: ConfirmationFolder, study_id: int
) -> None:
    folder.keep(Report(transaction_uid="2.25.404", committed=(Reference(sop_class_uid="1.2", sop_instance_uid="1"),)))
    confirm.settle_all()
    assert folder.reports.waiting() == []
    assert states(database) == ("delivering", ["stored", "stored"])


def test_what_was_asked_is_forgotten_ninety_days_after_its_end(
    database: Database, confirm: Confirmations, archive: Archive, folder: ConfirmationFolder, study_id: int
) -> None:
    confirm.ask_all()
    assert forget_confirmations(database, utc_now() + timedelta(days=91)) == 0
    report(folder, archive.asked[0])
    confirm.settle_all()
    assert forget_confirmations(database, utc_now() + timedelta(days=89)) == 0
    assert forget_confirmations(database, utc_now() + timedelta(days=91)) == 1
