"""Delivery: when the next attempt is made, and what is recorded of one that failed."""

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from metering.ledger import read_ledger
from scu.store import Answer, OutgoingFile, SendOutcome
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.studies import OpenStudy, close_study, save_analyses, save_results
from storage.study_keys import study_name
from storage.tables import deliveries, results, studies
from tests.factories.arrivals import NO_SPOOL, arrival
from tests.portal_api.rows import ANALYSIS, result
from tests.workflow.conftest import Direct, Puts
from workflow.deliver import Sent, deliver, record
from workflow.rooms import DeliveryRules, Rooms


@pytest.fixture
def study_id(database: Database, rooms: Rooms) -> int:
    """A study whose overlay and report wait for the PACS."""
    study_id = record_instances(database, NO_SPOOL, [arrival("k1")])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert close_study(connection, open_study, CompletionRules(after_release_s=0.0))
        save_analyses(connection, study_id, [ANALYSIS])
        rows = [result("overlay", "2.25.100"), result("text_sr", "2.25.101")]
        save_results(connection, study_id, rows, {"standard": ["pacs"]})
    for row in rows:
        rooms.results.put(row.sop_instance_uid, b"an object", study=study_name("st-mary", "1.2.3"))
    return study_id


def answered(rooms: Rooms, study_id: int, overlay: Answer, report: Answer, *, attempt: int = 1) -> None:
    said = (("2.25.100", overlay), ("2.25.101", report))
    outcomes = [SendOutcome(sop_instance_uid=uid, answer=answer, status=None, detail="") for uid, answer in said]
    with rooms.database.write() as connection:
        record(connection, rooms, study_id, "pacs", attempt, Sent(outcomes=tuple(outcomes)))


def states(database: Database) -> tuple[str, list[str]]:
    with database.read() as connection:
        study = connection.scalar(sa.select(studies.c.state)) or ""
        return study, list(connection.scalars(sa.select(deliveries.c.state).order_by(deliveries.c.id)))


def last_error(database: Database) -> str:
    with database.read() as connection:
        return connection.scalar(sa.select(deliveries.c.last_error)) or ""


@pytest.mark.parametrize(
    ("attempt", "delay_s"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (7, 320.0), (8, 600.0), (9, 600.0), (100_000, 600.0)],
)
def test_the_wait_doubles_up_to_the_longest_and_is_spread_by_a_fifth(attempt: int, delay_s: float) -> None:
    rules = DeliveryRules(first_retry_s=5.0, longest_retry_s=600.0, give_up_after_s=3600.0, timeout_s=2.0)
    assert rules.delay_s(attempt, chance=0.5) == delay_s
    assert rules.delay_s(attempt, chance=0.0) == pytest.approx(0.8 * delay_s)
    assert rules.delay_s(attempt, chance=1.0) == pytest.approx(1.2 * delay_s)


def test_a_pacs_that_is_away_is_tried_again_later_and_nothing_is_charged(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    deliver(study_id, "pacs", 3, rooms=rooms, durable=Direct(database))
    (job,) = puts.jobs
    assert job[:3] == ("pacs", study_id, 4)
    assert job[3] == pytest.approx(20.0, rel=0.21)
    assert states(database) == ("delivering", ["pending", "pending"])
    assert read_ledger(database) == []
    assert "127.0.0.1:1" in last_error(database)


def test_a_result_that_cannot_be_read_waits_and_says_so(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    rooms.results.path("2.25.100").unlink()
    deliver(study_id, "pacs", 1, rooms=rooms, durable=Direct(database))
    assert last_error(database) == "a result cannot be read: No such file or directory"
    (job,) = puts.jobs
    assert job[:3] == ("pacs", study_id, 2)
    assert job[3] == pytest.approx(5.0, rel=0.21)


def test_the_first_accepted_result_is_charged_and_the_rest_is_tried_again(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    answered(rooms, study_id, Answer.STORED, Answer.RETRY)
    assert states(database) == ("delivering", ["delivered", "pending"])
    assert [row.result_sop_instance_uid for row in read_ledger(database)] == ["2.25.100"]
    answered(rooms, study_id, Answer.STORED, Answer.STORED, attempt=2)
    assert states(database) == ("done", ["delivered", "delivered"])
    assert len(read_ledger(database)) == 1
    (job,) = puts.jobs
    assert job[:3] == ("pacs", study_id, 2)
    assert job[3] == pytest.approx(5.0, rel=0.21)


def test_a_pacs_that_has_a_result_already_has_got_it(
    database: Database, rooms: Rooms, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_duplicate(files: list[OutgoingFile], *_: object, **__: object) -> list[SendOutcome]:
        return [
            SendOutcome(sop_instance_uid=file.sop_instance_uid, answer=Answer.REFUSED, status=0x0111, detail="0x0111")
            for file in files
        ]

    monkeypatch.setattr("workflow.deliver.send_files", answer_duplicate)
    deliver(study_id, "pacs", 2, rooms=rooms, durable=Direct(database))
    assert states(database) == ("done", ["delivered", "delivered"])
    assert last_error(database) == "the peer has it already"


def test_a_study_whose_results_are_all_refused_has_failed_and_is_not_charged(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    answered(rooms, study_id, Answer.REFUSED, Answer.REFUSED)
    assert states(database) == ("failed", ["refused", "refused"])
    assert (read_ledger(database), puts.jobs) == ([], [])


def test_after_the_longest_time_the_pacs_is_given_up(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(results).values(written_at=utc_now().replace(year=2020)))
    answered(rooms, study_id, Answer.RETRY, Answer.RETRY)
    assert states(database) == ("failed", ["refused", "refused"])
    assert puts.jobs == []


def test_a_destination_that_left_the_configuration_is_refused_and_not_tried_again(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(destination="archive"))
    deliver(study_id, "archive", 1, rooms=rooms, durable=Direct(database))
    assert states(database) == ("failed", ["refused", "refused"])
    assert puts.jobs == []


def test_an_attempt_that_finds_nothing_pending_is_done(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    answered(rooms, study_id, Answer.STORED, Answer.STORED)
    deliver(study_id, "pacs", 2, rooms=rooms, durable=Direct(database))
    assert states(database) == ("done", ["delivered", "delivered"])
    assert puts.jobs == []
