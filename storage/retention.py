"""Removes what is no longer needed. Of studies that is their pixels: results, history and ledger stay.

    results delivered long enough ago  ->  digest of each data set  ->  rows say "removed"  ->  files go

The digests come first, so that a re-send is known for what it is. A crash before the files have gone leaves files whose
rows say that they are removed: the receiver's sweep finds and drops them. A round does a bounded amount of work; the
next one goes on.

A study is done, and its results count as delivered, when every destination that is asked to commit to them has done so.

Of requests for storage commitment, to the node and by it, it is those that ended long ago, and procedure steps that
nobody changed for as long.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from domain.commitment import REMEMBERED_FOR_DAYS
from domain.errors import Away
from domain.states import StudyState
from storage.clinic_lock import lock_clinic
from storage.content import content_sha256
from storage.database import Database, utc_now
from storage.events import add_event
from storage.instances import Spool
from storage.requests.step_folder import FORGOTTEN_AFTER_S
from storage.tables import commitments, confirmations, instances, procedure_steps, studies

log = structlog.get_logger()

STUDIES_AT_ONCE = 50
BYTES_AT_ONCE = 256 << 20  # about half a second of reading
UNKNOWN_CONTENT = ""  # instead of the digest of a file that can no longer be read: it is equal to none


def remove_delivered_pixels(database: Database, spool: Spool, *, after: timedelta) -> int:
    """Do one round; how many files were removed.

    after: how long the results of every generation of a study must have been delivered.
    """
    before = utc_now() - after
    removed, budget = 0, BYTES_AT_ONCE
    for clinic, study_instance_uid in _due_studies(database, before):
        try:
            for instance_id, spool_key, size_bytes in _without_digest(database, clinic, study_instance_uid):
                if budget <= 0:
                    return removed
                _save_digest(database, spool, instance_id, spool_key)
                budget -= size_bytes
            removed += _remove(database, spool, clinic, study_instance_uid, before)
        except (Away, DBAPIError):
            raise
        except Exception:  # this study comes first in every round: the others must not wait for it
            log.exception("pixels_not_removed", clinic=clinic)
    if removed:
        log.info("pixels_removed", count=removed)
    return removed


def forget_commitments(database: Database, now: datetime | None = None) -> int:
    """Remove the rows of requests that were reported or given up long ago; how many there were."""
    until = (now or utc_now()) - timedelta(days=REMEMBERED_FOR_DAYS)
    with database.write() as connection:
        return connection.execute(sa.delete(commitments).where(commitments.c.ended_at < until)).rowcount


def forget_confirmations(database: Database, now: datetime | None = None) -> int:
    """Remove the rows of what destinations were asked and that ended long ago; how many there were."""
    until = (now or utc_now()) - timedelta(days=REMEMBERED_FOR_DAYS)
    with database.write() as connection:
        return connection.execute(sa.delete(confirmations).where(confirmations.c.ended_at < until)).rowcount


def forget_steps(database: Database, now: datetime | None = None) -> int:
    """Remove the rows of procedure steps that were not changed for so long as their files are kept; how many."""
    until = (now or utc_now()) - timedelta(seconds=FORGOTTEN_AFTER_S)
    with database.write() as connection:
        return connection.execute(sa.delete(procedure_steps).where(procedure_steps.c.updated_at < until)).rowcount


def _due_studies(database: Database, before: datetime) -> list[tuple[str, str]]:
    """(clinic, Study Instance UID) of some, those finished first first."""
    query = (
        sa.select(studies.c.clinic, studies.c.study_instance_uid)
        .where(_is_due(before), _has_pixels())
        .group_by(studies.c.clinic, studies.c.study_instance_uid)
        .order_by(sa.func.max(studies.c.finished_at))
        .limit(STUDIES_AT_ONCE)
    )
    with database.read() as connection:
        return [(row.clinic, row.study_instance_uid) for row in connection.execute(query)]


def _is_due(before: datetime) -> sa.ColumnElement[bool]:
    """No generation of the study is unfinished, failed, held, or was finished too late. A later generation is made from
    the pixels of those before it.
    """
    other = studies.alias()
    is_not_done = sa.or_(other.c.state != StudyState.DONE, other.c.finished_at.is_(None), other.c.finished_at > before)
    same_study = sa.and_(other.c.clinic == studies.c.clinic, other.c.study_instance_uid == studies.c.study_instance_uid)
    return sa.and_(
        studies.c.state == StudyState.DONE,
        studies.c.finished_at <= before,
        ~sa.exists().where(same_study, is_not_done),
    )


def _has_pixels() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        instances.c.clinic == studies.c.clinic,
        instances.c.study_instance_uid == studies.c.study_instance_uid,
        instances.c.removed_at.is_(None),
    )


def _without_digest(database: Database, clinic: str, study_instance_uid: str) -> list[tuple[int, str, int]]:
    """(id, spool key, size in bytes)."""
    query = sa.select(instances.c.id, instances.c.spool_key, instances.c.size_bytes).where(
        *_of_study(clinic, study_instance_uid), instances.c.content_sha256.is_(None)
    )
    with database.read() as connection:
        return [(row.id, row.spool_key, row.size_bytes) for row in connection.execute(query)]


def _save_digest(database: Database, spool: Spool, instance_id: int, spool_key: str) -> None:
    try:
        digest = content_sha256(spool, spool_key)
    except OSError as error:
        log.warning("spool_file_unreadable", spool_key=spool_key, error=str(error.strerror))
        digest = UNKNOWN_CONTENT
    with database.write() as connection:
        connection.execute(sa.update(instances).where(instances.c.id == instance_id).values(content_sha256=digest))


def _remove(database: Database, spool: Spool, clinic: str, study_instance_uid: str, before: datetime) -> int:
    with database.write() as connection:
        lock_clinic(connection, clinic)
        study_id = connection.scalar(
            sa.select(sa.func.max(studies.c.id)).where(
                studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid, _is_due(before)
            )
        )
        if study_id is None:  # an image came meanwhile, and its generation needs the others
            return 0
        removable = (*_of_study(clinic, study_instance_uid), instances.c.content_sha256.is_not(None))
        keys = list(connection.scalars(sa.select(instances.c.spool_key).where(*removable)))
        connection.execute(sa.update(instances).where(*removable).values(removed_at=utc_now()))
        if keys:
            add_event(connection, study_id, "pixels_removed", f"{len(keys)} files")
    for key in keys:
        spool.remove(key)
    return len(keys)


def _of_study(clinic: str, study_instance_uid: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        instances.c.clinic == clinic,
        instances.c.study_instance_uid == study_instance_uid,
        instances.c.removed_at.is_(None),
    )
