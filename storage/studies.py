"""A study's row through its life: what is complete, what came, what was decided, what was made of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.completion import CompletionRules, completion_reason, next_moment
from domain.errors import Refuse
from domain.findings import Analysis
from domain.procedure_step import NO_STEPS
from domain.queueing import STAT_PRIORITY
from domain.states import HELD, WAITS_FOR_QUOTA, DeliveryState, Reason, StudyState
from domain.study import Instance, InstanceFacts, Study
from storage.answers.runs import save_answers
from storage.database import Database, utc_now
from storage.events import add_event
from storage.instances import Spool
from storage.jobs import study_job_id
from storage.plain import from_plain, to_plain
from storage.requests.procedure_steps import open_studies_with_steps, steps_of_study
from storage.tables import deliveries, instances, results, studies

# The graver first: what no destination took is not there at all.
FAILED_DELIVERIES = {
    DeliveryState.REFUSED: Reason.NOT_DELIVERED,
    DeliveryState.UNCOMMITTED: Reason.NOT_COMMITTED,
}


_THIS: sa.BindParameter[int] = sa.bindparam("study")
_ROW = sa.select(studies).where(studies.c.id == _THIS)
_LOCKED_STATE = sa.select(studies.c.state).where(studies.c.id == _THIS).with_for_update()
_LOCK = sa.select(studies.c.id).where(studies.c.id == _THIS).with_for_update()
_NAME = sa.select(studies.c.clinic, studies.c.study_instance_uid).where(studies.c.id == _THIS)
_CALLING_AE_TITLE = sa.select(studies.c.calling_ae_title).where(studies.c.id == _THIS)
_FACTS = sa.select(instances.c.facts).where(instances.c.study_id == _THIS)
_CHANGE = sa.update(studies).where(studies.c.id == sa.bindparam("of"))
_CHANGE_IF = _CHANGE.where(studies.c.state == sa.bindparam("was"))
_RECEIVING = (
    sa.select(
        studies.c.id,
        studies.c.clinic,
        studies.c.study_instance_uid,
        studies.c.calling_ae_title,
        studies.c.opened_at,
        studies.c.last_received_at,
        studies.c.released_at,
    )
    .where(studies.c.state == StudyState.RECEIVING)
    .order_by(studies.c.id)
)
_STILL_RECEIVING = _ROW.where(studies.c.state == StudyState.RECEIVING).with_for_update(skip_locked=True)
_ITS_INSTANCES = (
    sa.select(instances)
    .join(studies, instances.c.study_id == studies.c.id)
    .where(
        studies.c.clinic == sa.bindparam("clinic"),
        studies.c.study_instance_uid == sa.bindparam("uid"),
        studies.c.generation <= sa.bindparam("generation"),
        instances.c.removed_at.is_(None),
    )
    .order_by(instances.c.series_instance_uid, instances.c.sop_instance_uid)
)
_ENTER_RESULTS = sa.insert(results)
_RESULT_IDS = sa.select(results.c.sop_instance_uid, results.c.id).where(
    results.c.sop_instance_uid.in_(sa.bindparam("uids", expanding=True))
)
_ENTER_DELIVERIES = sa.insert(deliveries)
_DELIVERIES = sa.select(deliveries.c.result_id, deliveries.c.destination).where(
    deliveries.c.result_id.in_(sa.bindparam("results", expanding=True))
)
_DELIVERY_STATES = sa.select(deliveries.c.state).join(results).where(results.c.study_id == _THIS, ~results.c.is_note)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenStudy:
    """A study that is still receiving and counts as complete now."""

    study_id: int
    clinic: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenStudies:
    """complete: those that are receiving and count as complete now. next_moment: when time may complete another one."""

    complete: tuple[OpenStudy, ...]
    next_moment: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldStudy:
    """A study that waits for quota, or for a larger plan. `is_stat`: it went before all others."""

    study_id: int
    clinic: str
    study_instance_uid: str
    is_stat: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow:
    """One result object that was written for a study."""

    kind: str
    profile: str
    is_note: bool
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


def open_studies(database: Database, rules: CompletionRules) -> OpenStudies:
    """The receiving studies, as far as they are complete at this moment, and when to look again."""
    with database.read() as connection:
        rows = connection.execute(_RECEIVING).all()
        with_steps = open_studies_with_steps(connection) if rows else ()
        steps = {
            row.id: steps_of_study(connection, row.id)
            for row in rows
            if (row.clinic, row.study_instance_uid) in with_steps
        }
    now = utc_now()
    complete, moments = [], []
    for row in rows:
        its_rules = rules.of(row.clinic, row.calling_ae_title)
        times = {
            "opened_at": row.opened_at,
            "last_received_at": row.last_received_at,
            "released_at": row.released_at,
            "now": now,
        }
        reason = completion_reason(its_rules, **times, steps=steps.get(row.id, NO_STEPS))
        if reason is not None:
            complete.append(OpenStudy(study_id=row.id, clinic=row.clinic, reason=reason))
        elif moment := next_moment(its_rules, **times):
            moments.append(moment)
    return OpenStudies(complete=tuple(complete), next_moment=min(moments, default=None))


def close_study(connection: sa.Connection, study: OpenStudy, rules: CompletionRules) -> bool:
    """Move a study from receiving to queued; False when another process does, or when an image came meanwhile."""
    row = connection.execute(_STILL_RECEIVING, {"study": study.study_id}).first()
    now = utc_now()
    if row is None or not completion_reason(
        rules.of(row.clinic, row.calling_ae_title),
        opened_at=row.opened_at,
        last_received_at=row.last_received_at,
        released_at=row.released_at,
        now=now,
        steps=steps_of_study(connection, study.study_id),
    ):
        return False
    _change(connection, study.study_id, state=StudyState.QUEUED, completed_at=now, completion_reason=study.reason)
    add_event(connection, study.study_id, "complete", study.reason)
    return True


def latest_studies(database: Database, *, limit: int) -> list[int]:
    """The studies that were completed last and have a pixel left, each by its newest generation; the newest first."""
    newest = (
        sa.select(sa.func.max(studies.c.id))
        .where(
            studies.c.completed_at.is_not(None),
            sa.exists().where(instances.c.study_id == studies.c.id, instances.c.removed_at.is_(None)),
        )
        .group_by(studies.c.clinic, studies.c.study_instance_uid)
    )
    with database.read() as connection:
        return list(connection.scalars(newest.order_by(sa.func.max(studies.c.id).desc()).limit(limit)))


def read_study(database: Database, spool: Spool, study_id: int) -> Study:
    """A closed study with its instances: those of this generation and of all before it, without those
    whose pixels were removed.
    """
    with database.read() as connection:
        row = connection.execute(_ROW, {"study": study_id}).one()
        until = {"clinic": row.clinic, "uid": row.study_instance_uid, "generation": row.generation}
        rows = connection.execute(_ITS_INSTANCES, until).all()
    return Study(
        clinic=row.clinic,
        study_instance_uid=row.study_instance_uid,
        generation=row.generation,
        calling_ae_title=row.calling_ae_title,
        completed_at=row.completed_at.replace(microsecond=0),
        completion_reason=row.completion_reason,
        instances=tuple(
            Instance(
                sop_instance_uid=one.sop_instance_uid,
                sop_class_uid=one.sop_class_uid,
                series_instance_uid=one.series_instance_uid,
                transfer_syntax_uid=one.transfer_syntax_uid,
                path=str(spool.path(one.spool_key)),
                facts=from_plain(InstanceFacts, one.facts),
            )
            for one in rows
        ),
    )


def save_decision(connection: sa.Connection, study_id: int, explanation: Sequence[str], reason: str) -> None:
    _change(connection, study_id, explanation=list(explanation))
    add_event(connection, study_id, "routed", reason)


def save_analyses(connection: sa.Connection, study_id: int, analyses: Sequence[Analysis]) -> None:
    _change(connection, study_id, analyses=[to_plain(analysis) for analysis in analyses])
    save_answers(connection, study_id, analyses)
    for analysis in analyses:
        devices = sorted({image.device for image in analysis.images} - {"cpu"})
        where = f" on {' and '.join(devices)}" if devices else ""
        add_event(connection, study_id, "analysed", f"{analysis.model.package} {analysis.model.version}{where}")
        for one in analysis.left_out:
            add_event(connection, study_id, "left_out", f"{analysis.model.package}, {one.sop_instance_uid}: {one.why}")
    for one in dict.fromkeys(one for analysis in analyses for one in analysis.unseen):
        add_event(connection, study_id, "left_out", f"{one.sop_instance_uid}: {one.why}")


def save_results(
    connection: sa.Connection, study_id: int, rows: Iterable[ResultRow], destinations: Mapping[str, Sequence[str]]
) -> None:
    """Enter result objects, and one pending delivery for each destination of their profile.

    `destinations` maps a profile to the names of the destinations that take it. What is there already stays as it is.
    """
    rows = list(rows)
    ids = _result_ids(connection, rows)
    new: dict[str, ResultRow] = {}
    for row in rows:
        if row.sop_instance_uid not in ids:
            new.setdefault(row.sop_instance_uid, row)  # two profiles may share an object
    if new:
        entered = [{"study_id": study_id, "written_at": utc_now(), **asdict(row)} for row in new.values()]
        connection.execute(_ENTER_RESULTS, entered)
        ids = _result_ids(connection, rows)
    wanted = dict.fromkeys((ids[row.sop_instance_uid], name) for row in rows for name in destinations[row.profile])
    of_these = connection.execute(_DELIVERIES, {"results": list(ids.values())})
    present = {(row.result_id, row.destination) for row in of_these}
    if missing := [pair for pair in wanted if pair not in present]:
        entered = [
            {"result_id": result_id, "destination": name, "state": DeliveryState.PENDING} for result_id, name in missing
        ]
        connection.execute(_ENTER_DELIVERIES, entered)
    _change_if(connection, study_id, StudyState.QUEUED, state=StudyState.DELIVERING)
    add_event(connection, study_id, "written", ", ".join(sorted({row.kind for row in rows})))


def _result_ids(connection: sa.Connection, rows: Iterable[ResultRow]) -> dict[str, int]:
    """Of those that are entered, by SOP Instance UID."""
    entered = connection.execute(_RESULT_IDS, {"uids": [row.sop_instance_uid for row in rows]})
    return {row.sop_instance_uid: row.id for row in entered}


def is_queued(connection: sa.Connection, study_id: int) -> bool:
    """Whether the study still waits for its analysis. Nobody changes that until this transaction ends."""
    return connection.scalar(_LOCKED_STATE, {"study": study_id}) == StudyState.QUEUED


def require_queued(connection: sa.Connection, study_id: int) -> None:
    """Stop a job that nobody waits for: its study was cancelled, or another job of it was faster.

    Raises:
        Refuse: the study is not queued.
    """
    if not is_queued(connection, study_id):
        raise Refuse("the study does not wait for its analysis any more", reason=Reason.CANCELLED)


def put_aside(connection: sa.Connection, study_id: int, refusal: Refuse) -> None:
    """A study that is not analysed: held when time or a person can lift the reason, failed otherwise."""
    state = StudyState.HELD if refusal.reason in HELD else StudyState.FAILED
    _change(connection, study_id, state=state, reason=refusal.reason, finished_at=utc_now())
    add_event(connection, study_id, str(state), " - ".join(part for part in (refusal.message, refusal.hint) if part))


def finish_study(connection: sa.Connection, study_id: int) -> bool:
    """Close a delivering study once nothing is sent or waits for its commitment: done, or failed when a destination
    refused a result or never committed to it.

    What another form stands for counts for nothing. Whether this call closed it.
    """
    states = set(connection.scalars(_DELIVERY_STATES, {"study": study_id}))
    if states & {DeliveryState.PENDING, DeliveryState.STORED}:
        return False
    reason = next((why for state, why in FAILED_DELIVERIES.items() if state in states), "")
    state = StudyState.FAILED if reason else StudyState.DONE
    closed = _change_if(connection, study_id, StudyState.DELIVERING, state=state, reason=reason, finished_at=utc_now())
    if closed:
        add_event(connection, study_id, "failed" if reason else "done")
    return closed


def lock(connection: sa.Connection, study_id: int) -> None:
    """Whoever else records something of this study waits: two destinations must not each take the other for pending."""
    connection.execute(_LOCK, {"study": study_id})


def analyses_of(database: Database, study_id: int) -> tuple[Analysis, ...]:
    with database.read() as connection:
        rows = connection.scalars(sa.select(studies.c.analyses).where(studies.c.id == study_id)).one()
    return tuple(from_plain(Analysis, plain) for plain in rows)


def has_analyses(connection: sa.Connection, study_id: int) -> bool:
    """False: it was not analysed, or was erased since."""
    return bool(connection.scalar(sa.select(studies.c.analyses).where(studies.c.id == study_id)))


def name_of(connection: sa.Connection, study_id: int) -> tuple[str, str]:
    """(clinic, Study Instance UID)."""
    clinic, study_instance_uid = connection.execute(_NAME, {"study": study_id}).one()
    return clinic, study_instance_uid


def calling_ae_title_of(connection: sa.Connection, study_id: int) -> str:
    return str(connection.scalars(_CALLING_AE_TITLE, {"study": study_id}).one())


def facts_of(connection: sa.Connection, study_id: int) -> list[InstanceFacts]:
    """Of the instances that came with this generation."""
    rows = connection.scalars(_FACTS, {"study": study_id})
    return [from_plain(InstanceFacts, plain) for plain in rows]


def newest_jobs(database: Database) -> list[tuple[int, str]]:
    """(study id, name of its newest job) of every queued study."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(studies.c.id, studies.c.jobs).where(studies.c.state == StudyState.QUEUED)
        ).all()
    return [(row.id, study_job_id(row.id, row.jobs)) for row in rows]


