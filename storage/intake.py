"""Rows for what the receiver stored: which study an instance belongs to, and what to do with one that came before.

known SOP Instance UID, same content     dropped and counted: a re-send changes nothing
known SOP Instance UID, other content    quarantined: the first is kept, never silently swapped
one of the node's own results            dropped and counted: the PACS sent it back
cannot be parsed, or not what was said   quarantined
anything else                            kept, in the study's open generation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from domain.states import StudyState
from storage.database import Database, utc_now
from storage.events import add_event
from storage.headers import StoredInstance
from storage.plain import to_plain
from storage.tables import clinics, instances, quarantine, results, studies


class Verdict(StrEnum):
    KEPT = "kept"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    OWN_RESULT = "own_result"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What became of one stored instance. `keeps_file` is False when its file in the spool is no longer needed."""

    spool_key: str
    verdict: Verdict
    study_id: int | None = None

    @property
    def keeps_file(self) -> bool:
        return self.verdict not in (Verdict.DUPLICATE, Verdict.OWN_RESULT)


def record_instances(database: Database, stored: Sequence[StoredInstance]) -> list[Recorded]:
    """Bring stored instances into the database, in one transaction; recording one twice changes nothing."""
    with database.write() as connection:
        return [_record(connection, instance) for instance in stored]


def record_release(database: Database, study_ids: Sequence[int]) -> None:
    """The associations that brought these studies were released: nothing more is on its way."""
    if study_ids:
        with database.write() as connection:
            connection.execute(
                sa.update(studies)
                .where(studies.c.id.in_(study_ids), studies.c.state == StudyState.RECEIVING)
                .values(released_at=utc_now())
            )


def unknown_keys(database: Database, keys: Sequence[str]) -> list[str]:
    """Those of the spool's keys that no row mentions."""
    with database.read() as connection:
        known = set(
            connection.scalars(
                sa.union_all(
                    sa.select(instances.c.spool_key).where(instances.c.spool_key.in_(keys)),
                    sa.select(quarantine.c.spool_key).where(quarantine.c.spool_key.in_(keys)),
                )
            )
        )
    return [key for key in keys if key not in known]


def sync_clinics(database: Database, tiers: Mapping[str, str]) -> None:
    """Write the configured clinics and their tiers; a clinic that left the configuration keeps its rows."""
    with database.write() as connection:
        present = set(connection.scalars(sa.select(clinics.c.name)))
        for name, tier in tiers.items():
            if name in present:
                connection.execute(sa.update(clinics).where(clinics.c.name == name).values(tier=tier))
            else:
                connection.execute(sa.insert(clinics).values(name=name, tier=tier))


def _record(connection: sa.Connection, stored: StoredInstance) -> Recorded:
    if stored.problem:
        return _quarantine(connection, stored, Verdict.UNREADABLE, stored.problem)
    clinic = stored.provenance.clinic
    # Two receivers may bring the same study at the same moment; the clinic's row is the lock.
    connection.execute(sa.select(clinics.c.name).where(clinics.c.name == clinic).with_for_update())
    if stored.is_own_result:
        connection.execute(
            sa.update(results)
            .where(results.c.sop_instance_uid == stored.sop_instance_uid)
            .values(times_sent_back=results.c.times_sent_back + 1)
        )
        return Recorded(spool_key=stored.spool_key, verdict=Verdict.OWN_RESULT)
    known = connection.execute(
        sa.select(instances.c.spool_key, instances.c.content_sha256, instances.c.study_id).where(
            instances.c.clinic == clinic, instances.c.sop_instance_uid == stored.sop_instance_uid
        )
    ).first()
    if known is None:
        return _keep(connection, stored)
    if known.spool_key == stored.spool_key:
        return Recorded(spool_key=stored.spool_key, verdict=Verdict.KEPT, study_id=known.study_id)
    if known.content_sha256 == stored.content_sha256:
        connection.execute(
            sa.update(instances)
            .where(instances.c.spool_key == known.spool_key)
            .values(times_sent_again=instances.c.times_sent_again + 1)
        )
        return Recorded(spool_key=stored.spool_key, verdict=Verdict.DUPLICATE, study_id=known.study_id)
    detail = "an instance with this SOP Instance UID and other content is here already; the first is kept"
    return _quarantine(connection, stored, Verdict.CONFLICTING, detail)


def _keep(connection: sa.Connection, stored: StoredInstance) -> Recorded:
    study_id = _open_study(connection, stored)
    connection.execute(
        sa.insert(instances).values(
            study_id=study_id,
            clinic=stored.provenance.clinic,
            study_instance_uid=stored.study_instance_uid,
            series_instance_uid=stored.series_instance_uid,
            sop_instance_uid=stored.sop_instance_uid,
            sop_class_uid=stored.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            spool_key=stored.spool_key,
            content_sha256=stored.content_sha256,
            size_bytes=stored.size_bytes,
            received_at=stored.provenance.received_at,
            facts=to_plain(stored.facts),
        )
    )
    return Recorded(spool_key=stored.spool_key, verdict=Verdict.KEPT, study_id=study_id)


def _open_study(connection: sa.Connection, stored: StoredInstance) -> int:
    """The study row that takes this instance: the newest generation while it is receiving, or the next one.

    Only an image opens another generation: a report that is filed later must not start the analysis again.
    """
    newest = connection.execute(
        sa.select(studies.c.id, studies.c.generation, studies.c.state)
        .where(
            studies.c.clinic == stored.provenance.clinic,
            studies.c.study_instance_uid == stored.study_instance_uid,
        )
        .order_by(studies.c.generation.desc())
        .limit(1)
        # A worker may be closing it: whoever has the row first decides whether this image is still part of it.
        .with_for_update()
    ).first()
    if newest is not None and newest.state == StudyState.RECEIVING:
        connection.execute(
            sa.update(studies).where(studies.c.id == newest.id).values(last_received_at=utc_now(), released_at=None)
        )
        return int(newest.id)
    if newest is not None and not stored.facts.has_pixels:
        return int(newest.id)
    now = utc_now()
    generation = 1 if newest is None else newest.generation + 1
    inserted = connection.execute(
        sa.insert(studies)
        .values(
            clinic=stored.provenance.clinic,
            study_instance_uid=stored.study_instance_uid,
            generation=generation,
            state=StudyState.RECEIVING,
            calling_ae_title=stored.provenance.calling_ae_title,
            accession_number=stored.accession_number,
            opened_at=now,
            last_received_at=now,
        )
        .returning(studies.c.id)
    )
    study_id = int(inserted.scalar_one())
    add_event(connection, study_id, "received", f"first instance from {stored.provenance.calling_ae_title}")
    return study_id


def _quarantine(connection: sa.Connection, stored: StoredInstance, verdict: Verdict, detail: str) -> Recorded:
    present = connection.scalar(sa.select(quarantine.c.id).where(quarantine.c.spool_key == stored.spool_key))
    if present is None:
        connection.execute(
            sa.insert(quarantine).values(
                clinic=stored.provenance.clinic,
                spool_key=stored.spool_key,
                sop_instance_uid=stored.sop_instance_uid[:64],
                study_instance_uid=stored.study_instance_uid[:64],
                calling_ae_title=stored.provenance.calling_ae_title,
                reason=verdict,
                detail=detail,
                received_at=stored.provenance.received_at,
            )
        )
    return Recorded(spool_key=stored.spool_key, verdict=verdict)
