"""How each version's scores and images are spread, week by week and caller by caller (domain/drift.py).

    a model was published with a reference  ->  that, for the features that it has
    an image is analysed  ->  one more in its week's row, and in the reference's until that has enough
    somebody asks         ->  the newest week that has enough, or each of the last, held against the reference, feature
                              by feature

The rows are counts, from which nobody can be told: they stay when a study is erased.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from domain.drift import LEAST_IMAGES, REFERENCE_IMAGES, Counts, bins_of, change, counted, week_of
from domain.findings import Analysis
from domain.study import InstanceFacts
from storage.database import Database, utc_now
from storage.plain import from_plain
from storage.tables import drift_counts, instances, studies

REFERENCE = "reference"
# Of a manifest's version, as it stands in the key.
LONGEST_VERSION = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftLine:
    """How one feature was spread in a week. `psi` and `chance` None: there are too few images to say.

    feature: "score LABEL", "value LABEL", "grey" (mean of the image), "age", "view" or "device".
    chance: the PSI that is reached by chance once in a thousand weeks.
    """

    clinic: str
    calling_ae_title: str
    package: str
    version: str
    week: str
    feature: str
    images: int
    reference_images: int
    psi: float | None
    chance: float | None
    is_alarm: bool
    counts: dict[str, int]
    reference: dict[str, int]


_KEY = (
    drift_counts.c.clinic,
    drift_counts.c.calling_ae_title,
    drift_counts.c.package,
    drift_counts.c.version,
    drift_counts.c.period,
)
_IS_THIS = [column == sa.bindparam(f"of_{column.name}") for column in _KEY]
_LOCKED_ROW = sa.select(drift_counts).where(*_IS_THIS).with_for_update()
_UPDATE = sa.update(drift_counts).where(*_IS_THIS)
# What is there already stays.
_MAKE = {
    "postgresql": postgresql.insert(drift_counts).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(drift_counts).on_conflict_do_nothing(),
}
_SENT_BY = sa.select(studies.c.clinic, studies.c.calling_ae_title).where(studies.c.id == sa.bindparam("study"))
_FACTS = sa.select(instances.c.sop_instance_uid, instances.c.facts).where(
    instances.c.clinic == sa.bindparam("clinic"),
    instances.c.sop_instance_uid.in_(sa.bindparam("uids", expanding=True)),
)


def count_images(connection: sa.Connection, study_id: int, analysis: Analysis) -> None:
    """Add the images of one analysis to their week, and to the reference while that is being made."""
    study = connection.execute(_SENT_BY, {"study": study_id}).one()
    facts = _facts(connection, study.clinic, [image.sop_instance_uid for image in analysis.images])
    key = _key_of(study, analysis.model.package, analysis.model.version)
    all_bins = [bins_of(image, facts.get(image.sop_instance_uid, InstanceFacts())) for image in analysis.images]
    _add_to_week(connection, {**key, "period": week_of(utc_now().date()).isoformat()}, all_bins)
    _add_to_reference(connection, {**key, "period": REFERENCE}, all_bins)


def begin_reference(
    connection: sa.Connection, study_id: int, *, package: str, version: str, counts: Mapping[str, Counts]
) -> None:
    """Hold this caller's images against what the model was published with, unless they have a reference already."""
    study = connection.execute(_SENT_BY, {"study": study_id}).one()
    key = {**_key_of(study, package, version), "period": REFERENCE}
    _make_row(connection, key, images=_most_images(counts), counts={name: dict(bins) for name, bins in counts.items()})


def read_drift(
    database: Database,
    *,
    clinics: Collection[str] | None,
    package: str | None = None,
    weeks: int | None = None,
    today: date | None = None,
) -> list[DriftLine]:
    """Every feature of the newer of this week and the last that has enough images, or of the newer of both.

    clinics: that the reader may see; None: all.
    weeks: instead, every feature in each of so many weeks, this one the last of them, oldest first; a week without
        images is left out.
    """
    this_week = week_of(today or utc_now().date())
    newest_first = [(this_week - timedelta(weeks=ago)).isoformat() for ago in range(weeks or 2)]
    conditions: list[sa.ColumnElement[bool]] = [drift_counts.c.period.in_([*newest_first, REFERENCE])]
    if clinics is not None:
        conditions.append(drift_counts.c.clinic.in_(clinics))
    if package is not None:
        conditions.append(drift_counts.c.package == package)
    with database.read() as connection:
        rows = connection.execute(sa.select(drift_counts).where(*conditions).order_by(*_KEY)).all()
    groups: dict[tuple[str, ...], dict[str, sa.Row[Any]]] = {}
    for row in rows:
        groups.setdefault((row.clinic, row.calling_ae_title, row.package, row.version), {})[row.period] = row
    lines: list[DriftLine] = []
    for periods in groups.values():
        rows = [periods[week] for week in newest_first if week in periods]
        if rows and REFERENCE in periods:
            asked = rows if weeks else [_latest(rows)]
            found = (line for row in asked for line in _lines(row, periods[REFERENCE]))
            lines += sorted(found, key=lambda line: (line.feature, line.week))
    return lines


