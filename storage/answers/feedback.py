"""What readers said of a study's findings, with the very model that had made them.

Nothing is changed or removed: of several words of one person about one finding the last one counts, and those before
stay as its history. All of it goes with its study when that is erased.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.errors import Refuse
from domain.feedback import Opinion, Verdict
from domain.findings import Analysis, ImageAnalysis, ModelIdentity
from storage.asked import lock_newest
from storage.database import Database, utc_now
from storage.plain import from_plain
from storage.tables import feedback, studies


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackLine:
    """One word of one person. `is_last_word`: the same person has said nothing of this finding since.

    given_by: the name of the API key.
    """

    clinic: str
    study_instance_uid: str
    generation: int
    package: str
    model_version: str
    device_uid: str
    sop_instance_uid: str
    label: str
    verdict: Verdict
    note: str
    given_by: str
    given_at: datetime
    is_last_word: bool


def give_feedback(
    database: Database, study_instance_uid: str, opinion: Opinion, *, clinics: Collection[str] | None, given_by: str
) -> FeedbackLine:
    """Keep it, about the newest analysis of the study. `clinics`: that may be seen; None: all.

    Raises:
        Refuse: there is no such study or finding, or the study has more than one that is meant.
    """
    with database.write() as connection:
        # Whoever erases the study waits, or has done so.
        clinic = lock_newest(connection, study_instance_uid, clinics).clinic
        study_id, model, image = _meant(connection, clinic, study_instance_uid, opinion)
        feedback_id = connection.execute(
            sa.insert(feedback)
            .values(
                study_id=study_id,
                clinic=clinic,
                package=model.package,
                version=model.version,
                device_uid=model.device_uid,
                sop_instance_uid=image.sop_instance_uid,
                label=opinion.label,
                verdict=opinion.verdict,
                note=opinion.note,
                given_by=given_by,
                given_at=utc_now(),
            )
            .returning(feedback.c.id)
        ).scalar_one()
        row = connection.execute(_lines().where(feedback.c.id == feedback_id)).one()
    return _line(row, is_last_word=True)


def list_feedback(
    database: Database, study_instance_uid: str, *, clinics: Collection[str] | None
) -> list[FeedbackLine]:
    """Everything that was said of a study, the last word first.

    Raises:
        Refuse: there is no such study.
    """
    is_it = [studies.c.study_instance_uid == study_instance_uid]
    if clinics is not None:
        is_it.append(studies.c.clinic.in_(clinics))
    with database.read() as connection:
        if connection.scalar(sa.select(sa.func.count()).select_from(studies).where(*is_it)) == 0:
            raise Refuse(f"there is no study {study_instance_uid!r}", reason="unknown_study")
        rows = connection.execute(_lines().where(*is_it).order_by(feedback.c.id.desc())).all()
    heard: set[tuple[Any, ...]] = set()
    lines = []
    for row in rows:
        about = (row.study_id, row.package, row.sop_instance_uid, row.label, row.given_by)
        lines.append(_line(row, is_last_word=about not in heard))
        heard.add(about)
    return lines


def _meant(
    connection: sa.Connection, clinic: str, study_instance_uid: str, opinion: Opinion
) -> tuple[int, ModelIdentity, ImageAnalysis]:
    """(study id, model, image) of the one answer that is meant."""
    study_id, analyses = _newest_analyses(connection, clinic, study_instance_uid)
    answers = [
        (study_id, analysis.model, image)
        for analysis in analyses
        for image in analysis.images
        if opinion.package in ("", analysis.model.package)
        and opinion.sop_instance_uid in ("", image.sop_instance_uid)
        and opinion.label in {answer.label for answer in image.answers}
    ]
    if not answers:
        raise Refuse("the study has no such finding", reason="unknown_finding", hint="see `findings` of the study")
    if len(answers) > 1:
        raise Refuse(
            "more than one finding of the study has this label",
            reason="several_findings",
            hint="name package and sop_instance_uid as well",
        )
    return answers[0]


def _newest_analyses(connection: sa.Connection, clinic: str, study_instance_uid: str) -> tuple[int, list[Analysis]]:
    """Of the newest generation that was analysed; images that came late may still wait for theirs."""
    rows = connection.execute(
        sa.select(studies.c.id, studies.c.analyses)
        .where(studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid)
        .order_by(studies.c.generation.desc())
    ).all()
    for row in rows:
        if row.analyses:
            return row.id, [from_plain(Analysis, plain) for plain in row.analyses]
    return 0, []


def _lines() -> sa.Select[Any]:
    return sa.select(feedback, studies.c.study_instance_uid, studies.c.generation).join(
        studies, feedback.c.study_id == studies.c.id
    )


def _line(row: sa.Row[Any], *, is_last_word: bool) -> FeedbackLine:
    return FeedbackLine(
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        generation=row.generation,
        package=row.package,
        model_version=row.version,
        device_uid=row.device_uid,
        sop_instance_uid=row.sop_instance_uid,
        label=row.label,
        verdict=Verdict(row.verdict),
        note=row.note,
        given_by=row.given_by,
        given_at=row.given_at,
        is_last_word=is_last_word,
    )
