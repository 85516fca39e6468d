"""Delivery: what is sent when, in which order, and what is recorded of an attempt that failed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.errors import Away, Retry
from metering.ledger import read_ledger
from scu.store import Answer, OutgoingFile, SendOutcome, answer_of
from storage.database import Database, utc_now
from storage.instances import ResultFolder
from storage.intake import record_instances, record_release
from storage.outboxes import wake
from storage.overview import StudyFilter, read_history
from storage.studies import OpenStudy, ResultRow, close_study, save_analyses, save_results
from storage.study_keys import study_name
from storage.tables import deliveries, outboxes, results, studies, study_events
from tests.factories.arrivals import NO_SPOOL, arrival
from tests.portal_api.rows import ANALYSIS, result
from tests.workflow.conftest import Direct, Puts
from workflow.deliver import STUDIES_AT_ONCE, drain
from workflow.deliver import after_bug as after_drain_bug
from workflow.recovery import wake_abandoned
from workflow.rooms import DeliveryRules, Rooms

CHOKES = -1  # the association ends at this file


@dataclass
class Pacs:
    """Stands for scu.store.store_association: answers by plan, and remembers what came over which association."""

    is_away: bool = False
    says: dict[str, list[int]] = field(default_factory=dict)
    takes_not: set[str] = field(default_factory=set)
    associations: list[list[str]] = field(default_factory=list)
    is_open: bool = True
    before: Callable[[str], None] = lambda uid: None

    @contextmanager
    def __call__(self, _to: object, contexts: Sequence[tuple[str, str]], **_: object) -> Iterator["Pacs"]:
        if self.is_away:
            raise Retry("PACS at 127.0.0.1:1 cannot be reached")
        self.associations.append([])
        self.is_open = True
        yield self

    def at_rest(self) -> AbstractContextManager[None]:
        return nullcontext()

    def send(self, file: OutgoingFile) -> SendOutcome:
        uid = file.sop_instance_uid
        self.before(uid)
        if file.sop_class_uid in self.takes_not:
            return SendOutcome(sop_instance_uid=uid, answer=Answer.NOT_TAKEN, status=None, detail="does not take it")
        if not self.is_open:
            return SendOutcome(sop_instance_uid=uid, answer=Answer.RETRY, status=None, detail="it ended before")
        plan = self.says.get(uid, [])
        status = plan.pop(0) if plan else 0
        if status == CHOKES:
            self.is_open = False
            return SendOutcome(sop_instance_uid=uid, answer=Answer.RETRY, status=None, detail="the peer did not answer")
        answer = answer_of(status)
        if answer is Answer.STORED or status == 0x0111:
            self.associations[-1].append(uid)
        detail = "" if status == 0 else f"0x{status:04X}"
        return SendOutcome(sop_instance_uid=uid, answer=answer, status=status, detail=detail)

    @property
    def stored(self) -> list[str]:
        return [uid for association in self.associations for uid in association]


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Pacs:
    pacs = Pacs()
    monkeypatch.setattr("workflow.sending.store_association", pacs)
    return pacs


@pytest.fixture
def study_id(rooms: Rooms) -> int:
    """A study whose overlay and report wait for the PACS, which knows of nothing else."""
    return waiting_study(rooms, 1)


def waiting_study(rooms: Rooms, number: int, rows: Sequence[ResultRow] = ()) -> int:
    """Study 1.2.3.<number> with these results, or with 2.25.<number>00, an overlay, and 2.25.<number>01, a report."""
    database, study = rooms.database, f"1.2.3.{number}"
    instance = arrival(f"k{number}", f"{study}.1", study_instance_uid=study)
    study_id = record_instances(database, NO_SPOOL, [instance])[0].study_id or 0
    record_release(database, [study_id])
    rows = rows or [result("overlay", f"2.25.{number}00"), result("text_sr", f"2.25.{number}01")]
    for row in rows:
        rooms.results.put(row.sop_instance_uid, b"an object", study=study_name("st-mary", study))
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert close_study(connection, open_study, CompletionRules(after_release_s=0.0))
        save_analyses(connection, study_id, [ANALYSIS])
        save_results(connection, study_id, rows, {row.profile: ["pacs"] for row in rows})
        wake(connection, rooms.jobs, clinic="st-mary", destination="pacs")
    return study_id


def test_results_in_a_store_that_is_away_wait_for_it_and_are_not_refused(
    rooms: Rooms, puts: Puts, study_id: int, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(ResultFolder, "lend", store_is_away)
        run_newest(rooms, puts)
    assert pacs.stored == []
    run_newest(rooms, puts)
    assert pacs.stored == ["2.25.100", "2.25.101"]


def store_is_away(*_: object) -> None:
    raise Away("the shared store is not there")


def run_newest(rooms: Rooms, puts: Puts) -> None:
    """Run the newest job, as if its time had come."""
    with rooms.database.write() as connection:
        earlier = utc_now() - timedelta(seconds=1)
        connection.execute(sa.update(deliveries).where(deliveries.c.due_at.is_not(None)).values(due_at=earlier))
    destination, clinic, number, _ = puts.jobs[-1]
    drain(str(clinic), destination, number, rooms=rooms, durable=Direct(rooms.database))


def delay_of(puts: Puts) -> float:
    return puts.jobs[-1][3]


def states(database: Database) -> tuple[str, list[str]]:
    with database.read() as connection:
        study = connection.scalar(sa.select(studies.c.state).order_by(studies.c.id)) or ""
        return study, list(connection.scalars(sa.select(deliveries.c.state).order_by(deliveries.c.id)))


def last_errors(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.select(deliveries.c.last_error).order_by(deliveries.c.id)))


def events(database: Database, event: str) -> list[str]:
    with database.read() as connection:
        of_kind = sa.select(study_events.c.detail).where(study_events.c.event == event)
        return list(connection.scalars(of_kind.order_by(study_events.c.id)))


def outbox(database: Database) -> tuple[bool, int]:
    """Whether the destination's job is to be waited for, and how many associations have failed in a row."""
    with database.read() as connection:
        row = connection.execute(sa.select(outboxes)).one()
    return row.is_busy, row.failures


