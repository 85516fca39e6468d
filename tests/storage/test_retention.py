"""Pixels go when they are no longer needed, and nothing else does; what is erased is gone."""

import os
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.commitment import CommitmentRequest, Reference
from domain.completion import CompletionRules
from domain.errors import Refuse
from domain.procedure_step import ProcedureStep, StepStatus
from domain.states import DeliveryState, Reason, StudyState
from storage import retention
from storage.content import content_sha256
from storage.database import Database, utc_now
from storage.deliveries import record_outcome
from storage.erasure import erase_study
from storage.headers import StoredInstance
from storage.instances import ResultFolder, Spool
from storage.intake import Verdict, record_instances, record_release, unknown_keys
from storage.overview import StudyFilter, read_history
from storage.requests.commitments import holdings, record_commitment, take_due
from storage.requests.procedure_steps import record_steps
from storage.requests.step_folder import StepFolder
from storage.retention import forget_commitments, forget_steps, remove_delivered_pixels
from storage.studies import (
    OpenStudy,
    close_study,
    finish_study,
    read_study,
    save_analyses,
    save_decision,
    save_results,
)
from storage.study_keys import KeyNotThere, MasterKey, StudyKeys, study_name
from storage.tables import commitments, deliveries, instances, procedure_steps, quarantine, results, studies
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.sources import radiograph
from tests.portal_api.rows import ANALYSIS, result

STUDY = "2.25.4711.1"
MONTH = timedelta(days=30)
RULES = CompletionRules(after_release_s=0.0)
RESULT = result("overlay", "2.25.7")


def came(spool: Spool, number: int = 1, image: int = 1, content: str = "Chest PA") -> StoredInstance:
    """An image of study `number`, with its file."""
    dataset = radiograph(number)
    dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{image}"
    dataset.StudyDescription = content
    study = study_name("st-mary", str(dataset.StudyInstanceUID))
    return read_back(spool, spooled(spool, dataset, study=study, how=provenance(association=content)))


def recorded(database: Database, spool: Spool, *stored: StoredInstance) -> int:
    return record_instances(database, spool, stored)[0].study_id or 0


def closed(database: Database, study_id: int) -> None:
    record_release(database, [study_id])
    with database.write() as connection:
        assert close_study(connection, OpenStudy(study_id=study_id, clinic="", reason="released"), RULES)


def done(database: Database, study_id: int, *, ago: timedelta, uid: str = "2.25.7") -> None:
    """The study's result was delivered that long ago."""
    closed(database, study_id)
    with database.write() as connection:
        row = result("overlay", uid)
        save_results(connection, study_id, [row], {"standard": ["pacs"]})
        state = DeliveryState.DELIVERED
        record_outcome(connection, sop_instance_uid=uid, destination="pacs", state=state, status=0, detail="")
        assert finish_study(connection, study_id)
        connection.execute(sa.update(studies).where(studies.c.id == study_id).values(finished_at=utc_now() - ago))


def kept(spool: Spool) -> set[str]:
    return set(spool.stored_keys())


def column(database: Database, wanted: sa.Column[object]) -> Sequence[object]:
    with database.read() as connection:
        return connection.scalars(sa.select(wanted).order_by(wanted.table.c[0])).all()


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


@pytest.fixture
def sealed(spool: Spool) -> Spool:
    data_dir = spool.root.parent
    return Spool(data_dir, keys=StudyKeys(data_dir, [MasterKey(secret=b"m" * 32)]))


def erase(database: Database, spool: Spool, uid: str = STUDY, clinic: str = "st-mary") -> None:
    data_dir = spool.root.parent
    results, steps = ResultFolder(data_dir, keys=spool.keys), StepFolder(data_dir)
    erase_study(database, spool, results, steps, clinic=clinic, study_instance_uid=uid)


def test_an_erased_study_can_be_read_nowhere_and_others_can(database: Database, sealed: Spool) -> None:
    result_folder = ResultFolder(sealed.root.parent, keys=sealed.keys)
    mine, aside, other = came(sealed, 1), came(sealed, 1, content="Chest AP"), came(sealed, 2)
    copy = sealed.path(mine.spool_key).read_bytes()
    done(database, recorded(database, sealed, mine, other), ago=timedelta(0))
    record_instances(database, sealed, [aside])
    result_folder.put("2.25.7", b"result", study=study_name("st-mary", STUDY))
    erase(database, sealed)
    assert kept(sealed) == {other.spool_key}
    assert not result_folder.path("2.25.7").exists()
    sealed.path(mine.spool_key).write_bytes(copy)
    with pytest.raises(KeyNotThere):
        sealed.open(mine.spool_key)
    assert sealed.open(other.spool_key).read(132)[128:] == b"DICM"
    assert column(database, quarantine.c.id) == []


