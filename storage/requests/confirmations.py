"""Rows for what destinations are asked to commit to: which results, under which Transaction UID, and what was reported.

States are drawn in domain/confirmation.py. One row for each N-ACTION, committed before it is sent. A delivery points to
the row that it waits for (deliveries.confirmation_id); while it points to none it is to be asked for. `due_at` is when
the row ends without a report, and so whatever becomes of whoever sent the N-ACTION: nothing is waited for for ever.

A destination that cannot be asked keeps its row until it is tried again, which then is a row of its own, under another
Transaction UID (PS3.4 J.3.2.1.2: not even after a failure is one used twice).

The order in which rows are locked: the confirmation, then clinics, studies, deliveries, outboxes as everywhere.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from domain.commitment import Reference
from domain.confirmation import ConfirmationState, Report
from domain.states import DeliveryState
from storage.clinic_lock import lock_clinic
from storage.database import Database, utc_now
from storage.events import add_event
from storage.plain import from_plain, to_plain
from storage.requests.confirmation_folder import ConfirmationFolder
from storage.tables import confirmations, deliveries, results, studies

log = structlog.get_logger()

# One N-ACTION for what is stored shortly after each other.
GATHER_S = 5.0
MOST_REFERENCES = 1000
DUE_LIMIT = 50
_OWED = studies.join(results).join(deliveries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """`failures`: times in a row, this one included, that the destination could not be asked."""

    confirmation_id: int
    clinic: str
    destination: str
    transaction_uid: str
    asked_at: datetime
    due_at: datetime
    failures: int
    last_error: str
    report: Report | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """A result of which a commitment is owed. `attempts`: how often it was sent. `since`: see deliveries.owed_since.

    is_asked_for: the confirmation that is looked at is the one that it waits for.
    is_older: it was stored before that was asked, and so is what the answer is about.
    """

    delivery_id: int
    reference: Reference
    attempts: int
    since: datetime
    is_asked_for: bool
    is_older: bool


_OWING = (
    sa.select(studies.c.clinic, deliveries.c.destination)
    .distinct()
    .select_from(_OWED)
    .where(deliveries.c.state == DeliveryState.STORED, deliveries.c.confirmation_id.is_(None))
    .order_by(studies.c.clinic, deliveries.c.destination)
)
_IS_OVER = sa.and_(confirmations.c.state == ConfirmationState.ASKED, confirmations.c.due_at <= sa.bindparam("now"))
_DUE = (
    sa.select(confirmations.c.id)
    .where(sa.or_(confirmations.c.state == ConfirmationState.REPORTED, _IS_OVER))
    .order_by(confirmations.c.id)
    .limit(DUE_LIMIT)
)


# Asking


def owing(database: Database) -> list[tuple[str, str]]:
    """(clinic, destination) of everyone who has yet to be asked for something."""
    with database.read() as connection:
        rows = connection.execute(_OWING).all()
    return [(row.clinic, row.destination) for row in rows]


def begin(
    database: Database, *, clinic: str, destination: str, taken_for_s: float
) -> tuple[Confirmation, tuple[Reference, ...]] | None:
    """The next thing to ask the destination, entered; None: nothing now, or it could not be asked a while ago.

    taken_for_s: after so long it counts as not asked, if nobody says otherwise.
    """
    now = utc_now()
    with database.write() as connection:
        lock_clinic(connection, clinic)  # two workers must not ask for the same
        before = _newest(connection, clinic, destination)
        if before is not None and before.failures and before.state == ConfirmationState.ASKED:
            return None
        rows = connection.execute(
            sa.select(deliveries.c.id, deliveries.c.delivered_at, results)
            .select_from(_OWED)
            .where(*_stored_at(clinic, destination), deliveries.c.confirmation_id.is_(None))
            .order_by(deliveries.c.delivered_at, deliveries.c.id)
            .limit(MOST_REFERENCES)
        ).all()
        if not rows or (rows[0].delivered_at > now - timedelta(seconds=GATHER_S) and len(rows) < MOST_REFERENCES):
            return None
        row = connection.execute(
            sa.insert(confirmations)
            .values(
                clinic=clinic,
                destination=destination,
                transaction_uid=f"2.25.{uuid.uuid4().int}",
                state=ConfirmationState.ASKED,
                failures=before.failures if before is not None else 0,
                asked_at=now,
                due_at=now + timedelta(seconds=taken_for_s),
            )
            .returning(confirmations)
        ).one()
        connection.execute(
            sa.update(deliveries).where(deliveries.c.id.in_([one.id for one in rows])).values(confirmation_id=row.id)
        )
    references = tuple(_reference(one) for one in rows)
    return _confirmation(row), references


def record_asked(database: Database, confirmation: Confirmation, *, wait_s: float) -> None:
    """The destination has taken the request. Its report may be here already."""
    with database.write() as connection:
        connection.execute(
            sa.update(confirmations)
            .where(confirmations.c.id == confirmation.confirmation_id)
            .values(failures=0, last_error="", due_at=utc_now() + timedelta(seconds=wait_s))
        )


def record_not_asked(database: Database, confirmation: Confirmation, error: str, *, delay_s: float) -> int:
    """The destination cannot be asked now; how often in a row that was so. The studies' history tells it once."""
    failures = confirmation.failures + 1
    with database.write() as connection:
        connection.execute(
            sa.update(confirmations)
            .where(confirmations.c.id == confirmation.confirmation_id)
            .values(failures=failures, last_error=error, due_at=utc_now() + timedelta(seconds=delay_s))
        )
        asked_for = deliveries.c.confirmation_id == confirmation.confirmation_id
        connection.execute(sa.update(deliveries).where(asked_for).values(last_error=error))
        if failures == 1:
            for study_id in connection.scalars(sa.select(studies.c.id).distinct().select_from(_OWED).where(asked_for)):
                add_event(connection, study_id, "not_committed", f"{confirmation.destination} cannot be asked: {error}")
    return failures


