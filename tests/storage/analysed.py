"""Studies that came, were analysed and delivered, and what was said of them beside their images."""

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from domain.commitment import CommitmentRequest, Reference
from domain.completion import CompletionRules
from domain.procedure_step import ProcedureStep, StepStatus
from domain.states import DeliveryState
from storage.database import Database, utc_now
from storage.deliveries import record_outcome
from storage.headers import StoredInstance
from storage.instances import Spool
from storage.intake import record_instances, record_release
from storage.requests.commitments import record_commitment
from storage.requests.procedure_steps import record_steps
from storage.requests.step_folder import StepFolder
from storage.studies import (
    OpenStudy,
    close_study,
    finish_study,
    save_results,
)
from storage.study_keys import study_name
from storage.tables import commitments, studies
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.sources import radiograph
from tests.portal_api.rows import result

STUDY = "2.25.4711.1"
MONTH = timedelta(days=30)
RULES = CompletionRules(after_release_s=0.0)
RESULT = result("overlay", "2.25.7")


def came(spool: Spool, number: int = 1, image: int = 1, content: str = "Chest PA") -> StoredInstance:
    """An image of study `number`, with its file."""
    dataset = radiograph(number)
    dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{image}"
    dataset.StudyDescription = content
    study = study_name("st-mary", str(dataset.StudyInstanceUID))
    return read_back(spool, spooled(spool, dataset, study=study, how=provenance(association=content)))


def recorded(database: Database, spool: Spool, *stored: StoredInstance) -> int:
    return record_instances(database, spool, stored)[0].study_id or 0


def closed(database: Database, study_id: int) -> None:
    record_release(database, [study_id])
    with database.write() as connection:
        assert close_study(connection, OpenStudy(study_id=study_id, clinic="", reason="released"), RULES)


def done(database: Database, study_id: int, *, ago: timedelta, uid: str = "2.25.7") -> None:
    """The study's result was delivered that long ago."""
    closed(database, study_id)
    with database.write() as connection:
        row = result("overlay", uid)
        save_results(connection, study_id, [row], {"standard": ["pacs"]})
        state = DeliveryState.DELIVERED
        record_outcome(connection, sop_instance_uid=uid, destination="pacs", state=state, status=0, detail="")
        assert finish_study(connection, study_id)
        connection.execute(sa.update(studies).where(studies.c.id == study_id).values(finished_at=utc_now() - ago))


def kept(spool: Spool) -> set[str]:
    return set(spool.stored_keys())


def column(database: Database, wanted: sa.Column[object]) -> Sequence[object]:
    with database.read() as connection:
        return connection.scalars(sa.select(wanted).order_by(wanted.table.c[0])).all()


def said(database: Database, spool: Spool, uid: str, study_instance_uid: str) -> StepFolder:
    """What a modality says by MPPS, in its file and its row, with a change that still waits for the database."""
    folder = StepFolder(spool.root.parent)
    step = ProcedureStep(
        clinic="st-mary",
        sop_instance_uid=uid,
        study_instance_uid=study_instance_uid,
        status=StepStatus.IN_PROGRESS,
        performed=(f"{study_instance_uid}.1.1",),
        updated_at=utc_now(),
    )
    for _ in range(2):
        record_steps(database, folder.changes)
        with folder.locked():
            folder.write(step)
    return folder


def asked(database: Database, transaction_uid: str, *uids: str, state: str = "reported") -> None:
    request = CommitmentRequest(
        clinic="st-mary",
        calling_ae_title="CT1",
        peer_address="192.0.2.7",
        transaction_uid=transaction_uid,
        asked=tuple(Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.1", sop_instance_uid=uid) for uid in uids),
        requested_at=utc_now(),
    )
    with database.write() as connection:
        record_commitment(connection, request)
        this = commitments.c.transaction_uid == transaction_uid
        ended_at = None if state == "pending" else utc_now()
        connection.execute(sa.update(commitments).where(this).values(state=state, ended_at=ended_at, due_at=utc_now()))
