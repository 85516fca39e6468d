"""Has a clinic's shadow versions look at what was analysed, and keeps what they say from everybody but the comparison.

    results handed over (steps.py)  ->  look: which versions, at which images?  ->  for each version: watch -> keep

A shadow is a job of its own behind all others, in a child process of its own that every other process goes before. It
writes no result, takes no quota, and whatever goes wrong with it becomes a row and nothing else. It looks at the very
images about which the answering version has spoken, so that the two can be compared image by image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import NoneType

import sqlalchemy as sa
import structlog

from domain.errors import Away, CollimatorError
from domain.findings import Analysis
from domain.versions import Role, shadows_of
from storage import studies
from storage.answers import runs as model_runs
from storage.studies import read_study
from workflow.durable import BUG, Durable, Entry, remember
from workflow.reference import begin_references
from workflow.rooms import Rooms

log = structlog.get_logger()

AWAY_DELAY_S = 60.0
MAXIMUM_ATTEMPTS = 60  # an hour of a shared store that is away


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """One version that is to look at these images."""

    package: str
    version: str
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watches:
    watches: tuple[Watch, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What it said, or why it said nothing."""

    analysis: Analysis | None = None
    problem: str = ""


def shadow_study(study_id: int, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    """Let each shadow look once. One that fails leaves the others to theirs."""
    try:
        for one in durable.enter("look", Watches, begin, rooms, study_id).watches:
            durable.enter(f"watch {one.package} {one.version}", NoneType, watch_and_keep, rooms, study_id, one, attempt)
    except Away:
        durable.transaction("later", look_later, rooms, study_id, attempt)


def begin(rooms: Rooms, study_id: int) -> Entry[Watches]:
    """The list that the job works through, also when it is run again."""
    return remember(look(rooms, study_id))


def watch_and_keep(rooms: Rooms, study_id: int, one: Watch, attempt: int) -> Entry[None]:
    seen = watch(rooms, study_id, one, attempt)
    return lambda connection: keep(connection, rooms, study_id, one, seen)


def look(rooms: Rooms, study_id: int) -> Watches:
    """What is left to do: a version that has looked already, in an earlier attempt, has a row."""
    with rooms.database.read() as connection:
        clinic, _ = studies.name_of(connection, study_id)
        done = model_runs.shadows_done(connection, study_id)
    return Watches(
        watches=tuple(
            watch
            for analysis in studies.analyses_of(rooms.database, study_id)
            for watch in _watches(rooms, clinic, analysis)
            if (watch.package, watch.version) not in done
        )
    )


def watch(rooms: Rooms, study_id: int, one: Watch, attempt: int) -> Seen:
    """Run one version. What it met is part of what it is compared by."""
    try:
        study = read_study(rooms.database, rooms.spool, study_id)
        images = [instance for instance in study.instances if instance.sop_instance_uid in one.sop_instance_uids]
        if not images:
            return Seen(problem="the study's images are gone")
        analysis = rooms.shadow_analyst.analyse(one.package, images, version=one.version)
    except Away as away:
        if attempt < MAXIMUM_ATTEMPTS:
            raise
        return Seen(problem=away.message)
    except CollimatorError as error:
        return Seen(problem=error.message)
    return Seen(analysis=replace(analysis, model=replace(analysis.model, role=Role.SHADOW)))


def keep(connection: sa.Connection, rooms: Rooms, study_id: int, one: Watch, seen: Seen) -> None:
    """Enter it, unless the study was erased meanwhile."""
    studies.lock(connection, study_id)
    if not studies.has_analyses(connection, study_id):
        return
    if seen.analysis is not None:
        begin_references(connection, rooms, study_id, [seen.analysis])
        model_runs.save_analysis(connection, study_id, seen.analysis)
        return
    log.warning("shadow_failed", study_id=study_id, package=one.package, error=seen.problem)
    model_runs.save_problem(
        connection, study_id, package=one.package, version=one.version, role=Role.SHADOW, problem=seen.problem
    )


def look_later(connection: sa.Connection, rooms: Rooms, study_id: int, attempt: int) -> None:
    rooms.jobs.put_shadow(connection, study_id=study_id, attempt=attempt + 1, delay_s=AWAY_DELAY_S)


def after_shadow_bug(connection: sa.Connection, rooms: Rooms, study_id: int, attempt: int) -> None:
    """The first that has not looked yet is the one that it happened to; the others look in another job."""
    left = look(rooms, study_id).watches
    for one in left[:1]:
        keep(connection, rooms, study_id, one, Seen(problem=BUG))
    if left[1:]:
        rooms.jobs.put_shadow(connection, study_id=study_id, attempt=attempt + 1)


def _watches(rooms: Rooms, clinic: str, analysis: Analysis) -> Iterator[Watch]:
    model = analysis.model
    if model.is_demonstration:
        return
    for version in shadows_of(rooms.clinic(clinic).model(model.package), answered=model.version):
        uids = tuple(image.sop_instance_uid for image in analysis.images)
        yield Watch(package=model.package, version=version, sop_instance_uids=uids)
