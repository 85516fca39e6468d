"""Brings to one destination what waits for it: one job at a time for each destination, one association a job.

    look  ->  for each study: send, (write the next form,) record  ->  stay a moment for more, or go: outbox.py

Studies go in the order in which they were completed. Each is recorded, and charged, by itself; a result that was
stored but whose answer was lost is sent again under the same SOP Instance UID with the same bytes: nothing doubles.
What the peer wants later waits by itself. When the association fails, or the results cannot be had from the shared
store, the destination is tried later with all the rest.
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import sqlalchemy as sa

from domain.errors import Away
from scu.store import Answer, SendOutcome
from storage import deliveries, outboxes
from storage.database import utc_now
from workflow.durable import BUG, Durable, Entry
from workflow.next_form import NO_FORM, next_form
from workflow.outbox import go_on, try_later
from workflow.record import record
from workflow.rooms import Rooms
from workflow.sending import Line, Sender, Sent

# Of one association. It bounds how long a job is, and how much of it is read again after a crash.
STUDIES_AT_ONCE = 50
# How long the association stays open for what is about to come, and how often the job looks whether it has.
STAYS_S = 0.3
LOOKS_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """What a job finds to do. `expired`: studies of which something has waited for longer than a destination may be
    away; given up when it does not answer this time either. `is_over`: the job has nothing more to do.
    """

    studies: tuple[int, ...] = ()
    expired: tuple[int, ...] = ()
    has_failed_before: bool = False
    is_over: bool = False


def drain(clinic: str, destination: str, job: int, *, rooms: Rooms, durable: Durable) -> None:
    """Send what is due, as far as the destination takes it; decide when to go on."""
    due = durable.enter("look", Due, look, rooms, clinic, destination, job)
    progress, left = False, STUDIES_AT_ONCE
    try:
        with Sender(rooms, clinic, destination) as sender:
            while not due.is_over:
                has_stored = False
                for study_id in due.studies:
                    sent = durable.enter("record", Sent, send, rooms, sender, study_id, due.has_failed_before)
                    has_stored = has_stored or sent.has_stored
                    progress = progress or has_stored
                    if sent.line is not Line.UP:
                        others = [one for one in due.expired if one != study_id]
                        _give_up_expired(rooms, durable, destination, others, sent.error)
                        later = (rooms, clinic, destination, job, sent.error, progress)
                        durable.transaction("try later", try_later, *later)
                        return
                left -= len(due.studies)
                may_stay = has_stored and left > 0
                due = durable.enter("go on", Due, stay_or_go, rooms, sender, job, left if may_stay else 0)
    except Away as away:
        durable.transaction("try later", try_later, rooms, clinic, destination, job, away.message, progress)


def look(rooms: Rooms, clinic: str, destination: str, job: int) -> Entry[Due]:
    """The list that the job works through, also when it is run again."""

    def enter(connection: sa.Connection) -> Due:
        outbox = outboxes.begin(connection, clinic=clinic, destination=destination, job=job)
        if outbox is None:
            return Due(is_over=True)
        due = _due(connection, rooms, clinic, destination, STUDIES_AT_ONCE)
        return replace(due, has_failed_before=outbox.failures > 0)

    return enter


def stay_or_go(rooms: Rooms, sender: Sender, job: int, left: int) -> Entry[Due]:
    """Where one study was analysed, the next is often about to be: the association waits for it a moment.

    left: how many more may go over it; 0: it is not worth it.
    """
    clinic, destination = sender.clinic, sender.destination
    if left:
        with sender.at_rest():
            _wait_for_more(rooms, clinic, destination)

    def enter(connection: sa.Connection) -> Due:
        if left and outboxes.begin(connection, clinic=clinic, destination=destination, job=job) is not None:
            due = _due(connection, rooms, clinic, destination, left)
            if due.studies:
                return due
        go_on(connection, rooms, clinic, destination, job)
        return Due(is_over=True)

    return enter


def _wait_for_more(rooms: Rooms, clinic: str, destination: str) -> None:
    until = time.monotonic() + STAYS_S
    while time.monotonic() < until:
        with rooms.database.read() as connection:
            due_at = deliveries.next_due(connection, clinic=clinic, destination=destination)
        if due_at is not None and due_at <= utc_now():
            return
        time.sleep(LOOKS_EVERY_S)


def _due(connection: sa.Connection, rooms: Rooms, clinic: str, destination: str, limit: int) -> Due:
    oldest = utc_now() - timedelta(seconds=rooms.delivery.give_up_after_s)
    studies_due = partial(deliveries.studies_due, connection, clinic=clinic, destination=destination, limit=limit)
    return Due(studies=tuple(studies_due()), expired=tuple(studies_due(since_before=oldest)))


def send(rooms: Rooms, sender: Sender, study_id: int, has_failed_before: bool) -> Entry[Sent]:
    """Send what is due of one study, and write its next form where this one is not taken; then that is recorded."""
    sent = sender.send(study_id)
    clinic, destination = sender.clinic, sender.destination
    form = next_form(rooms, clinic, destination, study_id, sent) if sent.is_not_taken else NO_FORM

    def enter(connection: sa.Connection) -> Sent:
        record(connection, rooms, study_id, destination, sent, form, has_failed_before)
        return sent

    return enter


def _give_up_expired(rooms: Rooms, durable: Durable, destination: str, study_ids: list[int], error: str) -> None:
    """Nobody was asked for these, for there is nobody: they are recorded like the one for which was asked."""
    for study_id in study_ids:
        durable.transaction("give up", give_up, rooms, study_id, destination, error)


def give_up(connection: sa.Connection, rooms: Rooms, study_id: int, destination: str, error: str) -> None:
    """Refuse what of this study has waited too long. What is younger only learns why it waits."""
    outcomes = [
        SendOutcome(sop_instance_uid=uid, answer=Answer.RETRY, status=None, detail=error)
        for uid in deliveries.waiting(connection, study_id, destination)
    ]
    record(connection, rooms, study_id, destination, Sent(outcomes=tuple(outcomes), line=Line.FAILED))


def after_bug(connection: sa.Connection, rooms: Rooms, clinic: str, destination: str, job: int) -> None:
    """The first in line may be what the job cannot stand: it stands aside, and the destination is tried later."""
    for study_id in deliveries.studies_due(connection, clinic=clinic, destination=destination, limit=1):
        outcomes = [
            SendOutcome(sop_instance_uid=uid, answer=Answer.RETRY, status=None, detail=BUG)
            for uid in deliveries.waiting(connection, study_id, destination)
        ]
        record(connection, rooms, study_id, destination, Sent(outcomes=tuple(outcomes)))
    try_later(connection, rooms, clinic, destination, job, BUG, False)
