"""What people and programs may see of studies: read-only, for the portal and for the listing verbs.

The field names below are the keys of the portal's JSON and of `--json`: they are only ever added to. Nothing here names
a patient. The node's tables do not hold who a patient is, and what a header's free text said appears only in
`explanation` and in the history, as the reason of a decision.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.findings import Analysis, Code, Finding, ImageAnalysis, Measurement
from domain.states import DeliveryState
from domain.versions import Role
from storage.database import Database
from storage.plain import from_plain
from storage.tables import deliveries, instances, ledger, outboxes, quarantine, results, studies, study_events


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFilter:
    """Which studies are asked for. None asks nothing of that attribute.

    `clinics` are the clinics that the reader may see; an empty collection sees nothing.
    """

    clinics: Collection[str] | None = None
    state: str | None = None
    study_instance_uid: str | None = None
    accession_number: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyLine:
    """One generation of a study. `instances` counts those that came with this generation.

    A study is charged once, whatever comes later: `is_charged` stands at the generation that was.
    """

    clinic: str
    study_instance_uid: str
    generation: int
    state: str
    reason: str
    calling_ae_title: str
    accession_number: str
    instances: int
    opened_at: datetime
    completed_at: datetime | None
    completion_reason: str
    finished_at: datetime | None
    is_charged: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerLine:
    """What one model said about one image. `role`: whether its version was the active one or the canary."""

    package: str
    model_title: str
    model_version: str
    role: Role
    weights_sha256: str
    is_cleared: bool
    is_demonstration: bool
    sop_instance_uid: str
    label: str
    code: Code
    is_detected: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingLine(AnswerLine):
    """`certainty` and `threshold` are on the model's own scale, [0, 1]. `regions`: how many places it marked."""

    certainty: float
    threshold: float
    regions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementLine(AnswerLine):
    """`unit`: UCUM. `threshold` None: the value is told without a judgement."""

    value: float
    unit: str
    threshold: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLine:
    """One result on its way to one destination; `status` is the peer's last C-STORE status.

    delivered_at: when the destination last said that it stored it. committed_at: when it said that it will keep it.
    last_error: what was said of it, or why it waits: the destination is away.
    """

    destination: str
    state: str
    attempts: int
    status: int | None
    last_error: str
    delivered_at: datetime | None
    committed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultLine:
    """One result object; `times_sent_back` counts how often a PACS returned it to the node."""

    kind: str
    profile: str
    is_note: bool
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    written_at: datetime
    times_sent_back: int
    deliveries: tuple[DeliveryLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLine:
    """One thing that happened to a study."""

    at: datetime
    event: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyHistory(StudyLine):
    """All that was done to one generation of a study, and why."""

    explanation: tuple[str, ...]
    findings: tuple[FindingLine, ...]
    measurements: tuple[MeasurementLine, ...]
    results: tuple[ResultLine, ...]
    events: tuple[EventLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantineLine:
    """One instance that came and cannot be used as it is; `spool_key` names its file in the spool.

    clinic: "" when its caller is known for none; only a reader who may see all clinics sees it.
    """

    clinic: str
    reason: str
    detail: str
    calling_ae_title: str
    sop_instance_uid: str
    study_instance_uid: str
    spool_key: str
    received_at: datetime


def list_studies(
    database: Database, wanted: StudyFilter, *, limit: int, offset: int = 0
) -> tuple[list[StudyLine], int]:
    """The newest studies first, and how many there are in all."""
    conditions = _conditions(wanted)
    with database.read() as connection:
        total = connection.scalar(sa.select(sa.func.count()).select_from(studies).where(*conditions)) or 0
        rows = connection.execute(
            _studies().where(*conditions).order_by(studies.c.id.desc()).limit(limit).offset(offset)
        ).all()
    return [StudyLine(**_study_line(row)) for row in rows], total


def read_history(database: Database, wanted: StudyFilter) -> list[StudyHistory]:
    """Everything about each generation of the studies asked for, the first generation first."""
    query = _studies().where(*_conditions(wanted)).order_by(studies.c.clinic, studies.c.generation)
    with database.read() as connection:
        return [
            StudyHistory(
                **_study_line(row),
                explanation=tuple(row.explanation),
                findings=_findings(row.analyses),
                measurements=_measurements(row.analyses),
                results=_results(connection, row.id),
                events=_events(connection, row.id),
            )
            for row in connection.execute(query).all()
        ]


def list_quarantine(
    database: Database, *, clinics: Collection[str] | None, reason: str | None, limit: int, offset: int = 0
) -> tuple[list[QuarantineLine], int]:
    """The newest first, and how many there are in all."""
    conditions: list[sa.ColumnElement[bool]] = []
    if clinics is not None:
        conditions.append(quarantine.c.clinic.in_(clinics))
    if reason is not None:
        conditions.append(quarantine.c.reason == reason)
    with database.read() as connection:
        total = connection.scalar(sa.select(sa.func.count()).select_from(quarantine).where(*conditions)) or 0
        rows = connection.execute(
            sa.select(quarantine).where(*conditions).order_by(quarantine.c.id.desc()).limit(limit).offset(offset)
        ).all()
    lines = [
        QuarantineLine(
            clinic=row.clinic or "",
            reason=row.reason,
            detail=row.detail,
            calling_ae_title=row.calling_ae_title,
            sop_instance_uid=row.sop_instance_uid,
            study_instance_uid=row.study_instance_uid,
            spool_key=row.spool_key,
            received_at=row.received_at,
        )
        for row in rows
    ]
    return lines, total


def _conditions(wanted: StudyFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (studies.c.state, wanted.state),
            (studies.c.study_instance_uid, wanted.study_instance_uid),
            (studies.c.accession_number, wanted.accession_number),
        )
        if value is not None
    ]
    if wanted.clinics is not None:
        conditions.append(studies.c.clinic.in_(wanted.clinics))
    return conditions


def _studies() -> sa.Select[Any]:
    instance_count = (
        sa.select(sa.func.count()).where(instances.c.study_id == studies.c.id).correlate(studies).scalar_subquery()
    )
    # A charge, and no credit for it.
    rows = sa.select(sa.func.count()).where(ledger.c.study_id == studies.c.id).correlate(studies).scalar_subquery()
    return sa.select(studies, instance_count.label("instances"), (rows == 1).label("is_charged"))


def _study_line(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "clinic": row.clinic,
        "study_instance_uid": row.study_instance_uid,
        "generation": row.generation,
        "state": row.state,
        "reason": row.reason,
        "calling_ae_title": row.calling_ae_title,
        "accession_number": row.accession_number,
        "instances": row.instances,
        "opened_at": row.opened_at,
        "completed_at": row.completed_at,
        "completion_reason": row.completion_reason,
        "finished_at": row.finished_at,
        "is_charged": bool(row.is_charged),
    }


def _findings(analyses: Sequence[Any]) -> tuple[FindingLine, ...]:
    return tuple(
        FindingLine(
            **_who_said(analysis, image, finding),
            certainty=finding.certainty,
            threshold=finding.threshold,
            regions=sum(region.label == finding.label for region in image.regions),
        )
        for analysis, image in _analysed_images(analyses)
        for finding in image.findings
    )


def _measurements(analyses: Sequence[Any]) -> tuple[MeasurementLine, ...]:
    return tuple(
        MeasurementLine(
            **_who_said(analysis, image, measurement),
            value=measurement.value,
            unit=measurement.unit.value,
            threshold=measurement.threshold,
        )
        for analysis, image in _analysed_images(analyses)
        for measurement in image.measurements
    )


def _analysed_images(analyses: Sequence[Any]) -> Iterator[tuple[Analysis, ImageAnalysis]]:
    for analysis in (from_plain(Analysis, plain) for plain in analyses):
        yield from ((analysis, image) for image in analysis.images)


def _who_said(analysis: Analysis, image: ImageAnalysis, answer: Finding | Measurement) -> dict[str, Any]:
    model = analysis.model
    return {
        "package": model.package,
        "model_title": model.title,
        "model_version": model.version,
        "role": model.role,
        "weights_sha256": model.weights_sha256,
        "is_cleared": model.is_cleared,
        "is_demonstration": model.is_demonstration,
        "sop_instance_uid": image.sop_instance_uid,
        "label": answer.label,
        "code": answer.code,
        "is_detected": answer.is_detected,
    }


def _results(connection: sa.Connection, study_id: int) -> tuple[ResultLine, ...]:
    rows = connection.execute(sa.select(results).where(results.c.study_id == study_id).order_by(results.c.id)).all()
    return tuple(
        ResultLine(
            kind=row.kind,
            profile=row.profile,
            is_note=row.is_note,
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            series_instance_uid=row.series_instance_uid,
            written_at=row.written_at,
            times_sent_back=row.times_sent_back,
            deliveries=_deliveries(connection, row.id),
        )
        for row in rows
    )


def _deliveries(connection: sa.Connection, result_id: int) -> tuple[DeliveryLine, ...]:
    is_its = sa.and_(outboxes.c.clinic == studies.c.clinic, outboxes.c.destination == deliveries.c.destination)
    query = (
        sa.select(deliveries, outboxes.c.last_error.label("why_away"))
        .select_from(deliveries.join(results).join(studies).outerjoin(outboxes, is_its))
        .where(deliveries.c.result_id == result_id)
        .order_by(deliveries.c.destination)
    )
    return tuple(
        DeliveryLine(
            destination=row.destination,
            state=row.state,
            attempts=row.attempts,
            status=row.status,
            last_error=row.last_error or (row.state == DeliveryState.PENDING and row.why_away) or "",
            delivered_at=row.delivered_at,
            committed_at=row.committed_at,
        )
        for row in connection.execute(query)
    )


def _events(connection: sa.Connection, study_id: int) -> tuple[EventLine, ...]:
    query = sa.select(study_events).where(study_events.c.study_id == study_id).order_by(study_events.c.id)
    return tuple(EventLine(at=row.at, event=row.event, detail=row.detail) for row in connection.execute(query))
