"""What each version of a model said about each image, whether anybody heard it or not.

A demonstration, in which a model looks at images that it was not made for, leaves no row: its scores mean nothing.
"""

from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa

from domain.findings import Analysis
from domain.versions import Role
from storage.answers.drift import count_images, forget_weeks
from storage.database import Database, utc_now
from storage.plain import to_plain
from storage.tables import model_runs, studies

FORGOTTEN_AT_ONCE = 5000
_REMOVE = sa.delete(model_runs).where(model_runs.c.study_id == sa.bindparam("study"))
_CLINIC = sa.select(studies.c.clinic).where(studies.c.id == sa.bindparam("study"))
_KEEP = sa.insert(model_runs)


def save_answers(connection: sa.Connection, study_id: int, analyses: Iterable[Analysis]) -> None:
    """What is reported of the study, in place of what an earlier attempt kept."""
    replaced = connection.execute(_REMOVE, {"study": study_id}).rowcount
    for analysis in sorted(analyses, key=lambda analysis: analysis.model.package):
        if not analysis.model.is_demonstration:
            save_analysis(connection, study_id, analysis, is_counted=not replaced)


def save_analysis(connection: sa.Connection, study_id: int, analysis: Analysis, *, is_counted: bool = True) -> None:
    """One row an image. `is_counted`: its scores and images are not yet in the week's counts."""
    model = analysis.model
    if is_counted:
        count_images(connection, study_id, analysis)
    for image in analysis.images:
        _insert(
            connection,
            study_id,
            package=model.package,
            version=model.version,
            device_uid=model.device_uid,
            role=model.role,
            sop_instance_uid=image.sop_instance_uid,
            scores=[to_plain(score) for score in image.scores],
            decode_s=image.run.decode_s if image.run else None,
            infer_s=image.run.infer_s if image.run else None,
        )


def save_problem(
    connection: sa.Connection, study_id: int, *, package: str, version: str, role: Role, problem: str
) -> None:
    """A version that said nothing, and why."""
    _insert(connection, study_id, package=package, version=version, role=role, problem=problem)


def shadows_done(connection: sa.Connection, study_id: int) -> set[tuple[str, str]]:
    """(package, version) of the shadows that have looked at the study."""
    rows = connection.execute(
        sa.select(model_runs.c.package, model_runs.c.version).where(
            model_runs.c.study_id == study_id, model_runs.c.role == Role.SHADOW
        )
    )
    return {(row.package, row.version) for row in rows}


def forget_runs(database: Database, *, after: timedelta) -> int:
    """Remove a portion of those that are older, and the counts of weeks that are; how many runs."""
    old = sa.select(model_runs.c.id).where(model_runs.c.ran_at < utc_now() - after).limit(FORGOTTEN_AT_ONCE)
    with database.write() as connection:
        forget_weeks(connection, before=utc_now() - after)
        return connection.execute(sa.delete(model_runs).where(model_runs.c.id.in_(old))).rowcount


def _insert(connection: sa.Connection, study_id: int, **values: object) -> None:
    clinic = connection.scalar(_CLINIC, {"study": study_id})
    connection.execute(_KEEP, {"study_id": study_id, "clinic": clinic, "ran_at": utc_now(), **values})
