"""A study that is tried again, cancelled or analysed anew: its rows, its quota, its jobs, and who asked."""

from typing import Any, cast

import pytest
import sqlalchemy as sa

from domain.care import Done, Verb
from domain.errors import Refuse
from domain.plans import Tier
from domain.queueing import StatRules
from domain.states import DeliveryState, StudyState
from domain.study import Study
from metering.care import Care
from metering.ledger import charge
from metering.quota import reserve, used
from storage import studies
from storage.database import Database, utc_now
from storage.deliveries import record_outcome
from storage.erasure import mark_erased
from storage.instances import Spool
from storage.overview import StudyFilter, StudyHistory, read_history
from storage.tables import deliveries
from tests.metering.rows import NOW
from tests.portal_api.rows import ANALYSIS, complete, hold, receive, result
from tests.workflow.conftest import Puts

STUDY = "1.2.3.2"


@pytest.fixture
def puts() -> Puts:
    return Puts()


@pytest.fixture
def care(database: Database, puts: Puts) -> Care:
    tiers = {"st-mary": Tier.PROFESSIONAL, "mercy": Tier.BASIC}
    return Care(database, cast(Any, puts), tiers=tiers, stat=StatRules())


def ask(care: Care, verb: Verb, uid: str = STUDY, clinics: set[str] | None = None) -> Done:
    return care.ask(verb, uid, clinics=clinics, asked_by="from the command line")


def queued(database: Database, uid: str = STUDY, *, clinic: str = "mercy") -> int:
    """A study that waits for its analysis and has its quota."""
    study_id = complete(database, receive(database, clinic, uid, f"{uid}.1"))
    with database.write() as connection:
        assert reserve(connection, clinic=clinic, study_instance_uid=uid, now=NOW)
    return study_id


def answered(database: Database, study_id: int, state: DeliveryState) -> None:
    """The PACS has said the same to both of its results, and the study has ended."""
    with database.write() as connection:
        studies.save_analyses(connection, study_id, [ANALYSIS])
        rows = [result("overlay", "2.25.100"), result("text_sr", "2.25.101")]
        studies.save_results(connection, study_id, rows, {"standard": ["pacs"]})
        for row in rows:
            record_outcome(
                connection,
                sop_instance_uid=row.sop_instance_uid,
                destination="pacs",
                state=state,
                status=None,
                detail="it said so",
            )
        studies.finish_study(connection, study_id)


def done(database: Database) -> int:
    """A study that is done and charged."""
    study_id = queued(database)
    answered(database, study_id, DeliveryState.DELIVERED)
    with database.write() as connection:
        assert charge(
            connection,
            clinic="mercy",
            study_instance_uid=STUDY,
            study_id=study_id,
            packages=["chest"],
            result_sop_instance_uid="2.25.100",
            destination="pacs",
            now=NOW,
        )
    return study_id


def history(database: Database) -> StudyHistory:
    """Of the newest generation."""
    return read_history(database, StudyFilter(study_instance_uid=STUDY))[-1]


def quota_used(database: Database) -> int:
    with database.read() as connection:
        return used(connection, clinic="mercy", period="2026-11")


def take_all_but(database: Database, count: int) -> None:
    with database.write() as connection:
        for number in range(100 - count):
            assert reserve(connection, clinic="mercy", study_instance_uid=f"1.9.{number}", now=utc_now())


def test_a_held_study_is_looked_at_once_more_as_the_same_generation(database: Database, care: Care, puts: Puts) -> None:
    study_id = complete(database, receive(database, "mercy", STUDY, f"{STUDY}.1"))
    hold(database, study_id)
    assert ask(care, Verb.RETRY) == Done(
        clinic="mercy", study_instance_uid=STUDY, generation=1, state=StudyState.QUEUED, is_changed=True
    )
    assert puts.jobs == [("study", study_id, 1, 0.0)]
    now = history(database)
    assert (now.state, now.reason, now.finished_at) == ("queued", "", None)
    assert (now.events[-1].event, now.events[-1].detail) == ("requeued", "asked for from the command line")


