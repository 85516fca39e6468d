"""Pixels go when they are no longer needed, and nothing else does."""

import os
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.states import DeliveryState, StudyState
from storage import retention
from storage.content import content_sha256
from storage.database import Database, utc_now
from storage.deliveries import record_outcome
from storage.instances import Spool
from storage.intake import Verdict, record_instances, unknown_keys
from storage.overview import StudyFilter, read_history
from storage.retention import forget_commitments, forget_steps, remove_delivered_pixels
from storage.studies import (
    finish_study,
    read_study,
    save_results,
)
from storage.tables import commitments, deliveries, instances, procedure_steps, studies
from tests.storage.analysed import MONTH, RESULT, STUDY, asked, came, closed, column, done, kept, recorded, said


def test_the_pixels_of_a_study_go_when_its_results_have_been_delivered_long_enough(
    database: Database, spool: Spool
) -> None:
    one, two = came(spool, image=1), came(spool, image=2)
    digests = [content_sha256(spool, stored.spool_key) for stored in (one, two)]
    study_id = recorded(database, spool, one, two)
    done(database, study_id, ago=timedelta(days=31))
    assert remove_delivered_pixels(database, spool, after=MONTH) == 2
    assert kept(spool) == set()
    assert column(database, instances.c.content_sha256) == digests
    assert None not in column(database, instances.c.removed_at)
    assert remove_delivered_pixels(database, spool, after=MONTH) == 0


def test_results_ledger_and_history_stay(database: Database, spool: Spool, tmp_path: object) -> None:
    study_id = recorded(database, spool, came(spool))
    done(database, study_id, ago=timedelta(days=31))
    remove_delivered_pixels(database, spool, after=MONTH)
    (history,) = read_history(database, StudyFilter(study_instance_uid=STUDY))
    assert (history.state, history.instances, len(history.results)) == ("done", 1, 1)
    assert [(event.event, event.detail) for event in history.events][-1] == ("pixels_removed", "1 files")


def test_pixels_stay_while_any_of_the_study_is_not_delivered_long_enough(database: Database, spool: Spool) -> None:
    fresh = recorded(database, spool, came(spool, 1))
    done(database, fresh, ago=timedelta(days=29))
    receiving = recorded(database, spool, came(spool, 2))
    waiting = recorded(database, spool, came(spool, 3))
    closed(database, waiting)
    for state in (StudyState.HELD, StudyState.FAILED, StudyState.DELIVERING):
        study_id = recorded(database, spool, came(spool, 4 + len(kept(spool))))
        with database.write() as connection:
            values = {"state": state, "finished_at": utc_now() - timedelta(days=99)}
            connection.execute(sa.update(studies).where(studies.c.id == study_id).values(values))
    assert receiving
    assert remove_delivered_pixels(database, spool, after=MONTH) == 0
    assert len(kept(spool)) == 6


def test_pixels_stay_while_the_pacs_has_yet_to_commit_to_the_results(database: Database, spool: Spool) -> None:
    study_id = recorded(database, spool, came(spool))
    closed(database, study_id)
    with database.write() as connection:
        save_results(connection, study_id, [RESULT], {"standard": ["pacs"]})
        uid, state = RESULT.sop_instance_uid, DeliveryState.STORED
        record_outcome(connection, sop_instance_uid=uid, destination="pacs", state=state, status=0, detail="")
        assert not finish_study(connection, study_id)
    assert remove_delivered_pixels(database, spool, after=timedelta(0)) == 0
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(state=DeliveryState.COMMITTED))
        assert finish_study(connection, study_id)
    assert remove_delivered_pixels(database, spool, after=timedelta(0)) == 1


def test_pixels_that_a_later_generation_needs_stay_until_that_is_delivered_too(
    database: Database, spool: Spool
) -> None:
    first = recorded(database, spool, came(spool, image=1))
    done(database, first, ago=timedelta(days=99))
    second = recorded(database, spool, came(spool, image=2))
    assert second != first
    assert remove_delivered_pixels(database, spool, after=MONTH) == 0
    done(database, second, ago=timedelta(days=31), uid="2.25.9")
    assert remove_delivered_pixels(database, spool, after=MONTH) == 2


