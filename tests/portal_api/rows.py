"""Rows as a node's work leaves them, entered through the functions that the node uses."""

import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.errors import Refuse
from domain.findings import ActivationMap, Analysis, Code, Finding, ImageAnalysis, ModelIdentity
from domain.states import DeliveryState, Reason
from domain.study import InstanceFacts
from metering.ledger import charge
from storage import studies
from storage.database import Database, utc_now
from storage.deliveries import record_outcome
from storage.events import add_event
from storage.file_meta import Provenance
from storage.headers import StoredInstance
from storage.intake import record_instances, record_release
from storage.studies import OpenStudy, ResultRow
from storage.tables import executors, receivers, results
from tests.factories.analyses import COBB_ANGLE, PLACES
from tests.factories.arrivals import CHEST, NO_SPOOL

ST_MARY, MERCY = "st-mary", "mercy"
ST_MARY_STUDY, MERCY_STUDY = "1.2.3.1", "1.2.3.2"
RULES = CompletionRules(after_release_s=0.0)
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
PNEUMONIA = Code(value="233604007", scheme="SCT", meaning="Pneumonia")

ANALYSIS = Analysis(
    model=ModelIdentity(
        package="chest",
        title="densenet121-res224-all",
        version="1.0.0",
        manufacturer="mlmed",
        device_uid="2.25.1",
        weights_sha256="5" * 64,
        intended_use="Research.",
        limits=("Adults only.",),
        is_cleared=False,
        is_demonstration=False,
    ),
    images=(
        ImageAnalysis(
            sop_instance_uid="1.2.3.1.1",
            findings=(
                Finding(label="Pneumonia", code=PNEUMONIA, site=LUNG, certainty=0.83, threshold=0.5),
                Finding(label="Effusion", code=PNEUMONIA, site=LUNG, certainty=0.12, threshold=0.5),
            ),
            activation=ActivationMap(
                label="Pneumonia", rows=1, columns=1, values=(255,), left=0.0, top=0.0, width=1.0, height=1.0
            ),
            regions=PLACES,
            measurements=(COBB_ANGLE,),
        ),
    ),
)


def in_the_month_before_last() -> datetime:
    """On every day of the year: 62 days ago it may be the month before that one."""
    return utc_now().replace(day=1) - timedelta(days=40)


def enter_everything(database: Database) -> None:
    """st-mary: a chest that was analysed and charged, and a late image; mercy: a held study. Both: a bad instance."""
    study_id = complete(database, receive(database, ST_MARY, ST_MARY_STUDY, "1.2.3.1.1", accession_number="A-77"))
    analyse_and_deliver(database, study_id)
    receive(database, ST_MARY, ST_MARY_STUDY, "1.2.3.1.2", accession_number="A-77")
    hold(database, complete(database, receive(database, MERCY, MERCY_STUDY, "1.2.3.2.1", accession_number="B-88")))
    receive(database, ST_MARY, ST_MARY_STUDY, "1.2.3.1.9", problem="StudyInstanceUID is missing")
    receive(database, MERCY, MERCY_STUDY, "1.2.3.2.9", problem="StudyInstanceUID is missing")


def receive(
    database: Database,
    clinic: str,
    study_instance_uid: str,
    sop_instance_uid: str,
    *,
    accession_number: str = "",
    problem: str = "",
    calling_ae_title: str = "MODALITY1",
    facts: InstanceFacts = CHEST,
) -> int:
    """One instance comes in; the study's id, or 0 when it went into quarantine."""
    stored = StoredInstance(
        spool_key=sha256(sop_instance_uid.encode()).hexdigest()[:32],
        provenance=Provenance(
            clinic=clinic,
            calling_ae_title=calling_ae_title,
            called_ae_title="COLLIMATOR",
            peer_address="192.0.2.10",
            association="1",
            received_at=datetime(2026, 11, 3, 9, 30, tzinfo=UTC),
        ),
        sop_instance_uid=sop_instance_uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        series_instance_uid=f"{study_instance_uid}.100",
        study_instance_uid=study_instance_uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        accession_number=accession_number,
        size_bytes=1000,
        is_own_result=False,
        facts=facts,
        problem=problem,
    )
    return record_instances(database, NO_SPOOL, [stored])[0].study_id or 0


def complete(database: Database, study_id: int) -> int:
    record_release(database, [study_id])
    with database.write() as connection:
        assert studies.close_study(connection, OpenStudy(study_id=study_id, clinic="", reason="released"), RULES)
    return study_id


def analyse_and_deliver(database: Database, study_id: int) -> None:
    """An overlay that the PACS has, and a report that still waits for it; the overlay came back twice."""
    with database.write() as connection:
        why = "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest"
        studies.save_decision(connection, study_id, [f"1.2.3.1.1: {why}"], why)
        studies.save_analyses(connection, study_id, [ANALYSIS])
        rows = [result("overlay", "2.25.100"), result("text_sr", "2.25.101")]
        studies.save_results(connection, study_id, rows, {"standard": ["pacs"]})
        record_outcome(
            connection,
            sop_instance_uid="2.25.100",
            destination="pacs",
            state=DeliveryState.DELIVERED,
            status=0,
            detail="",
        )
        charge(
            connection,
            clinic=ST_MARY,
            study_instance_uid=ST_MARY_STUDY,
            study_id=study_id,
            packages=["chest"],
            result_sop_instance_uid="2.25.100",
            destination="pacs",
            now=utc_now(),
        )
        add_event(connection, study_id, "charged", "first result accepted by pacs")
        connection.execute(sa.update(results).where(results.c.sop_instance_uid == "2.25.100").values(times_sent_back=2))


def result(kind: str, sop_instance_uid: str) -> ResultRow:
    return ResultRow(
        kind=kind,
        profile="standard",
        is_note=False,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid=sop_instance_uid,
        series_instance_uid="2.25.99",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def hold(database: Database, study_id: int) -> None:
    refusal = Refuse("chest is not configured: no weights", reason=Reason.NOT_CONFIGURED)
    with database.write() as connection:
        studies.put_aside(connection, study_id, refusal)


def beat(database: Database, *, seconds_ago: float = 0.0) -> None:
    """A worker shows itself."""
    with database.write() as connection:
        connection.execute(sa.insert(executors).values(executor_id="a/b/1/c", seen_at=time.time() - seconds_ago))


def show_receiver(database: Database, name: str = "node:11112", *, seconds_ago: float = 0.0) -> None:
    """A receiver shows itself."""
    with database.write() as connection:
        connection.execute(sa.insert(receivers).values(name=name, seen_at=time.time() - seconds_ago))
