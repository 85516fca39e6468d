"""Rows for what modalities say they do, and what those rows say about a study that is still open.

They are forgotten with their files (step_folder.py): by storage/retention.py, and by storage/erasure.py.
"""

from collections.abc import Collection

import sqlalchemy as sa

from domain.procedure_step import NO_STEPS, ProcedureStep, StepStatus, StudySteps, summarize
from domain.states import StudyState
from storage.clinic_lock import lock_clinic
from storage.database import Database
from storage.requests.files import RequestBox
from storage.tables import instances, procedure_steps, studies

_OPEN_WITH_STEPS = (
    sa.select(studies.c.clinic, studies.c.study_instance_uid)
    .join(
        procedure_steps,
        (procedure_steps.c.clinic == studies.c.clinic)
        & (procedure_steps.c.study_instance_uid == studies.c.study_instance_uid),
    )
    .where(studies.c.state == StudyState.RECEIVING)
)
_OF_STUDY = (
    sa.select(procedure_steps)
    .join(
        studies,
        (procedure_steps.c.clinic == studies.c.clinic)
        & (procedure_steps.c.study_instance_uid == studies.c.study_instance_uid),
    )
    .where(studies.c.id == sa.bindparam("study"))
)


def record_steps(database: Database, changes: RequestBox) -> int:
    """Bring every waiting change into the database; how many that were. Doing one twice changes nothing.

    Raises:
        DBAPIError: the database is away; the changes wait.
    """
    return changes.bring_in(database, ProcedureStep, record_step)


def record_step(connection: sa.Connection, step: ProcedureStep) -> bool:
    """Enter the step, or what has changed of it; an older copy than the row's changes nothing.

    False when its clinic has no row yet: the receiver knew it before this worker did.
    """
    # Two workers may bring in the same step at the same moment; the clinic's row is the lock.
    if not lock_clinic(connection, step.clinic):
        return False
    this = (procedure_steps.c.clinic == step.clinic, procedure_steps.c.sop_instance_uid == step.sop_instance_uid)
    known = connection.scalar(sa.select(procedure_steps.c.updated_at).where(*this))
    values = {"status": step.status, "performed": list(step.performed), "updated_at": step.updated_at}
    if known is None:
        connection.execute(
            sa.insert(procedure_steps).values(
                clinic=step.clinic,
                sop_instance_uid=step.sop_instance_uid,
                study_instance_uid=step.study_instance_uid,
                **values,
            )
        )
    elif known < step.updated_at:
        connection.execute(sa.update(procedure_steps).where(*this).values(**values))
    return True


def open_studies_with_steps(connection: sa.Connection) -> Collection[tuple[str, str]]:
    """(clinic, Study Instance UID) of the receiving studies that MPPS says anything about; mostly there are few."""
    return {(row.clinic, row.study_instance_uid) for row in connection.execute(_OPEN_WITH_STEPS)}


def steps_of_study(connection: sa.Connection, study_id: int) -> StudySteps:
    """What all steps of this study say, beside what has come for it."""
    rows = connection.execute(_OF_STUDY, {"study": study_id}).all()
    if not rows:
        return NO_STEPS
    study = rows[0]
    came = connection.execute(
        sa.select(instances.c.sop_instance_uid, instances.c.study_id).where(
            instances.c.clinic == study.clinic, instances.c.study_instance_uid == study.study_instance_uid
        )
    ).all()
    return summarize(
        [
            ProcedureStep(
                clinic=row.clinic,
                sop_instance_uid=row.sop_instance_uid,
                study_instance_uid=row.study_instance_uid,
                status=StepStatus(row.status),
                performed=tuple(row.performed),
                updated_at=row.updated_at,
            )
            for row in rows
        ],
        present={row.sop_instance_uid for row in came},
        of_this_generation={row.sop_instance_uid for row in came if row.study_id == study_id},
    )
