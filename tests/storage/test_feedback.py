"""Feedback on both databases; it goes with its study."""

import pytest
import sqlalchemy as sa

from domain.errors import Refuse
from domain.feedback import Opinion, Verdict
from storage.answers.feedback import give_feedback, list_feedback
from storage.database import Database
from storage.erasure import mark_erased
from storage.studies import save_analyses
from storage.tables import feedback, studies
from tests.factories.runs import study
from tests.portal_api.rows import ANALYSIS

UID = "1.2.3.1"
AGREE = Opinion(label="Pneumonia", verdict=Verdict.AGREE)


@pytest.fixture
def analysed(database: Database) -> Database:
    study_id = study(database, 1)
    with database.write() as connection:
        save_analyses(connection, study_id, [ANALYSIS])
        connection.execute(sa.update(studies).values(state="done"))
    return database


def test_every_word_stays_and_the_last_counts(analysed: Database) -> None:
    for verdict in Verdict:
        give_feedback(analysed, UID, Opinion(label="Pneumonia", verdict=verdict), clinics=None, given_by="dr-a")
    said = [(line.verdict, line.is_last_word) for line in list_feedback(analysed, UID, clinics={"st-mary"})]
    assert said == [("disagree", True), ("agree", False)]


def test_an_erased_study_takes_what_was_said_of_it_along_and_hears_nothing_more(analysed: Database) -> None:
    give_feedback(analysed, UID, AGREE, clinics=None, given_by="dr-a")
    with analysed.write() as connection:
        mark_erased(connection, clinic="st-mary", study_instance_uid=UID)
        assert connection.scalar(sa.select(sa.func.count()).select_from(feedback)) == 0
    with pytest.raises(Refuse, match="the study has no such finding"):
        give_feedback(analysed, UID, AGREE, clinics=None, given_by="dr-a")


def test_a_study_that_two_clinics_have_needs_the_clinic(analysed: Database) -> None:
    with analysed.write() as connection:
        rows = sa.select(studies)
        row = connection.execute(rows).one()._asdict()
        connection.execute(sa.insert(studies).values({**row, "id": 99, "clinic": "mercy"}))
    with pytest.raises(Refuse, match="more than one clinic has this study"):
        give_feedback(analysed, UID, AGREE, clinics=None, given_by="dr-a")
    assert give_feedback(analysed, UID, AGREE, clinics={"mercy"}, given_by="dr-a").clinic == "mercy"