# Reports


def record_reports(database: Database, folder: ConfirmationFolder) -> int:
    """Bring every report that waits into the database; how many that were. Doing one twice changes nothing.

    Raises:
        DBAPIError: the database is away; the reports wait.
    """
    return folder.reports.bring_in(database, Report, record_report)


def record_report(connection: sa.Connection, report: Report) -> bool:
    """Enter one report, also where it comes late or again: what it says is judged when the deliveries are told. True:
    nothing of it is left to be entered.
    """
    entered = connection.execute(
        sa.update(confirmations)
        .where(confirmations.c.transaction_uid == report.transaction_uid)
        .values(state=ConfirmationState.REPORTED, report=to_plain(report), ended_at=None)
    )
    if not entered.rowcount:
        log.warning("report_unknown", reason="there is no row for its Transaction UID")
    return True


# What comes of it


def due(database: Database) -> list[int]:
    """The confirmations of which something comes now: a report is here, or will not come."""
    with database.read() as connection:
        return list(connection.scalars(_DUE, {"now": utc_now()}))


def lock_due(connection: sa.Connection, confirmation_id: int) -> Confirmation | None:
    """The confirmation, for this transaction alone; None: another worker was faster."""
    row = connection.execute(
        sa.select(confirmations).where(confirmations.c.id == confirmation_id).with_for_update()
    ).one_or_none()
    if row is None or row.state == ConfirmationState.ENDED:
        return None
    if row.state == ConfirmationState.ASKED and row.due_at > utc_now():
        return None
    return _confirmation(row)


def studies_of(connection: sa.Connection, confirmation: Confirmation) -> list[int]:
    """The studies with results that this confirmation is about, in the order in which rows are locked."""
    return sorted(
        connection.scalars(sa.select(studies.c.id).distinct().select_from(_OWED).where(*_about(confirmation)))
    )


