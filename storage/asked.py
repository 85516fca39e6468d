"""The rows behind what a person asks for a study: tried again, cancelled, analysed anew, withdrawn (domain/care.py)."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from domain.care import Rejection
from domain.errors import Refuse
from domain.states import DeliveryState, Reason, StudyState
from storage.clinic_lock import lock_clinic
from storage.database import utc_now
from storage.deliveries import HAS_OR_GETS_IT
from storage.events import add_event
from storage.tables import deliveries, instances, results, studies

# Instead of the reason for which a study counts as complete (domain/completion.py).
CANCELLED, REANALYSIS = "cancelled", "reanalysis"
REJECTION_NOTE = "rejection_note"  # the kind, in reports/writers/
ENDED_BY_WITHDRAWAL = {
    DeliveryState.PENDING: DeliveryState.WITHDRAWN,
    DeliveryState.STORED: DeliveryState.DELIVERED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Notes:
    """Whether the notes that take results back were written, and which destinations refused one."""

    are_there: bool
    refused_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """The newest generation of a study."""

    study_id: int
    clinic: str
    study_instance_uid: str
    generation: int
    state: StudyState
    reason: str


def lock_newest(connection: sa.Connection, study_instance_uid: str, clinics: Collection[str] | None) -> Generation:
    """The study's newest generation; until this transaction ends nobody changes it, or opens another.

    clinics: those that whoever asks may see; None: all.

    Raises:
        Refuse: none of them has the study, or more than one has.
    """
    clinic = _whose(connection, study_instance_uid, clinics)
    lock_clinic(connection, clinic)
    row = connection.execute(
        sa.select(studies)
        .where(studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid)
        .order_by(studies.c.generation.desc())
        .limit(1)
        .with_for_update()
    ).one()
    return Generation(
        study_id=row.id,
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        generation=row.generation,
        state=StudyState(row.state),
        reason=row.reason,
    )


def require_images(connection: sa.Connection, study: Generation) -> None:
    """Without them nothing can be done anew.

    Raises:
        Refuse: what came was erased, or removed after its time.
    """
    there = sa.select(instances.c.id).where(
        instances.c.clinic == study.clinic,
        instances.c.study_instance_uid == study.study_instance_uid,
        instances.c.removed_at.is_(None),
    )
    if connection.execute(there.limit(1)).first() is None:
        raise Refuse(
            "the node does not have the study's images any more",
            reason="images_gone",
            hint="send them again, under new SOP Instance UIDs if they were erased",
        )


def cancel(connection: sa.Connection, study: Generation, said: str) -> None:
    """Analyse nothing of it. What came is kept; a job that runs at this moment finds out at its next step."""
    now = utc_now()
    connection.execute(
        sa.update(studies)
        .where(studies.c.id == study.study_id)
        .values(state=StudyState.CANCELLED, reason=Reason.CANCELLED, finished_at=now)
    )
    connection.execute(
        sa.update(studies)
        .where(studies.c.id == study.study_id, studies.c.completed_at.is_(None))
        .values(completed_at=now, completion_reason=CANCELLED)
    )
    add_event(connection, study.study_id, "cancelled", said)


def send_again(connection: sa.Connection, study: Generation, said: str) -> list[str]:
    """Let the results that were refused, or never committed to, wait for their destinations once more; the
    destinations' names.
    """
    refused = (
        deliveries.c.state.in_((DeliveryState.REFUSED, DeliveryState.UNCOMMITTED)),
        deliveries.c.result_id.in_(
            sa.select(results.c.id).where(results.c.study_id == study.study_id, ~results.c.is_note)
        ),
    )
    names = connection.scalars(sa.select(deliveries.c.destination).where(*refused).distinct())
    destinations = sorted(names)
    connection.execute(
        sa.update(deliveries).where(*refused).values(state=DeliveryState.PENDING, due_at=None, owed_since=None)
    )
    connection.execute(
        sa.update(studies)
        .where(studies.c.id == study.study_id)
        .values(state=StudyState.DELIVERING, reason="", finished_at=None)
    )
    add_event(connection, study.study_id, "sent_again", f"to {', '.join(destinations)}, {said}")
    return destinations


def open_generation(connection: sa.Connection, study: Generation, said: str) -> int:
    """Close the same instances once more; the new row's id. Its results will name those that they replace."""
    now = utc_now()
    before = connection.execute(sa.select(studies).where(studies.c.id == study.study_id)).one()
    study_id = connection.execute(
        sa.insert(studies)
        .values(
            clinic=before.clinic,
            study_instance_uid=before.study_instance_uid,
            generation=before.generation + 1,
            state=StudyState.QUEUED,
            calling_ae_title=before.calling_ae_title,
            accession_number=before.accession_number,
            opened_at=now,
            last_received_at=now,
            completed_at=now,
            completion_reason=REANALYSIS,
        )
        .returning(studies.c.id)
    ).scalar_one()
    add_event(connection, study_id, REANALYSIS, said)
    return int(study_id)


