"""Takes back what was sent of a study: a rejection note for each destination, delivered like any result.

    metering/care.py: send nothing more  ->  write: what has each destination?  ->  hand over to deliver.py

The note names the results that the destination has, and is made from them: they hold the patient's identity, also when
the images are gone. What a destination answers to it stands in the study's history. Where it does not take the note,
or does nothing about it, the results stay until somebody removes them there.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import NoneType

import sqlalchemy as sa
import structlog

from domain.care import Rejection
from domain.errors import Away, Refuse
from domain.states import StudyState
from domain.study import Instance, InstanceFacts, Study
from reports.request import ReportRequest
from reports.write import write_rejection
from storage import deliveries, outboxes, studies
from storage.deliveries import ResultReference
from storage.events import add_event, has_event
from storage.jobs import withdrawn_by
from storage.studies import ResultRow
from storage.study_keys import study_name
from storage.tables import studies as study_rows
from workflow.durable import BUG, Durable, Entry
from workflow.engine import MAXIMUM_RUNS
from workflow.results import keep
from workflow.rooms import Rooms

log = structlog.get_logger()

AWAY_DELAY_S = 30.0
NOT_WITHDRAWN = "not_withdrawn"
REJECTION = "rejection"  # instead of a profile


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    row: ResultRow
    destinations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notes:
    notes: tuple[Note, ...]


def withdraw_study(study_id: int, *, rooms: Rooms, durable: Durable) -> None:
    """Write the notes and send them on their way."""
    try:
        durable.enter("hand over", NoneType, write_and_hand_over, rooms, study_id)
    except Refuse as refusal:
        durable.transaction("put aside", say_why_not, study_id, refusal.message)
    except Away:
        durable.transaction("later", write_later, rooms, study_id)


def write_and_hand_over(rooms: Rooms, study_id: int) -> Entry[None]:
    notes = write_notes(rooms, study_id)
    return lambda connection: hand_over(connection, rooms, study_id, notes)


def write_notes(rooms: Rooms, study_id: int) -> Notes:
    """Destinations that have the same results get the same note."""
    with rooms.database.read() as connection:
        row = connection.execute(sa.select(study_rows).where(study_rows.c.id == study_id)).one()
        held = deliveries.held_at(connection, row.clinic, row.study_instance_uid)
    if row.state != StudyState.WITHDRAWN:
        raise Refuse("the study is not withdrawn any more", reason="wrong_state")
    return Notes(
        notes=tuple(
            Note(row=_write_note(rooms, row, named), destinations=tuple(name for name in held if held[name] == named))
            for named in dict.fromkeys(held.values())
        )
    )


def hand_over(connection: sa.Connection, rooms: Rooms, study_id: int, notes: Notes) -> None:
    clinic, _ = studies.name_of(connection, study_id)
    for note in notes.notes:
        studies.save_results(connection, study_id, [note.row], {REJECTION: note.destinations})
    for destination in sorted({name for note in notes.notes for name in note.destinations}):
        outboxes.wake(connection, rooms.jobs, clinic=clinic, destination=destination)


def say_why_not(connection: sa.Connection, study_id: int, why: str) -> None:
    log.error("not_withdrawn", study_id=study_id, error=why)
    said = f"no rejection note could be written: {why}. Remove the results at each destination by hand"
    add_event(connection, study_id, NOT_WITHDRAWN, said)


def write_later(connection: sa.Connection, rooms: Rooms, study_id: int) -> None:
    rooms.jobs.put_withdrawal(connection, study_id=study_id, delay_s=AWAY_DELAY_S)


def after_withdrawal_bug(connection: sa.Connection, study_id: int) -> None:
    say_why_not(connection, study_id, BUG)


def tell_abandoned(rooms: Rooms, abandoned: Collection[str]) -> None:
    """Nobody must think that results were taken back of which the job is among the abandoned ones."""
    for study_id in filter(None, map(withdrawn_by, abandoned)):
        with rooms.database.write() as connection:
            studies.lock(connection, study_id)
            if not has_event(connection, study_id, NOT_WITHDRAWN):
                say_why_not(connection, study_id, f"that took the worker down {MAXIMUM_RUNS} times")


def _write_note(rooms: Rooms, row: sa.Row[tuple[object, ...]], named: tuple[ResultReference, ...]) -> ResultRow:
    request = ReportRequest(
        study=Study(
            clinic=row.clinic,
            study_instance_uid=row.study_instance_uid,
            generation=row.generation,
            calling_ae_title=row.calling_ae_title,
            completed_at=row.finished_at.replace(microsecond=0),
            completion_reason=row.completion_reason,
            instances=tuple(_instances(named)),
        ),
        node=rooms.node,
        rejection=Rejection(row.reason),
    )
    written = write_rejection(request, open_file=rooms.results.open)
    name = study_name(row.clinic, row.study_instance_uid)
    return keep(rooms, written, study=name, profile=REJECTION, is_note=True)


def _instances(named: tuple[ResultReference, ...]) -> Iterator[Instance]:
    """The results as the instances of a study; ResultFolder opens them by their UID."""
    for result in named:
        yield Instance(
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            series_instance_uid=result.series_instance_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
            path=result.sop_instance_uid,
            facts=InstanceFacts(),
        )