def begin_new_reference(database: Database, *, package: str, calling_ae_title: str | None = None) -> int:
    """Let the next images be what later ones are held against; of how many callers and versions.

    The row stays, empty: a model that was published with a reference does not begin with that once more.
    """
    conditions = [
        drift_counts.c.package == package,
        drift_counts.c.period == REFERENCE,
        drift_counts.c.images > 0,
    ]
    if calling_ae_title is not None:
        conditions.append(drift_counts.c.calling_ae_title == calling_ae_title)
    with database.write() as connection:
        begun = sa.update(drift_counts).where(*conditions).values(images=0, counts={})
        return connection.execute(begun).rowcount


def forget_weeks(connection: sa.Connection, *, before: datetime) -> None:
    """The reference stays."""
    is_old = sa.and_(drift_counts.c.period != REFERENCE, drift_counts.c.period < before.date().isoformat())
    connection.execute(sa.delete(drift_counts).where(is_old))


def _key_of(study: sa.Row[*tuple[Any, ...]], package: str, version: str) -> dict[str, str]:
    """Without the period."""
    return {
        "clinic": study.clinic,
        "calling_ae_title": study.calling_ae_title,
        "package": package,
        "version": version[:LONGEST_VERSION],
    }


def _add_to_week(connection: sa.Connection, key: dict[str, str], all_bins: list[dict[str, str]]) -> None:
    row = _locked_row(connection, key)
    counts = row.counts
    for bins in all_bins:
        counts = counted(counts, bins)
    _update(connection, key, images=row.images + len(all_bins), counts=counts)


def _add_to_reference(connection: sa.Connection, key: dict[str, str], all_bins: list[dict[str, str]]) -> None:
    """Each feature by itself: one that has enough, perhaps because it was published, is left alone."""
    row = _locked_row(connection, key)
    counts = row.counts
    for bins in all_bins:
        wanted = {name for name in bins if sum(counts.get(name, {}).values()) < REFERENCE_IMAGES}
        counts = counted(counts, {name: bins[name] for name in bins if name in wanted})
    if counts != row.counts:
        _update(connection, key, images=_most_images(counts), counts=counts)


def _locked_row(connection: sa.Connection, key: dict[str, str]) -> sa.Row[Any]:
    """Whoever else counts into it waits."""
    row = connection.execute(_LOCKED_ROW, _this(key)).first()
    if row is not None:
        return row
    _make_row(connection, key)
    return connection.execute(_LOCKED_ROW, _this(key)).one()


def _make_row(connection: sa.Connection, key: dict[str, str], **values: Any) -> None:
    """Unless it is there."""
    connection.execute(_MAKE[connection.dialect.name], {**key, **values})


def _update(connection: sa.Connection, key: dict[str, str], **values: Any) -> None:
    connection.execute(_UPDATE, {**_this(key), **values})


def _this(key: dict[str, str]) -> dict[str, str]:
    return {f"of_{name}": value for name, value in key.items()}


def _most_images(counts: Mapping[str, Counts]) -> int:
    return max((sum(bins.values()) for bins in counts.values()), default=0)


def _facts(connection: sa.Connection, clinic: str, sop_instance_uids: list[str]) -> dict[str, InstanceFacts]:
    rows = connection.execute(_FACTS, {"clinic": clinic, "uids": sop_instance_uids})
    return {row.sop_instance_uid: from_plain(InstanceFacts, row.facts) for row in rows}


def _latest(newest_first: list[sa.Row[Any]]) -> sa.Row[Any]:
    """That has enough images to say anything; where none has, the newest."""
    return next((row for row in newest_first if row.images >= LEAST_IMAGES), newest_first[0])


def _lines(now: sa.Row[Any], reference: sa.Row[Any]) -> Iterator[DriftLine]:
    """Of one week."""
    for feature in now.counts:
        before, after = reference.counts.get(feature, {}), now.counts[feature]
        reference_images = sum(before.values())
        # The images of which the reference is still being made cannot have changed from it.
        moved = change(before, after) if reference_images >= REFERENCE_IMAGES else None
        yield DriftLine(
            clinic=now.clinic,
            calling_ae_title=now.calling_ae_title,
            package=now.package,
            version=now.version,
            week=now.period,
            feature=feature,
            images=now.images,
            reference_images=reference_images,
            psi=None if moved is None else moved.psi,
            chance=None if moved is None else moved.chance,
            is_alarm=moved is not None and moved.is_alarm,
            counts=after,
            reference=before,
        )
