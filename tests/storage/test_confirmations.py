"""What destinations are asked to commit to, in rows on both engines, and what the receiver knows of it on disk."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import storage.requests.confirmations
from domain.commitment import Reference
from domain.confirmation import Report
from domain.states import DeliveryState
from storage.database import Database, utc_now
from storage.deliveries import record_outcome, waiting
from storage.requests import confirmations
from storage.requests.confirmation_folder import Asked, ConfirmationFolder
from storage.studies import save_results
from storage.tables import deliveries
from tests.portal_api.rows import complete, receive, result

UIDS = ("2.25.100", "2.25.101", "2.25.102")


@pytest.fixture(autouse=True)
def _nothing_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.requests.confirmations, "GATHER_S", 0.0)


@pytest.fixture
def study_id(database: Database) -> int:
    """A study of st-mary, of which the destination pacs has stored three results."""
    study_id = complete(database, receive(database, "st-mary", "1.2.3", "1.2.3.1"))
    with database.write() as connection:
        save_results(connection, study_id, [result("overlay", uid) for uid in UIDS], {"standard": ["pacs"]})
    for uid in UIDS:
        stored(database, uid)
    return study_id


def stored(database: Database, uid: str, state: DeliveryState = DeliveryState.STORED) -> None:
    with database.write() as connection:
        record_outcome(connection, sop_instance_uid=uid, destination="pacs", state=state, status=0, detail="")


def begin(database: Database, destination: str = "pacs") -> tuple[confirmations.Confirmation, tuple[Reference, ...]]:
    begun = confirmations.begin(database, clinic="st-mary", destination=destination, taken_for_s=60.0)
    assert begun is not None
    return begun


def test_a_report_is_about_what_was_asked_for_under_its_transaction_uid(database: Database, study_id: int) -> None:
    assert confirmations.owing(database) == [("st-mary", "pacs")]
    confirmation, references = begin(database)
    assert confirmations.owing(database) == []
    assert confirmations.due(database) == []
    assert [one.sop_instance_uid for one in references] == list(UIDS)

    with database.write() as connection:
        confirmations.record_report(
            connection, Report(transaction_uid=confirmation.transaction_uid, committed=references[:2])
        )
    assert confirmations.due(database) == [confirmation.confirmation_id]
    with database.write() as connection:
        reported = confirmations.lock_due(connection, confirmation.confirmation_id)
        assert reported is not None
        assert reported.report is not None
        assert confirmations.studies_of(connection, reported) == [study_id]
        owed = confirmations.owed(connection, reported, study_id)
        confirmations.settle(connection, owed[:2], DeliveryState.COMMITTED)
        confirmations.end(connection, reported, is_waited_for=False)
    assert [(one.reference, one.is_asked_for, one.is_older) for one in owed] == [
        (reference, True, True) for reference in references
    ]
    assert confirmations.due(database) == []


def test_a_request_names_a_thousand_results_at_most(
    database: Database, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.confirmations, "MOST_REFERENCES", 2)
    assert [len(begin(database)[1]) for _ in range(2)] == [2, 1]


def test_the_time_that_a_destination_has_begins_when_it_first_stored_a_result(
    database: Database, study_id: int
) -> None:
    long_ago = utc_now() - timedelta(days=3)
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(owed_since=long_ago, state=DeliveryState.PENDING))
    stored(database, UIDS[0])
    with database.read() as connection:
        assert connection.scalars(sa.select(deliveries.c.owed_since).distinct()).all() == [long_ago]
        assert {one.since for one in waiting(connection, study_id, "pacs").values()} == {long_ago}


# On disk


def test_who_was_asked_is_known_to_every_process(tmp_path: Path) -> None:
    asked = Asked(clinic="st-mary", destination="pacs")
    ConfirmationFolder(tmp_path).remember("2.25.9", asked)
    assert ConfirmationFolder(tmp_path).asked_under("2.25.9") == asked


@pytest.mark.parametrize(
    "said", ["2.25.8", "", "..", "../confirmations/2.25.9", "2.25.9.json", "1.2.3", "2.25." + "9" * 40]
)
def test_what_was_asked_of_nobody_is_no_file(tmp_path: Path, said: str) -> None:
    folder = ConfirmationFolder(tmp_path)
    folder.remember("2.25.9", Asked(clinic="st-mary", destination="pacs"))
    assert folder.asked_under(said) is None


def test_a_damaged_file_is_of_nobody(tmp_path: Path) -> None:
    folder = ConfirmationFolder(tmp_path)
    (folder.root / "2.25.9.json").write_bytes(b"\0")
    assert folder.asked_under("2.25.9") is None


def test_a_transaction_uid_is_forgotten_after_ninety_days(tmp_path: Path) -> None:
    folder = ConfirmationFolder(tmp_path)
    for number, days in ((1, 89), (2, 91)):
        folder.remember(f"2.25.{number}", Asked(clinic="st-mary", destination="pacs"))
        asked_at = time.time() - days * 86400
        os.utime(folder.root / f"2.25.{number}.json", (asked_at, asked_at))
    assert folder.forget_old() == 1
    assert [folder.asked_under(f"2.25.{number}") is None for number in (1, 2)] == [False, True]


def test_a_report_that_is_damaged_on_disk_is_set_aside(database: Database, tmp_path: Path) -> None:
    folder = ConfirmationFolder(tmp_path)
    folder.reports.put(b"{")
    assert confirmations.record_reports(database, folder) == 0
    assert (folder.reports.waiting(), len(list(folder.reports.root.glob("*.damaged")))) == ([], 1)
