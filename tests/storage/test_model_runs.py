"""What versions said is kept for a time, image by image, and goes with its study."""

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from domain.findings import Analysis, ImageRun
from domain.versions import Role
from storage.answers.runs import forget_runs, save_answers, save_problem
from storage.database import Database, utc_now
from storage.erasure import mark_erased
from storage.tables import model_runs, studies
from tests.factories.analyses import COBB_ANGLE, DEMONSTRATION_MODEL
from tests.portal_api.rows import ANALYSIS, ST_MARY, ST_MARY_STUDY, complete, receive


def a_study(database: Database) -> int:
    return complete(database, receive(database, ST_MARY, ST_MARY_STUDY, "1.2.3.1.1"))


def rows(database: Database) -> list[sa.Row[tuple[object, ...]]]:
    with database.read() as connection:
        return list(connection.execute(sa.select(model_runs).order_by(model_runs.c.id)).all())


def save(database: Database, study_id: int, *analyses: Analysis) -> None:
    with database.write() as connection:
        save_answers(connection, study_id, analyses)


def test_a_run_is_a_row_with_its_scores_its_times_and_who_ran_it(database: Database) -> None:
    (image,) = ANALYSIS.images
    image = replace(image, measurements=(COBB_ANGLE,), run=ImageRun(decode_s=0.035, infer_s=0.025, grey_mean=0.4))
    save(database, a_study(database), replace(ANALYSIS, images=(image,)))
    (row,) = rows(database)
    assert (row.clinic, row.package, row.version, row.role) == (
        "st-mary",
        ANALYSIS.model.package,
        ANALYSIS.model.version,
        "active",
    )
    assert (row.device_uid, row.sop_instance_uid) == (ANALYSIS.model.device_uid, image.sop_instance_uid)
    assert (row.decode_s, row.infer_s, row.problem) == (0.035, 0.025, "")
    said = [(finding.label, finding.certainty, finding.threshold) for finding in image.findings]
    assert [(score["label"], score["value"], score["threshold"]) for score in row.scores] == [
        *said,
        ("Cobb angle", 24.96, 25.0),
    ]


def test_another_attempt_stands_in_place_of_the_one_before(database: Database) -> None:
    study_id = a_study(database)
    save(database, study_id, ANALYSIS)
    save(database, study_id, ANALYSIS)
    assert len(rows(database)) == 1


def test_a_demonstration_leaves_no_run(database: Database) -> None:
    save(database, a_study(database), replace(ANALYSIS, model=DEMONSTRATION_MODEL))
    assert rows(database) == []


def test_runs_go_with_their_study_when_it_is_erased(database: Database) -> None:
    study_id = a_study(database)
    save(database, study_id, ANALYSIS)
    with database.write() as connection:
        save_problem(connection, study_id, package="chest", version="2", role=Role.SHADOW, problem="age: 62")
        connection.execute(sa.update(studies).values(state="done"))
        mark_erased(connection, clinic=ST_MARY, study_instance_uid=ST_MARY_STUDY)
    assert rows(database) == []


def test_runs_are_forgotten_after_their_time_and_no_sooner(database: Database) -> None:
    study_id = a_study(database)
    for ago in (31, 29):
        with database.write() as connection:
            save_problem(connection, study_id, package="chest", version=f"{ago}", role=Role.SHADOW, problem="x")
            connection.execute(
                sa.update(model_runs)
                .where(model_runs.c.version == f"{ago}")
                .values(ran_at=utc_now() - timedelta(days=ago))
            )
    assert forget_runs(database, after=timedelta(days=30)) == 1
    assert [row.version for row in rows(database)] == ["29"]