def test_an_image_that_comes_between_the_digests_and_the_removal_keeps_the_pixels(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recorded(database, spool, came(spool, image=1))
    done(database, first, ago=timedelta(days=99))
    save_digest = retention._save_digest

    def save_late(*arguments: object) -> None:
        save_digest(*arguments)  # type: ignore[arg-type]
        recorded(database, spool, came(spool, image=2))

    monkeypatch.setattr(retention, "_save_digest", save_late)
    assert remove_delivered_pixels(database, spool, after=MONTH) == 0
    assert len(kept(spool)) == 2


def test_a_late_image_is_analysed_without_those_whose_pixels_are_gone(database: Database, spool: Spool) -> None:
    done(database, recorded(database, spool, came(spool, image=1)), ago=timedelta(days=31))
    remove_delivered_pixels(database, spool, after=MONTH)
    second = recorded(database, spool, came(spool, image=2))
    closed(database, second)
    assert [one.sop_instance_uid for one in read_study(database, spool, second).instances] == ["2.25.4711.1.1.2"]


def test_a_re_send_of_removed_pixels_is_a_duplicate_and_other_content_is_a_conflict(
    database: Database, spool: Spool
) -> None:
    done(database, recorded(database, spool, came(spool)), ago=timedelta(days=31))
    remove_delivered_pixels(database, spool, after=MONTH)
    again, other = came(spool), came(spool, content="Chest AP")
    verdicts = [one.verdict for one in record_instances(database, spool, [again, other])]
    assert verdicts == [Verdict.DUPLICATE, Verdict.CONFLICTING]


def test_a_crash_before_the_files_are_gone_is_made_up_for_by_the_sweep(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = came(spool)
    done(database, recorded(database, spool, stored), ago=timedelta(days=31))

    def crash(self: Spool, key: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            remove_delivered_pixels(database, spool, after=MONTH)
    assert kept(spool) == {stored.spool_key}
    assert unknown_keys(database, [stored.spool_key]) == [stored.spool_key]
    (found,) = record_instances(database, spool, [stored])
    assert not found.keeps_file


def test_a_round_reads_so_many_bytes_and_the_next_goes_on(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BYTES_AT_ONCE", 1)
    done(database, recorded(database, spool, came(spool, image=1), came(spool, image=2)), ago=timedelta(days=31))
    assert [remove_delivered_pixels(database, spool, after=MONTH) for _ in range(3)] == [0, 2, 0]


def test_a_file_that_can_no_longer_be_read_goes_as_well_and_its_re_send_is_looked_at_by_a_person(
    database: Database, spool: Spool
) -> None:
    stored = came(spool)
    done(database, recorded(database, spool, stored), ago=timedelta(days=31))
    spool.path(stored.spool_key).unlink()
    assert remove_delivered_pixels(database, spool, after=MONTH) == 1
    assert record_instances(database, spool, [came(spool)])[0].verdict is Verdict.CONFLICTING


def test_a_file_that_has_lost_its_front_goes_as_well(database: Database, spool: Spool) -> None:
    stored, other = came(spool), came(spool, 2)
    for number, one in enumerate((stored, other)):
        done(database, recorded(database, spool, one), ago=timedelta(days=32 - number), uid=f"2.25.{number}")
    os.truncate(spool.path(stored.spool_key), 0)
    assert remove_delivered_pixels(database, spool, after=MONTH) == 2
    assert kept(spool) == set()


def test_a_study_whose_pixels_cannot_be_removed_does_not_hold_up_the_others(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = came(spool), came(spool, 2)
    for number, one in enumerate((first, second)):
        done(database, recorded(database, spool, one), ago=timedelta(days=32 - number), uid=f"2.25.{number}")

    def digest(spool: Spool, spool_key: str) -> str:
        if spool_key == first.spool_key:
            raise ZeroDivisionError
        return content_sha256(spool, spool_key)

    monkeypatch.setattr(retention, "content_sha256", digest)
    assert remove_delivered_pixels(database, spool, after=MONTH) == 1
    assert kept(spool) == {first.spool_key}


def test_what_is_in_quarantine_stays(database: Database, spool: Spool) -> None:
    first = came(spool)
    done(database, recorded(database, spool, first), ago=timedelta(days=31))
    aside = came(spool, content="Chest AP")
    record_instances(database, spool, [aside])
    remove_delivered_pixels(database, spool, after=MONTH)
    assert kept(spool) == {aside.spool_key}


def test_requests_and_steps_are_forgotten_ninety_days_after_their_end(database: Database, spool: Spool) -> None:
    said(database, spool, "2.25.1", STUDY)
    for number, state in enumerate(("reported", "given_up", "pending")):
        asked(database, f"2.25.{number}", "1.2.4.1", state=state)
    later = utc_now() + timedelta(days=90)
    assert (forget_commitments(database), forget_steps(database)) == (0, 0)
    assert (forget_commitments(database, later), forget_steps(database, later)) == (2, 1)
    assert column(database, commitments.c.state) == ["pending"]
    assert column(database, procedure_steps.c.id) == []