def requeue(connection: sa.Connection, study_id: int, why: str) -> None:
    """A study that was put aside is looked at once more, from the start."""
    _change(connection, study_id, state=StudyState.QUEUED, reason="", finished_at=None)
    add_event(connection, study_id, "requeued", why)


def held_for_quota(database: Database) -> list[HeldStudy]:
    """The studies that wait for a new period, a larger plan or a subscription that takes work; the oldest first."""
    return _held(database, studies.c.reason.in_(WAITS_FOR_QUOTA))


def held_outside_plan(database: Database) -> list[HeldStudy]:
    """The studies that the clinic's plan has no model for, each by its newest generation; the oldest first."""
    newer = studies.alias()
    is_newest = ~sa.exists().where(
        newer.c.clinic == studies.c.clinic,
        newer.c.study_instance_uid == studies.c.study_instance_uid,
        newer.c.generation > studies.c.generation,
    )
    return _held(database, studies.c.reason == Reason.NOT_IN_PLAN, is_newest)


def let_wait_for_quota(connection: sa.Connection, study_id: int, why: str) -> bool:
    """A study that was outside the plan waits for quota from now on; False: it is not held for that any more."""
    changed = connection.execute(
        sa.update(studies)
        .where(studies.c.id == study_id, studies.c.state == StudyState.HELD, studies.c.reason == Reason.NOT_IN_PLAN)
        .values(reason=Reason.OVER_QUOTA)
    )
    if changed.rowcount:
        add_event(connection, study_id, "in_plan", why)
    return bool(changed.rowcount)