def test_a_study_of_which_something_has_no_row_yet_is_not_erased_where_that_would_be_lost(
    database: Database, sealed: Spool
) -> None:
    first = came(sealed, 1)
    done(database, recorded(database, sealed, first), ago=timedelta(0))
    late = came(sealed, 1, image=2)
    with pytest.raises(Refuse, match="instances of the study have come and have no row yet") as caught:
        erase(database, sealed)
    assert caught.value.hint == "try again in a moment; a receiver has to run, which brings them in"
    for stored in (first, late):
        assert sealed.open(stored.spool_key).read(132)[128:] == b"DICM"
    done(database, recorded(database, sealed, late), ago=timedelta(0), uid="2.25.8")
    erase(database, sealed)
    assert kept(sealed) == set()


def test_what_comes_while_a_study_is_erased_is_not_acknowledged(database: Database, sealed: Spool) -> None:
    done(database, recorded(database, sealed, came(sealed)), ago=timedelta(0))
    file = sealed.receive(study_name("st-mary", STUDY))
    file.write(b"instance")
    refused = []

    def receive(connection: sa.Connection) -> None:
        with pytest.raises(KeyNotThere):
            file.commit()
        refused.append(True)

    data_dir = sealed.root.parent
    results, steps = ResultFolder(data_dir, keys=sealed.keys), StepFolder(data_dir)
    erase_study(database, sealed, results, steps, clinic="st-mary", study_instance_uid=STUDY, also=receive)
    assert refused == [True]
    assert kept(sealed) == set()


def test_files_that_nobody_can_read_go_with_their_study(database: Database, sealed: Spool) -> None:
    """One was damaged before it had a row; the other is what an erasure that was cut short has left."""
    done(database, recorded(database, sealed, came(sealed, 1)), ago=timedelta(0))
    damaged = came(sealed, 1, image=2)
    path = sealed.path(damaged.spool_key)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    erase(database, sealed)
    assert kept(sealed) == set()
    left = came(sealed, 1, image=3)
    assert sealed.keys is not None
    sealed.keys.destroy(study_name("st-mary", STUDY))
    assert kept(sealed) == {left.spool_key}
    erase(database, sealed)
    assert kept(sealed) == set()


def test_the_rows_of_an_erased_study_say_only_that_it_was_there(database: Database, spool: Spool) -> None:
    study_id = recorded(database, spool, came(spool))
    with database.write() as connection:
        save_decision(connection, study_id, ["Study Description 'Chest PA' says chest"], "Study Description 'Chest PA'")
        save_analyses(connection, study_id, [ANALYSIS])
    done(database, study_id, ago=timedelta(0))
    erase(database, spool)
    (history,) = read_history(database, StudyFilter(study_instance_uid=STUDY))
    assert (history.state, history.accession_number, history.explanation, history.findings) == ("done", "", (), ())
    assert {event.detail for event in history.events} == {""}
    assert history.events[-1].event == "erased"
    assert column(database, instances.c.facts) == [{}]
    assert column(database, instances.c.content_sha256) == [None]
    assert column(database, results.c.sop_instance_uid) == ["2.25.7"]


def said(database: Database, spool: Spool, uid: str, study_instance_uid: str) -> StepFolder:
    """What a modality says by MPPS, in its file and its row, with a change that still waits for the database."""
    folder = StepFolder(spool.root.parent)
    step = ProcedureStep(
        clinic="st-mary",
        sop_instance_uid=uid,
        study_instance_uid=study_instance_uid,
        status=StepStatus.IN_PROGRESS,
        performed=(f"{study_instance_uid}.1.1",),
        updated_at=utc_now(),
    )
    for _ in range(2):
        record_steps(database, folder.changes)
        with folder.locked():
            folder.write(step)
    return folder


