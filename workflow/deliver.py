"""Brings a study's results to one destination: one attempt a job, a later attempt is a later job.

    pending results -> one association -> what the peer said to each -> rows, charge and next attempt in one commit

The study is charged here, with the first result of its analysis that any destination has accepted. A result that was
stored but whose answer was lost is sent again under the same SOP Instance UID with the same bytes: nothing doubles.
"""

import random
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from domain.errors import Retry
from metering.ledger import charge
from metering.quota import release
from scu.store import Address, Answer, OutgoingFile, SendOutcome, send_files
from storage import deliveries, studies
from storage.database import utc_now
from storage.deliveries import PendingResult
from storage.events import add_event
from workflow.durable import Durable
from workflow.rooms import Rooms

DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 Annex C


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The outcome for each result of one attempt."""

    outcomes: tuple[SendOutcome, ...]


def deliver(study_id: int, destination: str, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    """One attempt to bring what is still pending to one destination."""
    sent = durable.step("send", Sent, send, rooms, study_id, destination)
    durable.transaction("record", record, rooms, study_id, destination, attempt, sent)


def send(rooms: Rooms, study_id: int, destination_name: str) -> Sent:
    """Send what is pending. A peer that cannot be reached is an outcome, not an error."""
    pending = deliveries.pending_results(rooms.database, study_id, destination_name)
    clinic = deliveries.clinic_of(rooms.database, study_id)
    destination = rooms.destination(clinic, destination_name)
    if destination is None:
        return _all(pending, Answer.REFUSED, f"destination {destination_name} is no longer configured")
    with ExitStack() as lent:
        try:
            files = [_outgoing(rooms, result, lent) for result in pending]
        except OSError as error:
            return _all(pending, Answer.RETRY, f"a result cannot be read: {error.strerror}")
        try:
            outcomes = send_files(
                files,
                Address(ae_title=destination.ae_title, host=destination.host, port=destination.port),
                calling_ae_title=rooms.ae_title,
                timeout_s=rooms.delivery.timeout_s,
            )
        except Retry as error:
            return _all(pending, Answer.RETRY, error.message)
    return Sent(outcomes=tuple(map(_already_there, outcomes)))


def record(connection: sa.Connection, rooms: Rooms, study_id: int, destination: str, attempt: int, sent: Sent) -> None:
    """Enter what the peer said; charge at the first accepted result; put the next attempt while any is pending."""
    gave_up = deliveries.age_s(connection, study_id, destination) > rooms.delivery.give_up_after_s
    for outcome in sent.outcomes:
        answer = Answer.REFUSED if outcome.answer is Answer.RETRY and gave_up else outcome.answer
        deliveries.record_outcome(
            connection,
            sop_instance_uid=outcome.sop_instance_uid,
            destination=destination,
            state=deliveries.STATE_AFTER[answer],
            status=outcome.status,
            detail=outcome.detail,
        )
    waiting = [outcome for outcome in sent.outcomes if outcome.answer is Answer.RETRY]
    add_event(connection, study_id, "delivery", _summary(destination, attempt, sent))
    _charge_if_first(connection, study_id, destination, sent)
    if waiting and not gave_up:
        try_later(connection, rooms, study_id, destination, attempt)
    if studies.finish_study(connection, study_id):
        # Charged by now, or never: a study that no destination took leaves its quota to others.
        clinic, study_instance_uid = studies.name_of(connection, study_id)
        release(connection, clinic=clinic, study_instance_uid=study_instance_uid)


def try_later(connection: sa.Connection, rooms: Rooms, study_id: int, destination: str, attempt: int) -> None:
    """Put the next attempt, after a wait that grows with the attempts."""
    rooms.jobs.put_delivery(
        connection,
        study_id=study_id,
        destination=destination,
        attempt=attempt + 1,
        delay_s=rooms.delivery.delay_s(attempt, chance=random.random()),  # noqa: S311  # nobody gains by guessing it
    )


def _already_there(outcome: SendOutcome) -> SendOutcome:
    """A result's SOP Instance UID stands for the same bytes always: a peer that has it already has our result."""
    if outcome.status == DUPLICATE_SOP_INSTANCE:
        return replace(outcome, answer=Answer.STORED, detail="the peer has it already")
    return outcome


def _charge_if_first(connection: sa.Connection, study_id: int, destination: str, sent: Sent) -> None:
    accepted = {outcome.sop_instance_uid for outcome in sent.outcomes if outcome.answer is Answer.STORED}
    chargeable = deliveries.chargeable_study(connection, study_id, accepted)
    if chargeable is None:
        return
    charged = charge(
        connection,
        clinic=chargeable.clinic,
        study_instance_uid=chargeable.study_instance_uid,
        study_id=study_id,
        packages=chargeable.packages,
        result_sop_instance_uid=chargeable.result_sop_instance_uid,
        destination=destination,
        now=utc_now(),
    )
    if charged:
        add_event(connection, study_id, "charged", f"first result accepted by {destination}")


def _outgoing(rooms: Rooms, result: PendingResult, lent: ExitStack) -> OutgoingFile:
    """The result's plain text, on a disk or in memory, as long as `lent` is open."""
    descriptor = lent.enter_context(rooms.results.lend(result.sop_instance_uid))
    return OutgoingFile(
        path=Path(f"/proc/self/fd/{descriptor}"),
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        transfer_syntax_uid=result.transfer_syntax_uid,
    )


def _all(pending: list[PendingResult], answer: Answer, detail: str) -> Sent:
    return Sent(
        outcomes=tuple(
            SendOutcome(sop_instance_uid=result.sop_instance_uid, answer=answer, status=None, detail=detail)
            for result in pending
        )
    )


def _summary(destination: str, attempt: int, sent: Sent) -> str:
    counts = {answer: sum(o.answer is answer for o in sent.outcomes) for answer in Answer}
    said = ", ".join(f"{count} {answer}" for answer, count in counts.items() if count) or "nothing was pending"
    details = "; ".join(dict.fromkeys(o.detail for o in sent.outcomes if o.detail))
    return f"attempt {attempt} to {destination}: {said}" + (f" ({details})" if details else "")