def test_asking_twice_is_asking_once(database: Database, care: Care, puts: Puts) -> None:
    hold(database, complete(database, receive(database, "mercy", STUDY, f"{STUDY}.1")))
    assert [ask(care, Verb.RETRY).is_changed, ask(care, Verb.RETRY).is_changed] == [True, False]
    assert [ask(care, Verb.CANCEL).is_changed, ask(care, Verb.CANCEL).is_changed] == [True, False]
    assert len(puts.jobs) == 1


def test_refused_results_are_sent_once_more_without_an_analysis_and_with_quota(
    database: Database, care: Care, puts: Puts
) -> None:
    study_id = queued(database)
    answered(database, study_id, DeliveryState.REFUSED)
    assert history(database).state == "failed"
    assert ask(care, Verb.RETRY).state == "delivering"
    assert puts.jobs == [("pacs", "mercy", 1, 0.0)]
    with database.read() as connection:
        assert set(connection.scalars(sa.select(deliveries.c.state))) == {"pending"}
    assert quota_used(database) == 1
    assert (history(database).events[-1].event, history(database).events[-1].detail) == (
        "sent_again",
        "to pacs, asked for from the command line",
    )


def test_what_the_pacs_has_stored_and_not_committed_to_is_sent_once_more(
    database: Database, care: Care, puts: Puts
) -> None:
    study_id = queued(database)
    answered(database, study_id, DeliveryState.UNCOMMITTED)
    with database.write() as connection:
        connection.execute(sa.update(deliveries).values(owed_since=NOW))
    assert (history(database).state, history(database).reason) == ("failed", "not_committed")
    assert ask(care, Verb.RETRY).state == StudyState.DELIVERING
    assert [job[:2] for job in puts.jobs] == [("pacs", "mercy")]
    with database.read() as connection:
        assert set(connection.execute(sa.select(deliveries.c.state, deliveries.c.owed_since)).all()) == {
            ("pending", None)
        }


def test_only_what_was_refused_is_sent_once_more(database: Database, care: Care) -> None:
    study_id = queued(database)
    answered(database, study_id, DeliveryState.REFUSED)
    with database.write() as connection:
        first = sa.select(sa.func.min(deliveries.c.id)).scalar_subquery()
        connection.execute(sa.update(deliveries).where(deliveries.c.id == first).values(state="delivered"))
    ask(care, Verb.RETRY)
    with database.read() as connection:
        states = list(connection.scalars(sa.select(deliveries.c.state).order_by(deliveries.c.id)))
    assert states == ["delivered", "pending"]


def test_refused_results_wait_while_the_quota_is_used_up(database: Database, care: Care, puts: Puts) -> None:
    study_id = complete(database, receive(database, "mercy", STUDY, f"{STUDY}.1"))
    answered(database, study_id, DeliveryState.REFUSED)
    take_all_but(database, 0)
    with pytest.raises(Refuse, match="the basic plan's 100 studies of this period are used up"):
        ask(care, Verb.RETRY)
    assert (history(database).state, puts.jobs) == ("failed", [])


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_cancelled_study_keeps_its_images_and_gives_its_quota_back(
    database: Database, care: Care, puts: Puts, is_complete: bool
) -> None:
    if is_complete:
        queued(database)
    else:
        receive(database, "mercy", STUDY, f"{STUDY}.1")
    assert ask(care, Verb.CANCEL).state == "cancelled"
    now = history(database)
    assert (now.state, now.reason, now.instances) == ("cancelled", "cancelled", 1)
    assert now.completion_reason == ("released" if is_complete else "cancelled")
    assert (now.events[-1].event, now.events[-1].detail) == ("cancelled", "asked for from the command line")
    assert (quota_used(database), puts.jobs) == (0, [])


def test_what_still_comes_for_a_cancelled_study_is_kept_with_it_and_starts_nothing(
    database: Database, care: Care
) -> None:
    receive(database, "mercy", STUDY, f"{STUDY}.1")
    ask(care, Verb.CANCEL)
    receive(database, "mercy", STUDY, f"{STUDY}.2")
    (only,) = read_history(database, StudyFilter(study_instance_uid=STUDY))
    assert (only.state, only.instances) == ("cancelled", 2)


