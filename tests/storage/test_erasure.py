"""What is erased is gone, in every copy, and nothing else is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain.errors import Away, Refuse
from domain.states import Reason
from storage.database import Database
from storage.erasure import discard, erase_study
from storage.headers import StoredInstance
from storage.instances import ResultFolder, Spool
from storage.intake import Verdict, record_instances
from storage.overview import StudyFilter, read_history
from storage.requests.commitments import holdings, take_due
from storage.requests.procedure_steps import record_steps
from storage.requests.step_folder import StepFolder
from storage.shared.files import SharedFiles
from storage.shared.folder import SharedFolder
from storage.studies import (
    save_analyses,
    save_decision,
    save_results,
)
from storage.study_keys import KeyNotThere, MasterKey, StudyKeys, study_name
from storage.tables import commitments, deliveries, instances, procedure_steps, quarantine, results, studies
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.sources import radiograph
from tests.portal_api.rows import ANALYSIS
from tests.storage.analysed import RESULT, STUDY, asked, came, closed, column, done, kept, recorded, said


@pytest.fixture
def sealed(spool: Spool) -> Spool:
    data_dir = spool.root.parent
    return Spool(data_dir, keys=StudyKeys(data_dir, [MasterKey(secret=b"m" * 32)]))


@pytest.fixture
def sharing(spool: Spool) -> Spool:
    """With a shared store that is there."""
    data_dir = spool.root.parent
    (data_dir / "shared").mkdir()
    return Spool(data_dir, shared=SharedFiles(SharedFolder(data_dir / "shared"), data_dir / "cache"))


def erase(database: Database, spool: Spool, uid: str = STUDY, clinic: str = "st-mary") -> None:
    data_dir = spool.root.parent
    results, steps = ResultFolder(data_dir, keys=spool.keys), StepFolder(data_dir)
    erase_study(database, spool, results, steps, clinic=clinic, study_instance_uid=uid)


@contextmanager
def store_away(spool: Spool) -> Iterator[None]:
    shared = spool.root.parent / "shared"
    shared.rename(shared.with_name("elsewhere"))
    yield
    shared.with_name("elsewhere").rename(shared)


def moved(spool: Spool, *stored: StoredInstance) -> None:
    for one in stored:
        spool.share(one.spool_key)
        spool.let_go(one.spool_key)


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


def test_what_modalities_said_on_another_machine_goes_there_though_no_row_is_left(
    database: Database, spool: Spool, tmp_path: Path
) -> None:
    said(database, spool, "2.25.1", STUDY)
    elsewhere = Spool(tmp_path / "other")
    folder = said(database, elsewhere, "2.25.1", STUDY)
    said(database, elsewhere, "2.25.2", "1.2.4")
    erase(database, spool)
    assert folder.read("st-mary", "2.25.1") is not None
    erase(database, elsewhere)
    assert (folder.read("st-mary", "2.25.1"), folder.read("st-mary", "2.25.2") is None) == (None, False)
    with pytest.raises(Refuse, match="st-mary has no study"):
        erase(database, elsewhere)


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


@pytest.mark.parametrize("clinic", ["st-mary", ""], ids=["a clinic's", "strangers'"])
def test_what_could_not_be_erased_while_the_store_was_away_goes_with_the_next_try(
    database: Database, sharing: Spool, clinic: str
) -> None:
    first = came(sharing)
    done(database, recorded(database, sharing, first), ago=timedelta(0))
    other = radiograph(1)
    other.StudyDescription = "Chest AP"
    aside = read_back(sharing, spooled(sharing, other, how=provenance(clinic=clinic)))
    record_instances(database, sharing, [aside])
    moved(sharing, first, aside)
    with store_away(sharing), pytest.raises(Away):
        erase(database, sharing, clinic=clinic)
    erase(database, sharing, clinic=clinic)
    left = [] if clinic else [first.spool_key]
    assert [key for key, _ in sharing.shared_keys()] == left
    assert column(database, quarantine.c.id) == []


def test_what_could_not_be_discarded_while_the_store_was_away_is_in_quarantine_still(
    database: Database, sharing: Spool
) -> None:
    first, aside = came(sharing), came(sharing, content="Chest AP")
    recorded(database, sharing, first)
    record_instances(database, sharing, [aside])
    moved(sharing, first, aside)
    with store_away(sharing), pytest.raises(Away):
        discard(database, sharing, aside.spool_key)
    discard(database, sharing, aside.spool_key)
    assert [key for key, _ in sharing.shared_keys()] == [first.spool_key]
    assert column(database, quarantine.c.id) == []


def put_folder(path: Path) -> None:
    path.mkdir()


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("put", [put_folder, put_pipe, put_loop])
def test_what_somebody_else_put_into_the_spool_does_not_keep_a_study_from_being_erased(
    database: Database, sealed: Spool, put: Callable[[Path], None]
) -> None:
    mine = came(sealed)
    done(database, recorded(database, sealed, mine), ago=timedelta(0))
    put(sealed.path("0" * 32))
    erase(database, sealed)
    assert kept(sealed) == {"0" * 32}
