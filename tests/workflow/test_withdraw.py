"""Results that are taken back: who gets a note about what, and what the history says where one does not help."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest
import sqlalchemy as sa

from domain.care import Done, Rejection, Verb
from domain.clinics import Destination
from domain.errors import Away, Refuse
from domain.plans import Tier
from domain.queueing import StatRules
from domain.states import DeliveryState
from metering.care import Care
from metering.quota import reserve, used
from reports.write import write_results
from storage.database import Database, utc_now
from storage.instances import ResultFolder
from storage.jobs import withdrawal_job_id
from storage.overview import StudyFilter, StudyHistory, read_history
from storage.studies import ResultRow, save_results
from storage.tables import deliveries, results
from tests.factories.analyses import NODE, report_request
from tests.factories.sources import radiograph, stored_study
from tests.workflow.conftest import Direct, Puts
from tests.workflow.test_delivery import Pacs, pacs, run_newest, waiting_study
from workflow.deliver import drain
from workflow.results import keep
from workflow.rooms import Rooms
from workflow.withdraw import tell_abandoned, withdraw_study

__all__ = ["pacs"]
STUDY = "1.2.3.1"
NOTES = "1.2.840.10008.5.1.4.1.1.88.59"


@pytest.fixture
def rooms(rooms: Rooms) -> Rooms:
    return replace(rooms, node=NODE)


@pytest.fixture
def care(database: Database, puts: Puts) -> Care:
    return Care(database, cast(Any, puts), tiers={"st-mary": Tier.PROFESSIONAL}, stat=StatRules())


def rows_of(rooms: Rooms, folder: Path, profile: str = "standard") -> list[ResultRow]:
    """Results as a worker writes them, and their rows."""
    dataset = radiograph(1)
    dataset.StudyInstanceUID = STUDY
    written = write_results(report_request(stored_study([dataset], folder)), profile=profile)
    return [keep(rooms, one, study="st-mary", profile=profile, is_note=False) for one in written]


@pytest.fixture
def written(rooms: Rooms, tmp_path: Path) -> list[ResultRow]:
    return rows_of(rooms, tmp_path)


def entered(rooms: Rooms, rows: Sequence[ResultRow]) -> int:
    """A study whose results wait for the PACS. Their contents are put once more, for only the rows are asked for."""
    contents = {row.sop_instance_uid: rooms.results.open(row.sop_instance_uid).read() for row in rows}
    study_id = waiting_study(rooms, 1, rows)
    for uid, content in contents.items():
        rooms.results.put(uid, content, study="st-mary")
    return study_id


def withdraw(care: Care, rejection: Rejection = Rejection.SAFETY) -> Done:
    return care.ask(
        Verb.WITHDRAW, STUDY, clinics=None, asked_by="from the command line: wrong side", rejection=rejection
    )


def run_withdrawal(rooms: Rooms, puts: Puts) -> None:
    ((_, study_id, _, _),) = [job for job in puts.jobs if job[0] == "withdrawal"][-1:]
    withdraw_study(int(study_id), rooms=rooms, durable=Direct(rooms.database))


def history(rooms: Rooms) -> StudyHistory:
    return read_history(rooms.database, StudyFilter(study_instance_uid=STUDY))[-1]


def states(rooms: Rooms) -> list[str]:
    with rooms.database.read() as connection:
        return list(connection.scalars(sa.select(deliveries.c.state).order_by(deliveries.c.id)))


def notes(rooms: Rooms) -> list[str]:
    with rooms.database.read() as connection:
        return list(connection.scalars(sa.select(results.c.sop_instance_uid).where(results.c.kind == "rejection_note")))


def named_in(rooms: Rooms, uid: str) -> set[str]:
    dataset = pydicom.dcmread(BytesIO(rooms.results.open(uid).read()))
    return {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in dataset.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }


def test_the_pacs_gets_a_note_that_names_what_it_has(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    assert withdraw(care).state == "withdrawn"
    run_withdrawal(rooms, puts)
    run_newest(rooms, puts)
    (note,) = notes(rooms)
    assert pacs.stored[-1] == note
    assert named_in(rooms, note) == {row.sop_instance_uid for row in written}
    told = history(rooms)
    assert (told.state, told.reason) == ("withdrawn", "safety")
    assert ("withdrawn", "for patient safety, asked for from the command line: wrong side") in [
        (event.event, event.detail) for event in told.events
    ]


def test_what_has_not_been_sent_stays_here_and_its_quota_is_given_back(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    with rooms.database.write() as connection:
        assert reserve(connection, clinic="st-mary", study_instance_uid=STUDY, now=utc_now())
    entered(rooms, written)
    withdraw(care)
    run_newest_drain(rooms, puts)
    assert pacs.stored == []
    assert states(rooms) == ["withdrawn"] * 3
    with rooms.database.read() as connection:
        assert used(connection, clinic="st-mary", period=utc_now().strftime("%Y-%m")) == 0


def run_newest_drain(rooms: Rooms, puts: Puts) -> None:
    destination, clinic, number, _ = [job for job in puts.jobs if job[0] == "pacs"][-1]
    drain(str(clinic), destination, number, rooms=rooms, durable=Direct(rooms.database))


def test_what_the_pacs_has_stored_but_not_committed_to_is_not_waited_for_any_more(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    with rooms.database.write() as connection:
        connection.execute(sa.update(deliveries).values(state=DeliveryState.STORED))
    withdraw(care)
    assert states(rooms) == ["delivered"] * 3


def test_each_destination_is_told_of_what_it_has_and_of_nothing_else(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow], tmp_path: Path
) -> None:
    archive = Destination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=2, profile="text")
    rooms = replace(
        rooms, clinics=tuple(replace(one, destinations=(*one.destinations, archive)) for one in rooms.clinics)
    )
    study_id = entered(rooms, written)
    text = [replace(row, profile="text") for row in written if row.kind == "text_sr"]
    with rooms.database.write() as connection:
        save_results(connection, study_id, text, {"text": ["archive"]})
    withdraw(care)
    run_withdrawal(rooms, puts)
    named = sorted(map(sorted, (named_in(rooms, note) for note in notes(rooms))), key=len)
    assert named == [[text[0].sop_instance_uid], sorted(row.sop_instance_uid for row in written)]
    assert {job[0] for job in puts.jobs} == {"pacs", "withdrawal", "archive"}


def test_results_of_earlier_generations_are_taken_back_as_well(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    first = entered(rooms, written[:2])
    run_newest(rooms, puts)
    care.ask(Verb.REANALYSE, STUDY, clinics=None, asked_by="from the command line")
    with rooms.database.write() as connection:
        save_results(connection, first + 1, written[2:], {"standard": ["pacs"]})
    assert history(rooms).state == "delivering"
    withdraw(care)
    run_withdrawal(rooms, puts)
    (note,) = notes(rooms)
    assert named_in(rooms, note) == {row.sop_instance_uid for row in written}


def test_where_the_pacs_does_not_take_the_note_the_history_says_what_to_do(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    withdraw(care)
    run_withdrawal(rooms, puts)
    pacs.takes_not = {NOTES}
    run_newest(rooms, puts)
    told = history(rooms)
    assert told.state == "withdrawn"
    assert [event.detail for event in told.events if event.event == "not_withdrawn"] == [
        "pacs did not take the rejection note: remove the results there by hand"
    ]


def test_a_note_that_was_not_taken_is_sent_once_more_when_somebody_says_so(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    withdraw(care)
    run_withdrawal(rooms, puts)
    pacs.takes_not = {NOTES}
    run_newest(rooms, puts)
    pacs.takes_not = set()
    care.ask(Verb.RETRY, STUDY, clinics=None, asked_by="from the command line")
    run_newest(rooms, puts)
    assert pacs.stored[-1:] == notes(rooms)
    assert history(rooms).state == "withdrawn"
    assert [job[0] for job in puts.jobs].count("withdrawal") == 1


def test_a_note_that_could_not_be_written_is_written_when_somebody_says_so(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    lost = rooms.results.open(written[0].sop_instance_uid).read()
    rooms.results.remove(written[0].sop_instance_uid)
    withdraw(care)
    run_withdrawal(rooms, puts)
    assert notes(rooms) == []
    rooms.results.put(written[0].sop_instance_uid, lost, study="st-mary")
    care.ask(Verb.RETRY, STUDY, clinics=None, asked_by="from the command line")
    run_withdrawal(rooms, puts)
    assert len(notes(rooms)) == 1


def test_a_job_that_nobody_runs_any_more_is_told_once(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    study_id = entered(rooms, written)
    run_newest(rooms, puts)
    withdraw(care)
    for _ in range(2):
        tell_abandoned(rooms, {withdrawal_job_id(study_id, 3), "study:7:1", "drain:st-mary:pacs:1"})
    told = [event.detail for event in history(rooms).events if event.event == "not_withdrawn"]
    assert len(told) == 1
    assert "took the worker down 3 times" in told[0]


def test_a_note_is_free_and_charges_nothing_again(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    withdraw(care)
    run_withdrawal(rooms, puts)
    run_newest(rooms, puts)
    assert [event.event for event in history(rooms).events].count("charged") == 1


def test_asking_twice_is_asking_once(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    assert [withdraw(care).is_changed, withdraw(care).is_changed] == [True, False]
    assert [job[0] for job in puts.jobs].count("withdrawal") == 1


def test_a_study_without_results_has_nothing_to_withdraw(
    rooms: Rooms, care: Care, puts: Puts, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    with rooms.database.write() as connection:
        connection.execute(sa.update(deliveries).values(state=DeliveryState.REFUSED))
    with pytest.raises(Refuse, match="no destination has, or will get, a result"):
        withdraw(care)
    assert history(rooms).state == "delivering"


def test_results_that_are_gone_are_said_to_need_a_hand(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow]
) -> None:
    entered(rooms, written)
    run_newest(rooms, puts)
    rooms.results.remove(written[0].sop_instance_uid)
    withdraw(care)
    run_withdrawal(rooms, puts)
    assert notes(rooms) == []
    assert history(rooms).events[-1].event == "not_withdrawn"
    assert history(rooms).events[-1].detail.endswith("Remove the results at each destination by hand")


def test_a_shared_store_that_is_away_is_waited_for(
    rooms: Rooms, care: Care, puts: Puts, pacs: Pacs, written: list[ResultRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered(rooms, written)
    withdraw(care)
    with monkeypatch.context() as away:
        away.setattr(ResultFolder, "open", store_is_away)
        run_withdrawal(rooms, puts)
    assert [job[0] for job in puts.jobs].count("withdrawal") == 2
    run_withdrawal(rooms, puts)
    assert len(notes(rooms)) == 1


def store_is_away(*_: object) -> None:
    raise Away("the shared store is not there")
