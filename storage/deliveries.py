"""Which results still have to reach which destination, and what became of each attempt."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from domain.findings import Analysis
from domain.states import DeliveryState
from storage.database import Database, utc_now
from storage.plain import from_plain
from storage.tables import deliveries, results, studies

# The state of a delivery after the peer's answer; the words are those of scu.store.Answer.
STATE_AFTER = {
    "stored": DeliveryState.DELIVERED,
    "retry": DeliveryState.PENDING,
    "refused": DeliveryState.REFUSED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingResult:
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeableStudy:
    """A study whose analysis has reached a destination."""

    clinic: str
    study_instance_uid: str
    packages: tuple[str, ...]
    result_sop_instance_uid: str


def pending_results(database: Database, study_id: int, destination: str) -> list[PendingResult]:
    with database.read() as connection:
        rows = connection.execute(
            sa.select(results)
            .join(deliveries, deliveries.c.result_id == results.c.id)
            .where(
                results.c.study_id == study_id,
                deliveries.c.destination == destination,
                deliveries.c.state == DeliveryState.PENDING,
            )
            .order_by(results.c.id)
        ).all()
    return [
        PendingResult(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
        )
        for row in rows
    ]


def clinic_of(database: Database, study_id: int) -> str:
    with database.read() as connection:
        return str(connection.scalars(sa.select(studies.c.clinic).where(studies.c.id == study_id)).one())


def age_s(connection: sa.Connection, study_id: int, destination: str) -> float:
    """Seconds since the oldest result that still waits for this destination was written."""
    oldest = connection.scalar(
        sa.select(sa.func.min(results.c.written_at))
        .join(deliveries, deliveries.c.result_id == results.c.id)
        .where(
            results.c.study_id == study_id,
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.PENDING,
        )
    )
    return 0.0 if oldest is None else float((utc_now() - oldest).total_seconds())


def record_outcome(
    connection: sa.Connection,
    *,
    sop_instance_uid: str,
    destination: str,
    state: DeliveryState,
    status: int | None,
    detail: str,
) -> None:
    """Enter one attempt for one result."""
    result_id = sa.select(results.c.id).where(results.c.sop_instance_uid == sop_instance_uid).scalar_subquery()
    connection.execute(
        sa.update(deliveries)
        .where(
            deliveries.c.result_id == result_id,
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.PENDING,
        )
        .values(
            state=state,
            attempts=deliveries.c.attempts + 1,
            status=status,
            last_error=detail,
            delivered_at=utc_now() if state is DeliveryState.DELIVERED else None,
        )
    )


def chargeable_study(connection: sa.Connection, study_id: int, accepted: Collection[str]) -> ChargeableStudy | None:
    """The study to charge when one of the `accepted` results belongs to its analysis; a note earns nothing."""
    first = connection.scalar(
        sa.select(results.c.sop_instance_uid)
        .where(results.c.study_id == study_id, ~results.c.is_note, results.c.sop_instance_uid.in_(accepted))
        .order_by(results.c.id)
        .limit(1)
    )
    if first is None:
        return None
    row = connection.execute(sa.select(studies).where(studies.c.id == study_id)).one()
    analyses = [from_plain(Analysis, plain) for plain in row.analyses]
    return ChargeableStudy(
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        packages=tuple(analysis.model.package for analysis in analyses),
        result_sop_instance_uid=first,
    )