def withdraw(connection: sa.Connection, study: Generation, rejection: Rejection, said: str) -> None:
    """Send nothing more of the study, and wait for no commitment; what was sent is taken back by a job.

    Raises:
        Refuse: no generation of it has a result that went anywhere.
    """
    is_of_study = studies.c.clinic == study.clinic, studies.c.study_instance_uid == study.study_instance_uid
    its_deliveries = studies.join(results).join(deliveries)
    sent = sa.select(deliveries.c.id).select_from(its_deliveries).where(*is_of_study, ~results.c.is_note)
    if connection.execute(sent.where(deliveries.c.state.in_(HAS_OR_GETS_IT)).limit(1)).first() is None:
        raise Refuse(
            "no destination has, or will get, a result of the study",
            reason="no_results",
            hint="there is nothing to withdraw",
        )
    # The studies' rows before those of their deliveries, as whoever records a delivery takes them.
    is_ended = sa.or_(studies.c.id == study.study_id, studies.c.state == StudyState.DELIVERING)
    connection.execute(
        sa.update(studies)
        .where(*is_of_study, is_ended)
        .values(state=StudyState.WITHDRAWN, reason=rejection, finished_at=utc_now())
    )
    for state, instead in ENDED_BY_WITHDRAWAL.items():
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.id.in_(sent.where(deliveries.c.state == state)))
            .values(state=instead, confirmation_id=None, due_at=None)
        )
    add_event(connection, study.study_id, "withdrawn", said)


def send_notes_again(connection: sa.Connection, study: Generation, said: str) -> Notes:
    """Let the notes that take the study's results back wait once more where they were refused."""
    its_notes = results.c.study_id == study.study_id, results.c.is_note, results.c.kind == REJECTION_NOTE
    of_notes = sa.select(results.c.id).where(*its_notes)
    refused = deliveries.c.result_id.in_(of_notes), deliveries.c.state == DeliveryState.REFUSED
    names = sorted(connection.scalars(sa.select(deliveries.c.destination).where(*refused).distinct()))
    connection.execute(
        sa.update(deliveries).where(*refused).values(state=DeliveryState.PENDING, due_at=None, owed_since=utc_now())
    )
    add_event(connection, study.study_id, "sent_again", ", ".join([*(f"to {name}" for name in names), said]))
    return Notes(are_there=connection.execute(of_notes.limit(1)).first() is not None, refused_by=tuple(names))


def _whose(connection: sa.Connection, study_instance_uid: str, clinics: Collection[str] | None) -> str:
    query = sa.select(studies.c.clinic).where(studies.c.study_instance_uid == study_instance_uid).distinct()
    if clinics is not None:
        query = query.where(studies.c.clinic.in_(clinics))
    found = [str(clinic) for clinic in connection.scalars(query)]
    if not found:
        raise Refuse(
            f"there is no study {study_instance_uid!r}", reason="unknown_study", hint="see `collimator studies`"
        )
    if len(found) > 1:
        raise Refuse("more than one clinic has this study", reason="several_clinics", hint="name the clinic as well")
    return found[0]
