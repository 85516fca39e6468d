"""Which results still have to reach which destination, and what became of each attempt."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.findings import Analysis, ModelIdentity
from domain.states import DeliveryState
from storage.database import Database, utc_now
from storage.plain import from_plain
from storage.tables import UtcDateTime, deliveries, results, studies

# The state of a delivery after the peer's answer; the words are those of scu.store.Answer.
STATE_AFTER = {
    "stored": DeliveryState.DELIVERED,
    "retry": DeliveryState.PENDING,
    "not_taken": DeliveryState.REFUSED,
    "refused": DeliveryState.REFUSED,
}
HAS_OR_GETS_IT = (
    DeliveryState.PENDING,
    DeliveryState.DELIVERED,
    DeliveryState.STORED,
    DeliveryState.COMMITTED,
    DeliveryState.UNCOMMITTED,
)
_ON_THE_WAY = studies.join(results).join(deliveries)
_HAD_TROUBLE = sa.case((deliveries.c.due_at.is_(None), 0), else_=1)
# What was stored before, and lost, has its time from then on.
_WAITS_SINCE = sa.func.coalesce(deliveries.c.owed_since, results.c.written_at)
_IS_PENDING = (deliveries.c.destination == sa.bindparam("to"), deliveries.c.state == DeliveryState.PENDING)
_IS_DUE = (*_IS_PENDING, sa.or_(deliveries.c.due_at.is_(None), deliveries.c.due_at <= sa.bindparam("now")))
_OF_CLINIC = studies.c.clinic == sa.bindparam("of")
_OF_STUDY = studies.c.id == sa.bindparam("of")
_STUDIES_DUE = (
    sa.select(studies.c.id)
    .select_from(_ON_THE_WAY)
    .where(_OF_CLINIC, *_IS_DUE)
    .group_by(studies.c.id, studies.c.completed_at)
    .order_by(sa.func.min(_HAD_TROUBLE), studies.c.completed_at, studies.c.id)
    .limit(sa.bindparam("at_most"))
)
_STUDIES_LONG_DUE = _STUDIES_DUE.where(sa.bindparam("before", type_=UtcDateTime) > _WAITS_SINCE)
_NEXT_DUE = (
    sa.select(deliveries.c.due_at)
    .select_from(_ON_THE_WAY)
    .where(_OF_CLINIC, *_IS_PENDING)
    .order_by(_HAD_TROUBLE, deliveries.c.due_at)
    .limit(1)
)
_CONTEXTS = (
    sa.select(results.c.sop_class_uid, results.c.transfer_syntax_uid)
    .distinct()
    .select_from(_ON_THE_WAY)
    .where(_OF_CLINIC, *_IS_PENDING)
    .order_by(results.c.sop_class_uid, results.c.transfer_syntax_uid)
    .limit(sa.bindparam("at_most"))
)
_RESULTS_DUE = (
    sa.select(
        results.c.sop_instance_uid,
        results.c.sop_class_uid,
        results.c.transfer_syntax_uid,
        _HAD_TROUBLE.label("had_trouble"),
    )
    .select_from(_ON_THE_WAY)
    .where(_OF_STUDY, *_IS_DUE)
    .order_by(results.c.id)
)
_WAITING = (
    sa.select(
        results.c.sop_instance_uid,
        results.c.kind,
        results.c.is_note,
        deliveries.c.attempts,
        deliveries.c.due_at,
        _WAITS_SINCE.label("since"),
    )
    .select_from(_ON_THE_WAY)
    .where(_OF_STUDY, *_IS_PENDING)
)
_ENTER_OUTCOME = (
    sa.update(deliveries)
    .where(
        deliveries.c.result_id
        == sa.select(results.c.id).where(results.c.sop_instance_uid == sa.bindparam("of")).scalar_subquery(),
        *_IS_PENDING,
    )
    .values(
        attempts=deliveries.c.attempts + 1,
        owed_since=sa.func.coalesce(deliveries.c.owed_since, sa.bindparam("owes_since", type_=UtcDateTime)),
    )
)
_UIDS_OF_ANALYSIS = (
    sa.select(results.c.sop_instance_uid)
    .where(results.c.study_id == sa.bindparam("of"), ~results.c.is_note)
    .order_by(results.c.id)
)
_ANALYSED = sa.select(studies.c.clinic, studies.c.study_instance_uid, studies.c.analyses).where(_OF_STUDY)


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingResult:
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultReference:
    """A result as another object refers to it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A result that waits for a destination. `attempts`: those that were made. `due_at`: see storage/tables.py.

    since: when the time began after which it is given up.
    """

    kind: str
    is_note: bool
    attempts: int
    since: datetime
    due_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeableStudy:
    """A study whose analysis has reached a destination."""

    clinic: str
    study_instance_uid: str
    packages: tuple[str, ...]
    models: tuple[ModelIdentity, ...]
    result_sop_instance_uid: str
    result_sop_instance_uids: tuple[str, ...]


def studies_due(
    connection: sa.Connection, *, clinic: str, destination: str, limit: int, since_before: datetime | None = None
) -> list[int]:
    """The studies with results whose turn it is at this destination, in the order in which they were completed.

    What had trouble of its own goes last: an object at which a PACS chokes must not keep the others from it.

    since_before: only those with a result that has waited since before then.
    """
    due = {"of": clinic, "to": destination, "now": utc_now(), "at_most": limit}
    if since_before is not None:
        return list(connection.scalars(_STUDIES_LONG_DUE, {**due, "before": since_before}))
    return list(connection.scalars(_STUDIES_DUE, due))


def next_due(connection: sa.Connection, *, clinic: str, destination: str) -> datetime | None:
    """From when on there is something to send to this destination; None: nothing is pending."""
    first = connection.execute(_NEXT_DUE, {"of": clinic, "to": destination}).first()
    if first is None:
        return None
    return first.due_at or utc_now()


def pending_contexts(database: Database, *, clinic: str, destination: str, limit: int) -> list[tuple[str, str]]:
    """The (SOP Class UID, Transfer Syntax UID) pairs of all that waits for this destination."""
    with database.read() as connection:
        rows = connection.execute(_CONTEXTS, {"of": clinic, "to": destination, "at_most": limit}).all()
    return [(row.sop_class_uid, row.transfer_syntax_uid) for row in rows]


def results_due(database: Database, study_id: int, destination: str) -> list[PendingResult]:
    """The study's results whose turn it is, in the order in which they were written.

    Those with trouble of their own only when all others are gone: they have their turn behind those of other studies.
    """
    with database.read() as connection:
        rows = connection.execute(_RESULTS_DUE, {"of": study_id, "to": destination, "now": utc_now()}).all()
    return [
        PendingResult(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
        )
        for row in rows
        if row.had_trouble == min(other.had_trouble for other in rows)
    ]


def waiting(connection: sa.Connection, study_id: int, destination: str) -> dict[str, Waiting]:
    """What of this study still waits for the destination, by SOP Instance UID."""
    rows = connection.execute(_WAITING, {"of": study_id, "to": destination}).all()
    return {
        row.sop_instance_uid: Waiting(
            kind=row.kind,
            is_note=row.is_note,
            attempts=row.attempts,
            since=row.since,
            due_at=row.due_at,
        )
        for row in rows
    }


def record_outcome(
    connection: sa.Connection,
    *,
    sop_instance_uid: str,
    destination: str,
    state: DeliveryState,
    status: int | None,
    detail: str,
    due_at: datetime | None = None,
) -> None:
    """Enter one attempt for one result; `due_at`: when it is tried again by itself."""
    now = utc_now()
    is_stored = state in (DeliveryState.DELIVERED, DeliveryState.STORED)
    connection.execute(
        _ENTER_OUTCOME,
        {
            "of": sop_instance_uid,
            "to": destination,
            "state": state,
            "status": status,
            "last_error": detail,
            "due_at": due_at,
            "delivered_at": now if is_stored else None,
            "owes_since": now if state is DeliveryState.STORED else None,
        },
    )


def chargeable_study(connection: sa.Connection, study_id: int, accepted: Collection[str]) -> ChargeableStudy | None:
    """The study to charge when one of the `accepted` results belongs to its analysis; a note earns nothing."""
    uids = list(connection.scalars(_UIDS_OF_ANALYSIS, {"of": study_id}))
    first = next((uid for uid in uids if uid in accepted), None)
    if first is None:
        return None
    row = connection.execute(_ANALYSED, {"of": study_id}).one()
    analyses = [from_plain(Analysis, plain) for plain in row.analyses]
    return ChargeableStudy(
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        packages=tuple(analysis.model.package for analysis in analyses),
        models=tuple(analysis.model for analysis in analyses),
        result_sop_instance_uid=first,
        result_sop_instance_uids=tuple(uids),
    )


def held_at(connection: sa.Connection, clinic: str, study_instance_uid: str) -> dict[str, tuple[ResultReference, ...]]:
    """Which results of any generation each destination has or may have. One that was on its way when it was withdrawn
    may have arrived; a note is no result.
    """
    rows = connection.execute(
        sa.select(deliveries.c.destination, results)
        .select_from(_ON_THE_WAY)
        .where(
            studies.c.clinic == clinic,
            studies.c.study_instance_uid == study_instance_uid,
            deliveries.c.state.in_((*HAS_OR_GETS_IT, DeliveryState.WITHDRAWN)),
            ~results.c.is_note,
        )
        .order_by(deliveries.c.destination, results.c.id)
    ).all()
    held: dict[str, tuple[ResultReference, ...]] = {}
    for row in rows:
        result = ResultReference(
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            series_instance_uid=row.series_instance_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
        )
        held[row.destination] = (*held.get(row.destination, ()), result)
    return held


def refused_kinds(connection: sa.Connection, study_id: int, destination: str) -> set[str]:
    """The kinds of this study's results that the destination did not take, for whatever reason."""
    return set(_kinds(connection, study_id, destination, DeliveryState.REFUSED, DeliveryState.REPLACED))


def kinds_on_the_way(connection: sa.Connection, study_id: int, destination: str) -> set[str]:
    """The kinds of this study's results that the destination has or will get."""
    return set(_kinds(connection, study_id, destination, *HAS_OR_GETS_IT))


def _kinds(connection: sa.Connection, study_id: int, destination: str, *states: DeliveryState) -> sa.ScalarResult[str]:
    return connection.scalars(
        sa.select(results.c.kind)
        .select_from(_ON_THE_WAY)
        .where(
            studies.c.id == study_id,
            deliveries.c.destination == destination,
            deliveries.c.state.in_(states),
            ~results.c.is_note,
        )
    )
