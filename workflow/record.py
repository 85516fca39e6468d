"""What a destination said to the results of one study, in rows: deliveries, charge, the form that stands for another.

The study is charged here, with the first result of its analysis that any destination has accepted.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from domain.states import DeliveryState
from metering.ledger import ChargedModel, charge
from reports.write import EXTRAS, KINDS_OF_A_REJECTION
from scu.store import Answer, SendOutcome
from storage import deliveries, studies
from storage.database import utc_now
from storage.deliveries import Waiting
from storage.events import add_event
from workflow.finish import finish
from workflow.next_form import NO_FORM, Form
from workflow.outbox import delay_s
from workflow.rooms import Rooms
from workflow.sending import Line, Sent


def record(
    connection: sa.Connection,
    rooms: Rooms,
    study_id: int,
    destination: str,
    sent: Sent,
    form: Form = NO_FORM,
    has_failed_before: bool = False,
) -> None:
    """Enter what the peer said, charge at the first accepted result, and close the study when nothing is left.

    form: what stands for the results of which the peer does not take the SOP class.
    has_failed_before: the association before this one had failed as well.
    """
    studies.lock(connection, study_id)
    waiting = deliveries.waiting(connection, study_id, destination)
    clinic, _ = studies.name_of(connection, study_id)
    stored = DeliveryState.STORED if rooms.asks_commitment(clinic, destination) else DeliveryState.DELIVERED
    told = [outcome for outcome in sent.outcomes if outcome.sop_instance_uid in waiting]
    for outcome in told:
        result = waiting[outcome.sop_instance_uid]
        state = _state(rooms, outcome, result, form, stored)
        is_pending = state is DeliveryState.PENDING
        deliveries.record_outcome(
            connection,
            sop_instance_uid=outcome.sop_instance_uid,
            destination=destination,
            state=state,
            status=outcome.status,
            detail=outcome.detail,
            due_at=_due_at(rooms, outcome, result, sent, has_failed_before) if is_pending else None,
        )
        _say_what_stays(connection, study_id, destination, result, state)
    if told:
        attempt = 1 + max(waiting[outcome.sop_instance_uid].attempts for outcome in told)
        add_event(connection, study_id, "delivery", _summary(destination, attempt, sent))
    if form.name and told:  # not of what was withdrawn meanwhile
        takers = {form.name: [destination]}
        studies.save_results(connection, study_id, form.rows, takers)
        add_event(connection, study_id, "fell back", f"{destination} gets the form {form.name}: {form.why}")
    _charge_if_first(connection, study_id, destination, sent)
    finish(connection, study_id)


def _due_at(
    rooms: Rooms, outcome: SendOutcome, result: Waiting, sent: Sent, has_failed_before: bool
) -> datetime | None:
    """When a result that has trouble of its own is tried again; it waits by itself, and the others go on.

    A PACS that is restarted cuts off whatever is on its way; only what is cut off again is suspected.
    """
    is_suspected = has_failed_before or result.due_at is not None
    is_cut_off = outcome.sop_instance_uid == sent.choked_on and is_suspected
    if sent.line is Line.UP or outcome.status is not None or is_cut_off:
        return utc_now() + timedelta(seconds=delay_s(rooms, result.attempts + 1))
    return result.due_at


def _say_what_stays(
    connection: sa.Connection, study_id: int, destination: str, result: Waiting, state: DeliveryState
) -> None:
    if result.kind in KINDS_OF_A_REJECTION and state is DeliveryState.REFUSED:
        said = f"{destination} did not take the rejection note: remove the results there by hand"
        add_event(connection, study_id, "not_withdrawn", said)


def _state(rooms: Rooms, outcome: SendOutcome, result: Waiting, form: Form, stored: DeliveryState) -> DeliveryState:
    if outcome.answer is Answer.RETRY and rooms.delivery.is_over(result.since):
        return DeliveryState.REFUSED
    if outcome.answer is Answer.NOT_TAKEN and not result.is_note and (form.name or result.kind in EXTRAS):
        return DeliveryState.REPLACED
    return stored if outcome.answer is Answer.STORED else deliveries.STATE_AFTER[outcome.answer]


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
        models=[
            ChargedModel(package=model.package, version=model.version, device_uid=model.device_uid)
            for model in chargeable.models
        ],
        result_sop_instance_uid=chargeable.result_sop_instance_uid,
        result_sop_instance_uids=chargeable.result_sop_instance_uids,
        destination=destination,
        now=utc_now(),
    )
    if charged:
        add_event(connection, study_id, "charged", f"first result accepted by {destination}")


def _summary(destination: str, attempt: int, sent: Sent) -> str:
    counts = {answer: sum(o.answer is answer for o in sent.outcomes) for answer in Answer}
    said = ", ".join(f"{count} {answer.replace('_', ' ')}" for answer, count in counts.items() if count)
    details = "; ".join(dict.fromkeys(o.detail for o in sent.outcomes if o.detail))
    return f"attempt {attempt} to {destination}: {said}" + (f" ({details})" if details else "")