def test_a_cancelled_study_can_be_analysed_after_all(database: Database, care: Care, puts: Puts) -> None:
    study_id = receive(database, "mercy", STUDY, f"{STUDY}.1")
    ask(care, Verb.CANCEL)
    assert ask(care, Verb.RETRY).state == "queued"
    assert puts.jobs == [("study", study_id, 1, 0.0)]
    assert studies.read_study(database, cast(Spool, FakeSpool()), study_id).completion_reason == "cancelled"


class FakeSpool:
    def path(self, key: str) -> str:
        return key


def test_a_study_that_is_done_is_analysed_anew_as_a_generation_of_the_same_images(
    database: Database, care: Care, puts: Puts
) -> None:
    first = done(database)
    assert ask(care, Verb.REANALYSE) == Done(
        clinic="mercy", study_instance_uid=STUDY, generation=2, state=StudyState.QUEUED, is_changed=True
    )
    ((kind, study_id, attempt, _),) = puts.jobs
    assert isinstance(study_id, int)
    assert (kind, study_id > first, attempt) == ("study", True, 1)
    study = studies.read_study(database, cast(Spool, FakeSpool()), study_id)
    assert [instance.sop_instance_uid for instance in study.instances] == [f"{STUDY}.1"]
    assert [uid for _, uid, _ in studies.previous_results(database, study)] == ["2.25.100", "2.25.101"]
    now = history(database)
    assert (now.calling_ae_title, now.completion_reason) == ("MODALITY1", "reanalysis")
    assert [(event.event, event.detail) for event in now.events] == [("reanalysis", "asked for from the command line")]


def test_a_reanalysis_takes_no_quota_and_is_not_charged(database: Database, care: Care) -> None:
    done(database)
    ask(care, Verb.REANALYSE)
    with database.write() as connection:
        assert reserve(connection, clinic="mercy", study_instance_uid=STUDY, now=NOW)
    assert quota_used(database) == 1
    assert not history(database).is_charged


def test_the_results_that_are_replaced_are_the_newest_there_are_not_a_note(database: Database, care: Care) -> None:
    """Generation 2 was cancelled; what generation 3 replaces is that of generation 1."""
    done(database)
    receive(database, "mercy", STUDY, f"{STUDY}.2")
    ask(care, Verb.CANCEL)
    ask(care, Verb.RETRY)
    second = history(database)
    study = studies.read_study(database, cast(Spool, FakeSpool()), 2)
    assert second.generation == study.generation == 2
    third = Study(
        clinic="mercy",
        study_instance_uid=STUDY,
        generation=3,
        calling_ae_title="MODALITY1",
        completed_at=NOW,
        completion_reason="quiet",
        instances=(),
    )
    assert [uid for _, uid, _ in studies.previous_results(database, third)] == ["2.25.100", "2.25.101"]


def test_a_study_whose_images_are_gone_is_refused(database: Database, care: Care) -> None:
    done(database)
    with database.write() as connection:
        mark_erased(connection, clinic="mercy", study_instance_uid=STUDY)
    with pytest.raises(Refuse, match="does not have the study's images any more"):
        ask(care, Verb.REANALYSE)
    assert history(database).generation == 1


def test_what_is_refused_changes_nothing(database: Database, care: Care, puts: Puts) -> None:
    done(database)
    before = history(database)
    with pytest.raises(Refuse, match="the study is done and cannot be cancelled"):
        ask(care, Verb.CANCEL)
    assert (history(database), puts.jobs) == (before, [])


def test_a_study_that_nobody_has_or_that_two_have_is_not_guessed_at(database: Database, care: Care) -> None:
    with pytest.raises(Refuse, match=r"there is no study '1\.2\.3\.2'"):
        ask(care, Verb.CANCEL)
    for number, clinic in enumerate(("mercy", "st-mary")):
        receive(database, clinic, STUDY, f"{STUDY}.{number}")
    with pytest.raises(Refuse, match="more than one clinic"):
        ask(care, Verb.CANCEL)
    assert ask(care, Verb.CANCEL, clinics={"st-mary"}).clinic == "st-mary"
    assert [one.state for one in read_history(database, StudyFilter(clinics={"mercy"}))] == ["receiving"]
