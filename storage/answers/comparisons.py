"""Two versions of a package, compared by what is kept of their runs (domain/comparison.py)."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.comparison import Comparison, Run, compare
from domain.errors import Refuse
from domain.feedback import Words
from domain.findings import Score
from domain.versions import Role
from storage.database import Database
from storage.plain import from_plain
from storage.tables import feedback, model_runs, studies

# Of each version, the newest: a minute of reading at the most.
MOST_RUNS = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which runs are compared. `clinics`: that the reader may see; None: all. A version of "" is chosen: `from_version`
    is the active one that ran last, `to_version` the one beside it that ran last.
    """

    package: str
    from_version: str = ""
    to_version: str = ""
    clinics: Collection[str] | None = None
    since: datetime | None = None


def compare_versions(database: Database, asked: Asked) -> Comparison:
    """
    Raises:
        Refuse: there are not two versions to compare, or one of them never ran.
    """
    with database.read() as connection:
        before, after = _versions(connection, asked)
        return compare(
            asked.package,
            before,
            _runs(connection, asked, before),
            after,
            _runs(connection, asked, after),
            from_words=_words(connection, asked, before),
            to_words=_words(connection, asked, after),
        )


def _versions(connection: sa.Connection, asked: Asked) -> tuple[str, str]:
    ran = _ran(connection, asked)
    before = asked.from_version or next((version for version, role in ran if role == Role.ACTIVE), "")
    after = asked.to_version or next((version for version, _ in ran if version != before), "")
    there = list(dict.fromkeys(version for version, _ in ran))
    if not before or not after or before == after or not {before, after} <= set(there):
        said = f"there are runs of {', '.join(there)}" if there else "there are no runs of it"
        raise Refuse(
            f"{asked.package} has no two versions to compare: {said}",
            reason="nothing_to_compare",
            hint="name another version as shadow or canary in [[clinics.models]], and wait for studies",
        )
    return before, after


def _ran(connection: sa.Connection, asked: Asked) -> list[tuple[str, str]]:
    """(version, role), the one that ran last first."""
    newest = sa.func.max(model_runs.c.id)
    query = (
        sa.select(model_runs.c.version, model_runs.c.role)
        .where(*_conditions(asked))
        .group_by(model_runs.c.version, model_runs.c.role)
        .order_by(newest.desc())
    )
    return [(row.version, row.role) for row in connection.execute(query)]


def _runs(connection: sa.Connection, asked: Asked, version: str) -> list[Run]:
    """In the order in which they came."""
    query = (
        sa.select(model_runs, studies.c.study_instance_uid)
        .join(studies, model_runs.c.study_id == studies.c.id)
        .where(*_conditions(asked), model_runs.c.version == version)
        .order_by(model_runs.c.id.desc())
        .limit(MOST_RUNS)
    )
    runs = [
        Run(
            study=f"{row.clinic} {row.study_instance_uid}",
            image=row.sop_instance_uid,
            scores={plain["label"]: from_plain(Score, plain) for plain in row.scores},
            infer_s=row.infer_s,
        )
        for row in connection.execute(query)
    ]
    return runs[::-1]


def _words(connection: sa.Connection, asked: Asked, version: str) -> dict[str, Words]:
    """Last words by label: of one person about one finding the newest row."""
    conditions = [feedback.c.package == asked.package, feedback.c.version == version]
    if asked.clinics is not None:
        conditions.append(feedback.c.clinic.in_(asked.clinics))
    if asked.since is not None:
        conditions.append(feedback.c.given_at >= asked.since)
    about = (feedback.c.study_id, feedback.c.sop_instance_uid, feedback.c.label, feedback.c.given_by)
    last = sa.select(sa.func.max(feedback.c.id)).where(*conditions).group_by(*about)
    counted = (
        sa.select(feedback.c.label, feedback.c.verdict, sa.func.count())
        .where(feedback.c.id.in_(last))
        .group_by(feedback.c.label, feedback.c.verdict)
    )
    words: dict[str, dict[str, int]] = {}
    for label, verdict, number in connection.execute(counted):
        words.setdefault(label, {})[verdict] = number
    return {label: Words(**of_label) for label, of_label in words.items()}


def _conditions(asked: Asked) -> list[sa.ColumnElement[bool]]:
    conditions = [model_runs.c.package == asked.package]
    if asked.clinics is not None:
        conditions.append(model_runs.c.clinic.in_(asked.clinics))
    if asked.since is not None:
        conditions.append(model_runs.c.ran_at >= asked.since)
    return conditions