def asked(database: Database, transaction_uid: str, *uids: str, state: str = "reported") -> None:
    request = CommitmentRequest(
        clinic="st-mary",
        calling_ae_title="CT1",
        peer_address="192.0.2.7",
        transaction_uid=transaction_uid,
        asked=tuple(Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.1", sop_instance_uid=uid) for uid in uids),
        requested_at=utc_now(),
    )
    with database.write() as connection:
        record_commitment(connection, request)
        this = commitments.c.transaction_uid == transaction_uid
        ended_at = None if state == "pending" else utc_now()
        connection.execute(sa.update(commitments).where(this).values(state=state, ended_at=ended_at, due_at=utc_now()))


def test_what_modalities_said_of_an_erased_study_is_gone(database: Database, spool: Spool) -> None:
    done(database, recorded(database, spool, came(spool)), ago=timedelta(0))
    folder = said(database, spool, "2.25.1", STUDY)
    said(database, spool, "2.25.2", "1.2.4")
    erase(database, spool)
    assert column(database, procedure_steps.c.sop_instance_uid) == ["2.25.2"]
    assert (folder.read("st-mary", "2.25.1"), folder.read("st-mary", "2.25.2") is None) == (None, False)
    assert record_steps(database, folder.changes) == 1
    assert column(database, procedure_steps.c.sop_instance_uid) == ["2.25.2"]


def test_a_study_of_which_only_its_modality_spoke_can_be_erased(database: Database, spool: Spool) -> None:
    said(database, spool, "2.25.1", STUDY)
    erase(database, spool)
    assert column(database, procedure_steps.c.id) == []


def test_an_erased_study_is_in_no_commitment_that_was_reported(database: Database, spool: Spool) -> None:
    mine = came(spool)
    done(database, recorded(database, spool, mine), ago=timedelta(0))
    asked(database, "2.25.1", mine.sop_instance_uid)
    asked(database, "2.25.2", mine.sop_instance_uid, "1.2.4.1")
    asked(database, "2.25.3", "1.2.4.1")
    erase(database, spool)
    other = ["1.2.840.10008.5.1.4.1.1.1", "1.2.4.1"]
    assert column(database, commitments.c.transaction_uid) == ["2.25.2", "2.25.3"]
    assert column(database, commitments.c.asked) == [[other], [other]]


def test_a_report_that_is_owed_says_that_nothing_of_an_erased_study_is_held(database: Database, spool: Spool) -> None:
    mine = came(spool)
    done(database, recorded(database, spool, mine), ago=timedelta(0))
    asked(database, "2.25.1", mine.sop_instance_uid, state="pending")
    erase(database, spool)
    (due,) = take_due(database, for_s=60.0)
    assert [one.sop_instance_uid for one in due.request.asked] == [mine.sop_instance_uid]
    assert not holdings(database, spool, "st-mary", [mine.sop_instance_uid])[mine.sop_instance_uid].is_in_spool


def test_requests_and_steps_are_forgotten_ninety_days_after_their_end(database: Database, spool: Spool) -> None:
    said(database, spool, "2.25.1", STUDY)
    for number, state in enumerate(("reported", "given_up", "pending")):
        asked(database, f"2.25.{number}", "1.2.4.1", state=state)
    later = utc_now() + timedelta(days=90)
    assert (forget_commitments(database), forget_steps(database)) == (0, 0)
    assert (forget_commitments(database, later), forget_steps(database, later)) == (2, 1)
    assert column(database, commitments.c.state) == ["pending"]
    assert column(database, procedure_steps.c.id) == []


def test_what_comes_again_after_the_erasure_is_put_aside_and_erased_with_the_next(
    database: Database, sealed: Spool
) -> None:
    done(database, recorded(database, sealed, came(sealed)), ago=timedelta(0))
    erase(database, sealed)
    again = came(sealed)
    assert record_instances(database, sealed, [again])[0].verdict is Verdict.ERASED
    erase(database, sealed)
    assert kept(sealed) == set()


def test_a_study_on_its_way_to_a_pacs_that_is_away_can_be_erased_and_is_not_sent(
    database: Database, spool: Spool
) -> None:
    study_id = recorded(database, spool, came(spool))
    closed(database, study_id)
    with database.write() as connection:
        save_results(connection, study_id, [RESULT], {"standard": ["pacs"]})
    erase(database, spool)
    assert (column(database, studies.c.state), column(database, studies.c.reason)) == (["failed"], [Reason.ERASED])
    assert column(database, deliveries.c.state) == ["refused"]


def test_a_study_that_is_being_received_or_analysed_is_erased_a_moment_later(database: Database, spool: Spool) -> None:
    study_id = recorded(database, spool, came(spool))
    with pytest.raises(Refuse, match="the study is being received or analysed"):
        erase(database, spool)
    closed(database, study_id)
    with pytest.raises(Refuse, match="the study is being received or analysed"):
        erase(database, spool)
    assert len(kept(spool)) == 1


@pytest.mark.parametrize("uid", [STUDY, ""], ids=["by its study", "without a study"])
def test_what_an_unknown_caller_sent_can_be_erased_and_nothing_of_a_clinic_goes_with_it(
    database: Database, sealed: Spool, uid: str
) -> None:
    kept_one = came(sealed, image=1)
    strange = []
    for number in (1, 2):
        dataset = radiograph(number)
        dataset.StudyInstanceUID = uid
        strange.append(read_back(sealed, spooled(sealed, dataset, how=provenance(clinic=""))))
    recorded(database, sealed, kept_one, *strange)
    erase(database, sealed, uid, clinic="")
    assert kept(sealed) == {kept_one.spool_key}
    assert column(database, quarantine.c.spool_key) == []
    assert column(database, instances.c.removed_at) == [None]
    sealed.open(kept_one.spool_key).close()
    with pytest.raises(Refuse, match="came from a caller of no clinic"):
        erase(database, sealed, uid, clinic="")


def test_a_study_that_the_clinic_does_not_have_is_not_erased(database: Database, spool: Spool) -> None:
    with pytest.raises(Refuse, match=r"st-mary has no study '1\.2\.999'"):
        erase(database, spool, "1.2.999")