def is_held(connection: sa.Connection, study_id: int) -> bool:
    """Nobody changes that until this transaction ends."""
    return connection.scalar(_LOCKED_STATE, {"study": study_id}) == StudyState.HELD


def _held(database: Database, *why: sa.ColumnElement[bool]) -> list[HeldStudy]:
    columns = (studies.c.id, studies.c.clinic, studies.c.study_instance_uid, studies.c.priority)
    with database.read() as connection:
        rows = connection.execute(
            sa.select(*columns)
            .where(studies.c.state == StudyState.HELD, *why)
            .order_by(studies.c.completed_at, studies.c.id)
        ).all()
    return [
        HeldStudy(
            study_id=row.id,
            clinic=row.clinic,
            study_instance_uid=row.study_instance_uid,
            is_stat=row.priority == STAT_PRIORITY,
        )
        for row in rows
    ]


def previous_results(database: Database, study: Study) -> list[tuple[str, str, str]]:
    """(SOP Class UID, SOP Instance UID, Series Instance UID) of what this one replaces: the results of the newest
    generation before it that has some. One that was cancelled has none, and a note is no analysis.
    """
    if study.generation == 1:
        return []
    earlier = (
        studies.c.clinic == study.clinic,
        studies.c.study_instance_uid == study.study_instance_uid,
        studies.c.generation < study.generation,
        ~results.c.is_note,
    )
    newest = sa.select(sa.func.max(studies.c.generation)).select_from(results.join(studies)).where(*earlier)
    with database.read() as connection:
        rows = connection.execute(
            sa.select(results.c.sop_class_uid, results.c.sop_instance_uid, results.c.series_instance_uid)
            .select_from(results.join(studies))
            .where(*earlier, studies.c.generation == newest.scalar_subquery())
            .order_by(results.c.sop_instance_uid)
        ).all()
    return [(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid) for row in rows]


def _change(connection: sa.Connection, study_id: int, **values: object) -> None:
    connection.execute(_CHANGE, {"of": study_id, **values})


def _change_if(connection: sa.Connection, study_id: int, was: StudyState, **values: object) -> bool:
    """Only a study that is in this state; whether it was."""
    return bool(connection.execute(_CHANGE_IF, {"of": study_id, "was": was, **values}).rowcount)
