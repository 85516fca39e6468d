"""Weekly counts on both databases: what is counted where, and what it is held against."""

from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from domain.versions import Role
from storage.answers.drift import DriftLine, begin_new_reference, begin_reference, read_drift
from storage.answers.runs import forget_runs, save_answers
from storage.database import Database
from storage.erasure import mark_erased
from storage.tables import drift_counts, studies
from tests.factories.runs import age_weeks, analysis, count, study

NOW, THIS_WEEK = datetime(2026, 11, 18, 12, tzinfo=UTC), "2026-11-16"


@pytest.fixture(autouse=True)
def _within_one_week(monkeypatch: pytest.MonkeyPatch) -> None:
    """No week turns while a test runs, or between its being read and its being run."""
    for module in ("storage.answers.drift", "storage.answers.runs", "tests.factories.runs"):
        monkeypatch.setattr(f"{module}.utc_now", lambda: NOW)


def of(lines: list[DriftLine], feature: str) -> DriftLine:
    (line,) = [line for line in lines if line.feature == feature]
    return line


def periods(database: Database) -> dict[tuple[str, str], int]:
    """Images by (version, period)."""
    with database.read() as connection:
        return {(row.version, row.period): row.images for row in connection.execute(sa.select(drift_counts))}


def test_the_first_two_hundred_images_are_the_reference_of_each_version(database: Database) -> None:
    study_id = study(database, 1)
    count(database, study_id, 230, mean=0.3)
    count(database, study_id, 10, mean=0.3, version="1.1.0", role=Role.SHADOW)
    assert periods(database) == {
        ("1.0.0", THIS_WEEK): 230,
        ("1.0.0", "reference"): 200,
        ("1.1.0", THIS_WEEK): 10,
        ("1.1.0", "reference"): 10,
    }


def test_scores_that_moved_raise_the_alarm_and_images_that_did_not_raise_none(database: Database) -> None:
    study_id = study(database, 1)
    count(database, study_id, 200, mean=0.3)
    age_weeks(database, 3)
    count(database, study_id, 40, mean=0.8)
    lines = read_drift(database, clinics=None)
    score = of(lines, "score Pneumonia")
    assert (score.clinic, score.calling_ae_title, score.package, score.version) == (
        "st-mary", "MODALITY1", "chest", "1.0.0",
    )  # fmt: skip
    assert (score.week, score.images, score.reference_images, score.is_alarm) == (THIS_WEEK, 40, 200, True)
    assert sum(score.counts.values()) == 40
    assert {line.feature for line in lines} == {"score Pneumonia", "grey", "age", "view", "device"}
    assert [line.feature for line in lines if line.is_alarm] == ["score Pneumonia"]


def test_while_the_reference_is_made_nothing_is_said(database: Database) -> None:
    count(database, study(database, 1), 150, mean=0.3)
    assert {line.psi for line in read_drift(database, clinics=None)} == {None}


def test_a_week_that_has_hardly_begun_leaves_the_word_to_the_last_one(database: Database) -> None:
    study_id = study(database, 1)
    count(database, study_id, 200, mean=0.3)
    age_weeks(database, 3)
    count(database, study_id, 40, mean=0.8)
    age_weeks(database, 1)
    count(database, study_id, 5, mean=0.3)
    last_week = (date.fromisoformat(THIS_WEEK) - timedelta(weeks=1)).isoformat()
    score = of(read_drift(database, clinics=None), "score Pneumonia")
    assert (score.week, score.images, score.is_alarm) == (last_week, 40, True)


def test_an_alarm_ends_with_the_weeks_that_raised_it(database: Database) -> None:
    count(database, study(database, 1), 240, mean=0.3)
    age_weeks(database, 2)
    assert read_drift(database, clinics=None) == []