def owed(connection: sa.Connection, confirmation: Confirmation, study_id: int) -> list[Owed]:
    """The results of this study that wait for it, and those that its report names and that wait for another one."""
    rows = connection.execute(
        sa.select(deliveries, results.c.sop_class_uid, results.c.sop_instance_uid)
        .select_from(_OWED)
        .where(*_about(confirmation), studies.c.id == study_id)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    ).all()
    return [
        Owed(
            delivery_id=row.id,
            reference=_reference(row),
            attempts=row.attempts,
            since=row.owed_since,
            is_asked_for=row.confirmation_id == confirmation.confirmation_id,
            is_older=row.delivered_at <= confirmation.asked_at,
        )
        for row in rows
    ]


def settle(
    connection: sa.Connection,
    these: Collection[Owed],
    state: DeliveryState,
    *,
    why: str = "",
    due_at: datetime | None = None,
) -> None:
    """What became of these: nothing is waited for any more. STORED: they are to be asked for anew."""
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_([one.delivery_id for one in these]))
        .values(
            state=state,
            confirmation_id=None,
            last_error=why,
            due_at=due_at,
            committed_at=utc_now() if state is DeliveryState.COMMITTED else None,
        )
    )


def end(connection: sa.Connection, confirmation: Confirmation, *, is_waited_for: bool) -> None:
    """Nothing more comes of it, unless some of what was asked for is not in the report yet."""
    connection.execute(
        sa.update(confirmations)
        .where(confirmations.c.id == confirmation.confirmation_id)
        .values(
            report=sa.null(),
            state=ConfirmationState.ASKED if is_waited_for else ConfirmationState.ENDED,
            ended_at=None if is_waited_for else utc_now(),
        )
    )


def no_longer_asked(connection: sa.Connection, *, clinic: str, destination: str) -> list[int]:
    """Count as delivered what the destination is not to commit to any more; the studies."""
    where = _stored_at(clinic, destination)
    ids = sorted(connection.scalars(sa.select(studies.c.id).distinct().select_from(_OWED).where(*where)))
    connection.execute(sa.select(studies.c.id).where(studies.c.id.in_(ids)).order_by(studies.c.id).with_for_update())
    these = sa.select(deliveries.c.id).select_from(_OWED).where(*where, studies.c.id.in_(ids))
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_(these))
        .values(state=DeliveryState.DELIVERED, confirmation_id=None, last_error="")
    )
    return ids


def _newest(connection: sa.Connection, clinic: str, destination: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(
        sa.select(confirmations)
        .where(confirmations.c.clinic == clinic, confirmations.c.destination == destination)
        .order_by(confirmations.c.id.desc())
        .limit(1)
    ).one_or_none()


def _stored_at(clinic: str, destination: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        studies.c.clinic == clinic,
        deliveries.c.destination == destination,
        deliveries.c.state == DeliveryState.STORED,
    )


def _about(confirmation: Confirmation) -> tuple[sa.ColumnElement[bool], ...]:
    named = [one.sop_instance_uid for one in confirmation.report.committed] if confirmation.report else []
    is_its = deliveries.c.confirmation_id == confirmation.confirmation_id
    return (
        *_stored_at(confirmation.clinic, confirmation.destination),
        sa.or_(is_its, results.c.sop_instance_uid.in_(named)),
    )


def _reference(row: sa.Row[tuple[object, ...]]) -> Reference:
    return Reference(sop_class_uid=row.sop_class_uid, sop_instance_uid=row.sop_instance_uid)


def _confirmation(row: sa.Row[tuple[object, ...]]) -> Confirmation:
    return Confirmation(
        confirmation_id=row.id,
        clinic=row.clinic,
        destination=row.destination,
        transaction_uid=row.transaction_uid,
        asked_at=row.asked_at,
        due_at=row.due_at,
        failures=row.failures,
        last_error=row.last_error,
        report=None if row.report is None else from_plain(Report, row.report),
    )
