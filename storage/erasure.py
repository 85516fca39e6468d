"""Erases a study (GDPR Art. 17): nothing of it can be read any more; that it was there, and what it cost, stays.

    rows say "erased" and lose what was in the headers and the results  ->  the key goes  ->  the files go
                                                                         ->  the rows of what was in quarantine go

Those rows alone name their files: they go last, so that doing it again finds what a crash or an absent store has left.

Where objects are encrypted at rest, the key's end is the study's end, in every copy of the files that there is: so what
was acknowledged and has no row yet has to get one first. Doing it again finishes what was cut short, and takes what has
come for the study since.

What modalities said of the study by MPPS goes whole, as does what models and readers said, and so does its part of
commitments that have ended. A report that is still owed keeps its list, to say that nothing is held; its row is
forgotten later (storage/retention.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from domain.errors import Refuse
from domain.states import DeliveryState, Reason, StudyState
from storage.clinic_lock import lock_clinic
from storage.database import Database, utc_now
from storage.events import add_event
from storage.file_meta import Foreign
from storage.headers import read_stored_instance
from storage.instances import ResultFolder, Spool
from storage.intake import unknown_keys
from storage.requests.step_folder import StepFolder
from storage.study_keys import key_name, study_name
from storage.tables import (
    commitments,
    deliveries,
    feedback,
    instances,
    model_runs,
    procedure_steps,
    quarantine,
    results,
    studies,
    study_events,
)

NAMES_AT_ONCE = 500
UNKNOWN_STUDY = "unknown_study"
IN_WORK = frozenset({StudyState.RECEIVING, StudyState.QUEUED})
WILL_NOT_GO_ON = frozenset({StudyState.DELIVERING, StudyState.HELD})
STOPPED = {DeliveryState.PENDING: DeliveryState.REFUSED, DeliveryState.STORED: DeliveryState.UNCOMMITTED}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """`key`: the name of the study's, where it has one. `unreadable`: files of the study that nobody can read, and that
    have no row: damaged ones, and what an erasure that was cut short has left.
    """

    key: str = ""
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Erased:
    """What the rows of an erased study named: its instances' keys in the spool, its results' SOP Instance UIDs.

    aside_keys: those of the spool keys that are in quarantine, whose rows are still there.
    """

    clinic: str
    study_instance_uid: str
    spool_keys: tuple[str, ...]
    aside_keys: tuple[str, ...]
    result_uids: tuple[str, ...]


def erase_study(
    database: Database,
    spool: Spool,
    result_folder: ResultFolder,
    step_folder: StepFolder,
    *,
    clinic: str,
    study_instance_uid: str,
    also: Callable[[sa.Connection], object] = lambda connection: None,
) -> Erased:
    """Erase a study for good; doing it again does no harm.

    also: what else is to be done in the same transaction.

    Raises:
        Refuse: as `mark_erased`; or something has come that has no row yet, and would be lost with the study's key.
        Away: the shared store is; doing it again removes what is left there.
    """
    with _held(database, spool, clinic, study_instance_uid) as held:
        try:
            with database.write() as connection:
                erased = mark_erased(connection, clinic=clinic, study_instance_uid=study_instance_uid)
                also(connection)
        except Refuse as refusal:
            # What modalities said of it lies on each receiver's disk, and another machine has erased the rest.
            if refusal.reason != UNKNOWN_STUDY or not step_folder.forget_study(clinic, study_instance_uid):
                raise
            return _nothing_else(clinic, study_instance_uid)
        if spool.keys is not None and held.key:
            spool.keys.remove_held(held.key)
    for key in held.unreadable:
        spool.remove(key)
    _remove_files(erased, spool, result_folder, step_folder)
    _forget_aside(database, erased.aside_keys)
    return erased


def discard(database: Database, spool: Spool, spool_key: str) -> None:
    """Remove one instance from quarantine for good. After a crash in between it is in quarantine still.

    Raises:
        Refuse: no such instance is in quarantine.
        Away: the shared store is; nothing was removed.
    """
    with database.read() as connection:
        is_there = connection.scalar(sa.select(sa.exists().where(quarantine.c.spool_key == spool_key)))
    if not is_there:
        hint = "it must be a spool_key of GET /api/v1/quarantine"
        raise Refuse(f"{spool_key} is not in quarantine", reason="no_such_instance", hint=hint)
    spool.remove(spool_key)
    _forget_aside(database, (spool_key,))


def mark_erased(connection: sa.Connection, *, clinic: str, study_instance_uid: str) -> Erased:
    """Strip every row of the study, but those in quarantine, and stop what was still to be done with it.

    clinic: "" for what came from callers of no clinic, which is only in quarantine.

    Raises:
        Refuse: the clinic has no such study, or it is being received or analysed at this moment.
    """
    if not clinic:
        return _mark_strangers_erased(connection, study_instance_uid)
    lock_clinic(connection, clinic)
    generations = connection.execute(
        sa.select(studies.c.id, studies.c.state)
        .where(studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid)
        .with_for_update()
    ).all()
    study_ids = [row.id for row in generations]
    aside = (quarantine.c.clinic == clinic, quarantine.c.study_instance_uid == study_instance_uid)
    aside_keys = list(connection.scalars(sa.select(quarantine.c.spool_key).where(*aside)))
    steps = (procedure_steps.c.clinic == clinic, procedure_steps.c.study_instance_uid == study_instance_uid)
    has_steps = connection.scalar(sa.select(sa.exists().where(*steps)))
    if not study_ids and not aside_keys and not has_steps:
        raise Refuse(f"{clinic} has no study {study_instance_uid!r}", reason=UNKNOWN_STUDY)
    if any(row.state in IN_WORK for row in generations):
        hint = "try again in a moment; `collimator study` shows how far it is"
        raise Refuse("the study is being received or analysed", reason="study_in_work", hint=hint)
    erased = Erased(
        clinic=clinic,
        study_instance_uid=study_instance_uid,
        spool_keys=(*_spool_keys(connection, study_ids), *aside_keys),
        aside_keys=tuple(aside_keys),
        result_uids=_result_uids(connection, study_ids),
    )
    _strip_commitments(connection, clinic, _instance_uids(connection, study_ids, aside))
    connection.execute(sa.delete(procedure_steps).where(*steps))
    for said in (model_runs, feedback):
        connection.execute(sa.delete(said).where(said.c.study_id.in_(study_ids)))
    _strip_instances(connection, study_ids)
    _strip_studies(connection, study_ids)
    _stop_deliveries(connection, study_ids)
    return erased


def _nothing_else(clinic: str, study_instance_uid: str) -> Erased:
    return Erased(clinic=clinic, study_instance_uid=study_instance_uid, spool_keys=(), aside_keys=(), result_uids=())


def _mark_strangers_erased(connection: sa.Connection, study_instance_uid: str) -> Erased:
    of_no_clinic = (quarantine.c.clinic.is_(None), quarantine.c.study_instance_uid == study_instance_uid)
    keys = tuple(connection.scalars(sa.select(quarantine.c.spool_key).where(*of_no_clinic)))
    if not keys:
        message = f"nothing of study {study_instance_uid!r} came from a caller of no clinic"
        raise Refuse(message, reason=UNKNOWN_STUDY)
    return Erased(clinic="", study_instance_uid=study_instance_uid, spool_keys=keys, aside_keys=keys, result_uids=())


def _remove_files(erased: Erased, spool: Spool, result_folder: ResultFolder, step_folder: StepFolder) -> None:
    """Harmless when some are gone already."""
    for key in erased.spool_keys:
        spool.remove(key)
    for uid in erased.result_uids:
        result_folder.remove(uid)
    if erased.clinic:
        step_folder.forget_study(erased.clinic, erased.study_instance_uid)


def _forget_aside(database: Database, spool_keys: tuple[str, ...]) -> None:
    """Their files have gone."""
    for start in range(0, len(spool_keys), NAMES_AT_ONCE):
        some = spool_keys[start : start + NAMES_AT_ONCE]
        with database.write() as connection:
            connection.execute(sa.delete(quarantine).where(quarantine.c.spool_key.in_(some)))


@contextmanager
def _held(database: Database, spool: Spool, clinic: str, study_instance_uid: str) -> Iterator[_Held]:
    """As long as this lasts nothing more of the study becomes durable here, so that nothing is lost with the key that
    was acknowledged after the rows were looked at. Where nothing is encrypted, it is kept, and opens a generation.

    Raises:
        Refuse: something has become durable that has no row yet.
    """
    if spool.keys is None or not clinic:  # what belongs to no clinic has a key for each file
        yield _Held()
        return
    name = key_name(study_name(clinic, study_instance_uid))
    with spool.keys.held(name) as has_key:
        without_row = _without_row(database, spool, name)
        if any(_is_readable(spool, key) for key in without_row):
            hint = "try again in a moment; a receiver has to run, which brings them in"
            raise Refuse("instances of the study have come and have no row yet", reason="study_in_work", hint=hint)
        yield _Held(key=name if has_key else "", unreadable=tuple(without_row))


def _without_row(database: Database, spool: Spool, name: str) -> list[str]:
    """The files in the spool that are sealed with this key and have never had a row."""
    found = []
    stored = spool.stored_keys()
    while some := list(islice(stored, NAMES_AT_ONCE)):
        sealed = [key for key in unknown_keys(database, some) if spool.sealed_with(key) == name]
        with database.read() as connection:
            removed = set(connection.scalars(sa.select(instances.c.spool_key).where(instances.c.spool_key.in_(sealed))))
        found += [key for key in sealed if key not in removed]
    return found


def _is_readable(spool: Spool, key: str) -> bool:
    try:
        read_stored_instance(spool, key)
    except (OSError, Foreign):
        return False
    return True


def _spool_keys(connection: sa.Connection, study_ids: list[int]) -> tuple[str, ...]:
    return tuple(connection.scalars(sa.select(instances.c.spool_key).where(instances.c.study_id.in_(study_ids))))


def _result_uids(connection: sa.Connection, study_ids: list[int]) -> tuple[str, ...]:
    return tuple(connection.scalars(sa.select(results.c.sop_instance_uid).where(results.c.study_id.in_(study_ids))))


def _instance_uids(
    connection: sa.Connection, study_ids: list[int], aside: tuple[sa.ColumnElement[bool], ...]
) -> frozenset[str]:
    of_study = sa.select(instances.c.sop_instance_uid).where(instances.c.study_id.in_(study_ids))
    put_aside = sa.select(quarantine.c.sop_instance_uid).where(*aside)
    return frozenset(connection.scalars(of_study)) | frozenset(connection.scalars(put_aside))


def _strip_commitments(connection: sa.Connection, clinic: str, sop_instance_uids: frozenset[str]) -> None:
    """Of requests that have ended; one that names nothing else goes whole. There are those of ninety days."""
    ended = sa.select(commitments.c.id).where(commitments.c.clinic == clinic, commitments.c.ended_at.is_not(None))
    for commitment_id in connection.scalars(ended).all():
        this = commitments.c.id == commitment_id
        asked = connection.execute(sa.select(commitments.c.asked).where(this)).scalar_one()
        left = [[sop_class, uid] for sop_class, uid in asked if uid not in sop_instance_uids]
        if not left:
            connection.execute(sa.delete(commitments).where(this))
        elif len(left) < len(asked):
            connection.execute(sa.update(commitments).where(this).values(asked=left))


def _strip_instances(connection: sa.Connection, study_ids: list[int]) -> None:
    """Removed, and without a digest: that means erased. Even the digest would tell what the pixels were."""
    connection.execute(
        sa.update(instances)
        .where(instances.c.study_id.in_(study_ids))
        .values(removed_at=utc_now(), content_sha256=None, facts={})
    )


def _strip_studies(connection: sa.Connection, study_ids: list[int]) -> None:
    """The explanation and the history quote headers; the analyses are findings about a person."""
    these = studies.c.id.in_(study_ids)
    connection.execute(sa.update(studies).where(these).values(accession_number="", explanation=[], analyses=[]))
    connection.execute(
        sa.update(studies)
        .where(these, studies.c.state.in_(WILL_NOT_GO_ON))
        .values(state=StudyState.FAILED, reason=Reason.ERASED, finished_at=utc_now())
    )
    connection.execute(sa.update(study_events).where(study_events.c.study_id.in_(study_ids)).values(detail=""))
    for study_id in study_ids:
        add_event(connection, study_id, "erased")


def _stop_deliveries(connection: sa.Connection, study_ids: list[int]) -> None:
    of_study = sa.select(results.c.id).where(results.c.study_id.in_(study_ids))
    for state, instead in STOPPED.items():
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.result_id.in_(of_study), deliveries.c.state == state)
            .values(state=instead, confirmation_id=None, last_error="the study was erased")
        )