def test_weeks_are_read_as_a_series_of_each_feature_oldest_first(database: Database) -> None:
    study_id = study(database, 1)
    for ago, mean, images in ((4, 0.3, 200), (3, 0.8, 40), (1, 0.3, 40), (0, 0.3, 5)):
        count(database, study_id, images, mean=mean)
        age_weeks(database, ago)
    lines = read_drift(database, clinics=None, weeks=4)
    of_scores = [line for line in lines if line.feature == "score Pneumonia"]
    weeks_ago = [(date.fromisoformat(THIS_WEEK) - date.fromisoformat(line.week)).days // 7 for line in of_scores]
    assert weeks_ago == [3, 1, 0]
    assert [(line.images, line.is_alarm, line.psi is None) for line in of_scores] == [
        (40, True, False),
        (40, False, False),
        (5, False, True),
    ]
    assert [line.feature for line in lines] == sorted(line.feature for line in lines)
    assert {line.week for line in read_drift(database, clinics=None, weeks=1)} == {THIS_WEEK}
    assert read_drift(database, clinics={"mercy"}, weeks=4) == []


PUBLISHED = {"score Pneumonia": {"0.7": 200, "0.8": 3000, "0.9": 800}, "grey": {"0.4": 4000}}


def publish(database: Database, study_id: int) -> None:
    with database.write() as connection:
        begin_reference(connection, study_id, package="chest", version="1.0.0", counts=PUBLISHED)


def test_what_a_model_was_published_with_is_the_reference_from_the_first_week_on(database: Database) -> None:
    study_id = study(database, 1)
    publish(database, study_id)
    count(database, study_id, 40, mean=0.3)
    lines = read_drift(database, clinics=None)
    score = of(lines, "score Pneumonia")
    assert (score.reference_images, score.is_alarm, score.reference) == (4000, True, PUBLISHED["score Pneumonia"])
    assert (of(lines, "grey").reference_images, of(lines, "grey").is_alarm) == (4000, False)


def test_a_feature_that_was_not_published_is_learned_from_the_first_two_hundred_images(database: Database) -> None:
    study_id = study(database, 1)
    publish(database, study_id)
    count(database, study_id, 230, mean=0.8)
    lines = read_drift(database, clinics=None)
    assert {line.feature: line.reference_images for line in lines} == {
        "score Pneumonia": 4000, "grey": 4000, "age": 200, "view": 200, "device": 200,
    }  # fmt: skip


def test_a_caller_that_has_a_reference_keeps_it(database: Database) -> None:
    study_id = study(database, 1)
    count(database, study_id, 200, mean=0.3)
    publish(database, study_id)
    assert of(read_drift(database, clinics=None), "score Pneumonia").reference_images == 200


def test_after_a_change_that_is_right_the_published_reference_does_not_come_back(database: Database) -> None:
    study_id = study(database, 1)
    publish(database, study_id)
    count(database, study_id, 40, mean=0.3)
    assert begin_new_reference(database, package="chest") == 1
    publish(database, study_id)
    count(database, study_id, 10, mean=0.3)
    assert of(read_drift(database, clinics=None), "score Pneumonia").reference_images == 10


def test_a_change_that_is_right_begins_a_new_reference(database: Database) -> None:
    study_id = study(database, 1)
    count(database, study_id, 200, mean=0.3)
    assert begin_new_reference(database, package="chest", calling_ae_title="ELSEWHERE") == 0
    assert begin_new_reference(database, package="chest", calling_ae_title="MODALITY1") == 1
    count(database, study_id, 10, mean=0.8)
    assert periods(database)["1.0.0", "reference"] == 10


def test_only_what_a_reader_may_see_is_told(database: Database) -> None:
    count(database, study(database, 1), 5, mean=0.3)
    assert read_drift(database, clinics={"mercy"}) == []
    assert read_drift(database, clinics=None, package="spine") == []
    assert read_drift(database, clinics={"st-mary"}, package="chest")


def test_a_study_is_counted_once_however_often_it_is_tried(database: Database) -> None:
    study_id = study(database, 1)
    for _ in range(3):
        with database.write() as connection:
            save_answers(connection, study_id, [analysis(1, 0.5, version="1.0.0")])
    assert periods(database) == {("1.0.0", THIS_WEEK): 1, ("1.0.0", "reference"): 1}


def test_counts_outlive_an_erased_study_and_hold_nothing_of_it(database: Database) -> None:
    count(database, study(database, 1), 3, mean=0.3)
    with database.write() as connection:
        connection.execute(sa.update(studies).values(state="done"))
        mark_erased(connection, clinic="st-mary", study_instance_uid="1.2.3.1")
    with database.read() as connection:
        rows = connection.execute(sa.select(drift_counts)).all()
    assert [row.images for row in rows] == [3, 3]
    assert "1.2.3.1" not in str(rows)


def test_old_weeks_are_forgotten_and_the_reference_stays(database: Database) -> None:
    count(database, study(database, 1), 3, mean=0.3)
    age_weeks(database, 9)
    forget_runs(database, after=timedelta(weeks=8))
    assert list(periods(database)) == [("1.0.0", "reference")]


def test_each_caller_is_counted_by_itself(database: Database) -> None:
    for number, caller in enumerate(("MODALITY1", "MODALITY2"), start=1):
        study_id = study(database, number, calling_ae_title=caller)
        with database.write() as connection:
            save_answers(connection, study_id, [analysis(number, 0.5, version="1.0.0")])
    callers = {line.calling_ae_title for line in read_drift(database, clinics=None)}
    assert callers == {"MODALITY1", "MODALITY2"}
