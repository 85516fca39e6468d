"""What listeners were told reaches the database from the machine on which they heard it."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from domain.commitment import CommitmentRequest, Reference
from domain.confirmation import Report
from domain.procedure_step import ProcedureStep, StepStatus
from storage.arrivals.followers import FORGETS_EVERY, Follower, followers
from storage.arrivals.news import NewsPipe
from storage.arrivals.sweep import Sweep
from storage.database import Database, utc_now
from storage.instances import Spool
from storage.plain import to_plain
from storage.requests.confirmation_folder import ConfirmationFolder
from storage.requests.files import COMMITMENTS, RequestBox
from storage.requests.step_folder import StepFolder
from storage.tables import commitments, procedure_steps, quarantine
from tests.factories.arrivals import spooled
from tests.factories.sources import radiograph
from tests.journeys.house import wait_until
from tests.storage.following import following, keys_in, until

CR = "1.2.840.10008.5.1.4.1.1.1"


def a_request(*, requested_at: datetime) -> CommitmentRequest:
    return CommitmentRequest(
        clinic="st-mary",
        calling_ae_title="MODALITY1",
        peer_address="192.0.2.10",
        transaction_uid="2.25.9",
        asked=(Reference(sop_class_uid=CR, sop_instance_uid="1.2.3.1"),),
        requested_at=requested_at,
    )


def a_step(*, updated_at: datetime) -> ProcedureStep:
    return ProcedureStep(
        clinic="st-mary",
        sop_instance_uid="2.25.5",
        study_instance_uid="1.2.3",
        status=StepStatus.IN_PROGRESS,
        performed=(),
        updated_at=updated_at,
    )


def keep_one_of_each(data_dir: Path) -> None:
    """As listeners keep them."""
    RequestBox(data_dir, COMMITMENTS).put(json.dumps(to_plain(a_request(requested_at=utc_now()))).encode())
    folder = StepFolder(data_dir)
    with folder.locked():
        folder.write(a_step(updated_at=utc_now()))


def at_once() -> Event:
    """An indexer that is never behind."""
    recorded = Event()
    recorded.set()
    return recorded


def counts(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        requests = connection.scalar(sa.select(sa.func.count()).select_from(commitments))
        steps = connection.scalar(sa.select(sa.func.count()).select_from(procedure_steps))
    return requests or 0, steps or 0


def test_each_kind_of_request_gets_its_row_and_its_file_goes(database: Database, tmp_path: Path) -> None:
    keep_one_of_each(tmp_path)
    beside = followers(database, tmp_path, mark=at_once)
    for follower in beside:
        follower.start()
    wait_until(lambda: counts(database) == (1, 1), "both have rows")
    for follower in beside:
        follower.stop()
    assert list((tmp_path / "requests").rglob("*.json")) == []


def test_a_request_gets_its_row_after_all_that_was_stored_before_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, after an outage, it would be committed to what the pending re-send contradicts."""
    spool, pipe, is_back, find = Spool(tmp_path), NewsPipe(), Event(), Sweep.find
    first, other = radiograph(1), radiograph(1)
    other.StudyDescription = "other content"
    with following(database, spool, pipe=pipe) as run:
        pipe.writer().on_stored(spooled(spool, first))
        until(lambda: run.verdicts() == ["kept"])

        def behind(sweep: Sweep) -> Iterator[list[str]]:
            is_back.wait(30)
            return find(sweep)

        monkeypatch.setattr(Sweep, "find", behind)
        conflicting = spooled(spool, other)
        pipe.mark_lost()  # it is not told of, and only the next sweep finds it
        keep_one_of_each(tmp_path)
        follower, *_ = followers(database, tmp_path, mark=run.indexer.mark)
        for _ in range(3):
            follower.work()
        assert counts(database)[0] == 0
        is_back.set()
        follower.start()
        until(lambda: counts(database)[0] == 1)
        follower.stop()
        assert keys_in(database, quarantine) == {conflicting}


def test_a_mark_that_came_behind_a_loss_waits_for_the_sweep_after_it(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both came while a sweep ran, which did not look at what was lost."""
    spool, pipe, find = Spool(tmp_path), NewsPipe(), Sweep.find
    spooled(spool, radiograph(1))
    marks: list[Event | None] = []
    was_set: list[bool] = []

    with following(sqlite, spool, pipe=pipe) as run:
        until(lambda: run.verdicts() == ["kept"])

        def one_is_lost(sweep: Sweep) -> Iterator[list[str]]:
            was_set.extend(mark.is_set() for mark in marks if mark is not None)
            if not marks:
                pipe.mark_lost()
                marks.append(run.indexer.mark())
            yield from find(sweep)

        monkeypatch.setattr(Sweep, "find", one_is_lost)
        pipe.mark_lost()
        until(lambda: bool(marks) and marks[0] is not None and marks[0].is_set())
    assert was_set == [False]


def test_what_a_destination_reports_is_brought_in_from_where_it_came_to(database: Database, tmp_path: Path) -> None:
    ConfirmationFolder(tmp_path).keep(Report(transaction_uid="2.25.9"))
    for follower in followers(database, tmp_path, mark=at_once):
        follower.work()
    assert list(tmp_path.glob("requests/*/*.json")) == []


def test_two_receivers_on_separate_disks_both_reach_the_database(database: Database, tmp_path: Path) -> None:
    keep_one_of_each(tmp_path / "one")
    keep_one_of_each(tmp_path / "two")
    for data_dir in (tmp_path / "one", tmp_path / "two"):
        for follower in followers(database, data_dir, mark=at_once):
            follower.work()
    assert counts(database) == (1, 1)  # the same transaction, the same step
    assert list(tmp_path.glob("*/requests/*/*.json")) == []


def test_what_ended_ninety_days_ago_is_forgotten_within_the_hour(sqlite: Database, tmp_path: Path) -> None:
    keep_one_of_each(tmp_path)
    beside = followers(sqlite, tmp_path, mark=at_once)
    for follower in beside:
        follower.work()
    long_ago = utc_now() - timedelta(days=91)
    with sqlite.write() as connection:
        connection.execute(sa.update(commitments).values(ended_at=long_ago))
        connection.execute(sa.update(procedure_steps).values(updated_at=long_ago))
    for follower in beside:
        for _ in range(FORGETS_EVERY):
            follower.work()
    assert counts(sqlite) == (0, 0)


def test_a_follower_that_cannot_bring_in_tries_again() -> None:
    tries: list[int] = []

    def bring_in() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not this time")

    follower = Follower("stumbling", bring_in, lambda: None)
    follower.start()
    wait_until(lambda: len(tries) > 1, "it is tried again")
    follower.stop()