@pytest.mark.parametrize(
    ("attempt", "delay_s"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (7, 320.0), (8, 600.0), (9, 600.0), (100_000, 600.0)],
)
def test_the_wait_doubles_up_to_the_longest_and_is_spread_by_a_fifth(attempt: int, delay_s: float) -> None:
    rules = DeliveryRules(first_retry_s=5.0, longest_retry_s=600.0, give_up_after_s=3600.0, timeout_s=2.0)
    assert rules.delay_s(attempt, chance=0.5) == delay_s
    assert rules.delay_s(attempt, chance=0.0) == pytest.approx(0.8 * delay_s)
    assert rules.delay_s(attempt, chance=1.0) == pytest.approx(1.2 * delay_s)


def test_a_pacs_that_is_away_is_tried_again_after_longer_and_longer_waits_and_nothing_is_charged(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    for delay_s in (5.0, 10.0, 20.0):
        run_newest(rooms, puts)
        assert delay_of(puts) == pytest.approx(delay_s, rel=0.21)
    assert outbox(database) == (True, 3)
    assert states(database) == ("delivering", ["pending", "pending"])
    assert read_ledger(database) == []
    assert all("127.0.0.1:1" in error for error in last_errors(database))


def test_what_comes_for_a_pacs_that_is_away_waits_with_the_rest_and_says_why(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    run_newest(rooms, puts)
    put = len(puts.jobs)
    waiting_study(rooms, 2)
    assert len(puts.jobs) == put
    (history,) = read_history(database, StudyFilter(study_instance_uid="1.2.3.2"))
    (delivery,) = history.results[0].deliveries
    assert (delivery.state, delivery.attempts) == ("pending", 0)
    assert "127.0.0.1:1" in delivery.last_error


def test_a_backlog_drains_over_one_association_in_the_order_in_which_studies_were_completed(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    pacs.is_away = True
    for number in (1, 2, 3, 4, 5):
        waiting_study(rooms, number)
        run_newest(rooms, puts)
    pacs.is_away = False
    run_newest(rooms, puts)
    assert pacs.associations == [[f"2.25.{number}0{part}" for number in (1, 2, 3, 4, 5) for part in (0, 1)]]
    assert len(read_ledger(database)) == 5
    assert outbox(database) == (False, 0)
    assert set(last_errors(database)) == {""}


def test_an_association_takes_so_many_studies_and_the_next_job_goes_on_at_once(
    rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    for number in range(1, STUDIES_AT_ONCE + 2):
        waiting_study(rooms, number)
    run_newest(rooms, puts)
    assert [len(association) for association in pacs.associations] == [2 * STUDIES_AT_ONCE]
    assert delay_of(puts) == 0.0
    run_newest(rooms, puts)
    assert [len(association) for association in pacs.associations] == [2 * STUDIES_AT_ONCE, 2]


def test_what_comes_while_a_job_is_on_its_way_goes_over_its_association(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    def another_arrives(uid: str) -> None:
        if uid == "2.25.101":
            waiting_study(rooms, 2)

    pacs.before = another_arrives
    run_newest(rooms, puts)
    assert pacs.associations == [["2.25.100", "2.25.101", "2.25.200", "2.25.201"]]
    assert [job[2] for job in puts.jobs] == [1]
    assert outbox(database) == (False, 0)


def test_the_association_waits_a_moment_for_the_next_study(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_arrives(_s: float) -> None:
        if len(pacs.stored) == 2:
            waiting_study(rooms, 2)
        monkeypatch.setattr("workflow.deliver.STAYS_S", 0.0)  # and then nothing more

    monkeypatch.setattr("workflow.deliver.STAYS_S", 30.0)
    monkeypatch.setattr(time, "sleep", another_arrives)
    run_newest(rooms, puts)
    assert pacs.associations == [["2.25.100", "2.25.101", "2.25.200", "2.25.201"]]
    assert outbox(database) == (False, 0)


def test_what_needs_a_context_that_the_association_has_not_goes_with_the_next_job(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that has sent nothing does not stay for it."""
    with monkeypatch.context() as older:
        older.setattr("workflow.sending.deliveries.pending_contexts", lambda *_, **__: [])
        run_newest(rooms, puts)
    assert (pacs.stored, delay_of(puts)) == ([], 0.0)
    run_newest(rooms, puts)
    assert (pacs.stored, len(puts.jobs)) == (["2.25.100", "2.25.101"], 2)


def test_a_job_that_a_newer_one_has_replaced_does_nothing(rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int) -> None:
    pacs.says = {"2.25.100": [0xA700]}
    run_newest(rooms, puts)
    assert delay_of(puts) > 0
    waiting_study(rooms, 2)
    assert [job[2] for job in puts.jobs] == [1, 2, 3]
    drain("st-mary", "pacs", 2, rooms=rooms, durable=Direct(rooms.database))
    assert pacs.stored == ["2.25.101"]
    assert [job[2] for job in puts.jobs] == [1, 2, 3]


def test_a_result_that_the_pacs_wants_later_waits_by_itself_and_holds_up_no_other(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1)
    waiting_study(rooms, 2)
    pacs.says = {"2.25.100": [0xA700, 0xA700]}
    run_newest(rooms, puts)
    assert pacs.stored == ["2.25.101", "2.25.200", "2.25.201"]
    assert delay_of(puts) == pytest.approx(5.0, rel=0.21)
    assert outbox(database) == (False, 0)
    waiting_study(rooms, 3)
    assert delay_of(puts) == 0.0
    run_newest(rooms, puts)
    assert pacs.stored == ["2.25.101", "2.25.200", "2.25.201", "2.25.300", "2.25.301"]
    assert delay_of(puts) == pytest.approx(10.0, rel=0.21)
    run_newest(rooms, puts)
    assert pacs.stored[-1] == "2.25.100"
    assert len(puts.jobs) == 4


def test_what_a_restarted_pacs_cut_off_keeps_its_place(rooms: Rooms, puts: Puts, pacs: Pacs) -> None:
    for number in (1, 2, 3):
        waiting_study(rooms, number)
    pacs.says = {"2.25.200": [CHOKES]}
    run_newest(rooms, puts)
    assert pacs.associations == [["2.25.100", "2.25.101"]]
    assert delay_of(puts) == pytest.approx(5.0, rel=0.21)
    run_newest(rooms, puts)
    assert pacs.associations[1] == ["2.25.200", "2.25.201", "2.25.300", "2.25.301"]


def test_an_object_at_which_the_pacs_chokes_each_time_does_not_keep_the_others_from_it(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    for number in (1, 2, 3):
        waiting_study(rooms, number)
    pacs.says = {"2.25.100": [CHOKES] * 3}
    run_newest(rooms, puts)
    run_newest(rooms, puts)
    assert pacs.stored == []
    run_newest(rooms, puts)
    assert pacs.stored == ["2.25.101", "2.25.200", "2.25.201", "2.25.300", "2.25.301"]
    run_newest(rooms, puts)
    run_newest(rooms, puts)
    assert pacs.stored[-1] == "2.25.100"
    assert outbox(database) == (False, 0)


def test_a_result_that_cannot_be_read_waits_and_says_so(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    waiting_study(rooms, 2)
    rooms.results.path("2.25.100").unlink()
    run_newest(rooms, puts)
    assert last_errors(database)[0] == "a result cannot be read: No such file or directory"
    assert pacs.stored == ["2.25.200", "2.25.201"]
    assert delay_of(puts) == pytest.approx(5.0, rel=0.21)


def test_the_first_accepted_result_is_charged_and_the_rest_is_tried_again(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    pacs.says = {"2.25.101": [0x0110]}
    run_newest(rooms, puts)
    assert states(database) == ("delivering", ["delivered", "pending"])
    (row,) = read_ledger(database)
    assert (row.result_sop_instance_uid, row.result_sop_instance_uids) == ("2.25.100", ("2.25.100", "2.25.101"))
    assert [(model.package, model.version, model.device_uid) for model in row.models] == [("chest", "1.0.0", "2.25.1")]
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered"])
    assert len(read_ledger(database)) == 1


def test_a_warning_is_a_success(database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int) -> None:
    pacs.says = {"2.25.100": [0xB000], "2.25.101": [0xB007]}
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered"])


def test_a_pacs_that_has_a_result_already_has_got_it(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    pacs.says = {"2.25.100": [0x0111], "2.25.101": [0x0111]}
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered"])
    assert set(last_errors(database)) == {"the peer has it already"}


def test_a_study_whose_results_are_all_refused_has_failed_and_is_not_charged(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    pacs.says = {"2.25.100": [0xC000], "2.25.101": [0xA900]}
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["refused", "refused"])
    assert (read_ledger(database), len(puts.jobs)) == ([], 1)


def test_after_the_longest_time_what_waits_for_a_pacs_is_given_up_and_what_is_younger_is_not(
    database: Database, rooms: Rooms, puts: Puts
) -> None:
    for number in (1, 2, 3):
        waiting_study(rooms, number)
    with database.write() as connection:
        old = results.c.sop_instance_uid.not_in(["2.25.300", "2.25.301"])
        connection.execute(sa.update(results).where(old).values(written_at=utc_now().replace(year=2020)))
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["refused"] * 4 + ["pending"] * 2)
    assert len(events(database, "failed")) == 2


def test_what_a_pacs_takes_after_the_longest_time_is_delivered(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(results).values(written_at=utc_now().replace(year=2020)))
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered"])


def test_a_destination_that_left_the_configuration_is_refused_and_not_tried_again(
    database: Database, rooms: Rooms, puts: Puts, study_id: int
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(destination="archive"))
        wake(connection, rooms.jobs, clinic="st-mary", destination="archive")
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["refused", "refused"])
    assert [job[0] for job in puts.jobs] == ["pacs", "archive"]


def test_a_job_that_finds_nothing_pending_ends_in_rest(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(state="refused"))
    run_newest(rooms, puts)
    assert (pacs.associations, len(puts.jobs)) == ([], 1)
    assert outbox(database) == (False, 0)


def test_a_study_that_the_job_cannot_stand_steps_behind_the_others(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1)
    waiting_study(rooms, 2)
    with database.write() as connection:
        after_drain_bug(connection, rooms, "st-mary", "pacs", 1)
    assert last_errors(database)[:2] == ["an unexpected error; see the worker's log"] * 2
    assert delay_of(puts) == pytest.approx(5.0, rel=0.21)
    run_newest(rooms, puts)
    assert pacs.associations == [["2.25.200", "2.25.201", "2.25.100", "2.25.101"]]


def test_a_destination_whose_job_was_abandoned_is_tried_again(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, study_id: int
) -> None:
    assert wake_abandoned(rooms, {"drain:st-mary:pacs:7"}) == 0
    assert wake_abandoned(rooms, {"drain:st-mary:pacs:1"}) == 1
    assert puts.jobs[-1][:3] == ("pacs", "st-mary", 2)
    assert delay_of(puts) == pytest.approx(5.0, rel=0.21)
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered"])
