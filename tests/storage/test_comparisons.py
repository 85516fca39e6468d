"""Which runs are compared: of the versions, clinics and days that were asked for."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.errors import Refuse
from domain.feedback import Opinion, Verdict, Words
from domain.versions import Role
from storage.answers.comparisons import Asked, compare_versions
from storage.answers.feedback import give_feedback
from storage.answers.runs import save_problem
from storage.database import Database, utc_now
from storage.plain import to_plain
from storage.tables import model_runs, studies
from tests.factories.runs import analysis, ran, study


@pytest.fixture
def filled(database: Database) -> Database:
    """1.0.0 has answered for two studies of st-mary and one of mercy; 1.1.0 has looked at them, and failed on one."""
    for number, (clinic, before, after) in enumerate(
        [("st-mary", 0.9, 0.8), ("st-mary", 0.2, 0.6), ("mercy", 0.1, 0.1)]
    ):
        study_id = study(database, number, clinic)
        ran(database, study_id, number, before, version="1.0.0")
        ran(database, study_id, number, after, version="1.1.0", role=Role.SHADOW)
    with database.write() as connection:
        save_problem(connection, 3, package="chest", version="1.1.0", role=Role.SHADOW, problem="age: 4")
    return database


def test_the_active_version_is_compared_to_the_one_beside_it(filled: Database) -> None:
    compared = compare_versions(filled, Asked(package="chest"))
    assert (compared.from_version.version, compared.to_version.version) == ("1.0.0", "1.1.0")
    assert (compared.studies, compared.images) == (3, 3)
    (label,) = compared.labels
    assert (label.both, label.only_from, label.only_to, label.neither) == (1, 0, 1, 1)
    assert label.agreement == pytest.approx(2 / 3)
    assert compared.from_version.infer_p50_s == 0.02


def test_the_versions_may_be_named_the_other_way_round(filled: Database) -> None:
    compared = compare_versions(filled, Asked(package="chest", from_version="1.1.0", to_version="1.0.0"))
    assert (compared.labels[0].only_from, compared.labels[0].only_to) == (1, 0)


def test_only_the_clinics_that_may_be_seen_are_compared(filled: Database) -> None:
    assert compare_versions(filled, Asked(package="chest", clinics={"st-mary"})).studies == 2
    with pytest.raises(Refuse, match="there are no runs of it"):
        compare_versions(filled, Asked(package="chest", clinics=set()))


def test_only_what_ran_since_a_day_is_compared(filled: Database) -> None:
    with filled.write() as connection:
        old = model_runs.c.study_id == 1
        connection.execute(sa.update(model_runs).where(old).values(ran_at=utc_now() - timedelta(days=9)))
    assert compare_versions(filled, Asked(package="chest", since=utc_now() - timedelta(days=8))).studies == 2


def test_the_last_words_of_readers_are_counted_with_the_version_that_they_are_about(filled: Database) -> None:
    with filled.write() as connection:
        for number, version in ((0, "1.0.0"), (1, "1.1.0")):
            said = [analysis(number, 0.9, version=version)]
            plain = [to_plain(one) for one in said]
            connection.execute(sa.update(studies).where(studies.c.id == number + 1).values(analyses=plain))
    for number, who, verdict in ((0, "a", "agree"), (0, "a", "disagree"), (0, "b", "agree"), (1, "a", "agree")):
        opinion = Opinion(label="Pneumonia", verdict=Verdict(verdict))
        give_feedback(filled, f"1.2.3.{number}", opinion, clinics=None, given_by=who)
    (label,) = compare_versions(filled, Asked(package="chest")).labels
    assert (label.from_words, label.to_words) == (Words(agree=1, disagree=1), Words(agree=1))
    (elsewhere,) = compare_versions(filled, Asked(package="chest", clinics={"mercy"})).labels
    assert (elsewhere.from_words, elsewhere.to_words) == (Words(), Words())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(package="spine"), "spine has no two versions to compare: there are no runs of it"),
        (Asked(package="chest", to_version="9"), "there are runs of 1.1.0, 1.0.0"),
        (Asked(package="chest", from_version="1.1.0", to_version="1.1.0"), "no two versions"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_there_is(filled: Database, asked: Asked, message: str) -> None:
    with pytest.raises(Refuse, match=message) as caught:
        compare_versions(filled, asked)
    assert caught.value.reason == "nothing_to_compare"
