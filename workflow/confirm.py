"""Has the destinations that are to commit to what they stored do so, and sends again what they have lost.

    stored  ->  row  ->  file  ->  N-ACTION  ->  ...  ->  N-EVENT-REPORT  ->  row  ->  its results are told
                                                            └── the receiver, or the association that asked

It runs beside delivery, not in it: a PACS that takes its time to commit must not hold up the results of other studies.
Whatever dies on the way leaves a row with a time at which it ends; what it asked for is then asked for anew, under
another Transaction UID, until `delivery.give_up_after_s` is over.

The other way round, where callers ask the node, is workflow/commitment.py.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
import structlog

from domain.clinics import Destination
from domain.commitment import Reference
from domain.errors import CollimatorError
from domain.states import DeliveryState
from scu.confirmation import request_commitment
from scu.store import address_of
from storage import outboxes, studies
from storage.database import utc_now
from storage.events import add_event
from storage.periodic import Periodic
from storage.requests import confirmations
from storage.requests.confirmation_folder import Asked, ConfirmationFolder
from storage.requests.confirmations import Confirmation, Owed
from storage.retention import forget_confirmations
from workflow.finish import finish
from workflow.outbox import delay_s
from workflow.rooms import Rooms

log = structlog.get_logger()

POLL_S = 2.0
CARE_EVERY = 1800  # polls: an hour
# Destinations that are away keep their thread until they time out; the others are asked meanwhile.
DESTINATIONS_AT_ONCE = 8
# Longer than one N-ACTION can take: connection, association, answer, release, each with its timeout.
TAKEN_FOR_TIMEOUTS = 6
REPORT_WITHIN_S = 5.0

# Is told of a report on the association that asked: clinic, destination, Event Type ID, Event Information, its transfer
# syntax. Says with which Status it is answered.
TakeReport = Callable[[str, Destination, int | None, bytes, str], int]


class Confirmations:
    """Part of each worker; several workers share the work.

    take_report: the door through which reports come in, the receiver's own (scp/confirmation.py).
    """

    def __init__(self, rooms: Rooms, folder: ConfirmationFolder, *, take_report: TakeReport) -> None:
        self._rooms = rooms
        self._folder = folder
        self._take_report = take_report
        self._polls = 0
        self._asking = Periodic("confirmations_asked", self.ask_all, period_s=POLL_S)
        self._settling = Periodic("confirmations_settled", self.settle_all, period_s=POLL_S)

    def start(self) -> None:
        self._asking.start()
        self._settling.start()

    def stop(self) -> None:
        self._asking.stop()
        self._settling.stop()

    def ask_all(self) -> None:
        """Ask every destination to commit to what it has stored since it was asked last."""
        owing = confirmations.owing(self._rooms.database)
        if owing:
            with ThreadPoolExecutor(DESTINATIONS_AT_ONCE, thread_name_prefix="ask") as pool:
                list(pool.map(lambda who: self.ask(*who), owing))

    def settle_all(self) -> None:
        """Bring in what was reported here, and do what follows; now and then, forget what ended long ago."""
        confirmations.record_reports(self._rooms.database, self._folder)
        for confirmation_id in confirmations.due(self._rooms.database):
            with self._rooms.database.write() as connection:
                settle(connection, self._rooms, confirmation_id)
        if self._polls % CARE_EVERY == 0:
            self._folder.forget_old()
            forget_confirmations(self._rooms.database)
        self._polls += 1

    def ask(self, clinic: str, destination_name: str) -> None:
        """Ask one destination. One that is not to be asked any more has stored it, and that is all."""
        if not self._rooms.asks_commitment(clinic, destination_name):
            with self._rooms.database.write() as connection:
                close_unasked(connection, self._rooms, clinic, destination_name)
            return
        begun = confirmations.begin(
            self._rooms.database,
            clinic=clinic,
            destination=destination_name,
            taken_for_s=TAKEN_FOR_TIMEOUTS * self._rooms.delivery.timeout_s + REPORT_WITHIN_S,
        )
        if begun is not None:
            self._send(*begun)

    def _send(self, confirmation: Confirmation, references: Sequence[Reference]) -> None:
        clinic, name = confirmation.clinic, confirmation.destination
        destination = self._rooms.destination(clinic, name)
        assert destination is not None
        try:
            self._folder.remember(confirmation.transaction_uid, Asked(clinic=clinic, destination=name))
            request_commitment(
                confirmation.transaction_uid,
                references,
                address_of(destination, self._rooms.tls_files),
                calling_ae_title=self._rooms.ae_title,
                timeout_s=self._rooms.delivery.timeout_s,
                on_report=partial(self._take_report, clinic, destination),
                report_within_s=REPORT_WITHIN_S,
            )
        except (CollimatorError, OSError) as error:
            why = error.message if isinstance(error, CollimatorError) else error.strerror or type(error).__name__
            wait_s = delay_s(self._rooms, confirmation.failures + 1)
            failures = confirmations.record_not_asked(self._rooms.database, confirmation, why, delay_s=wait_s)
            log.warning(
                "commitment_not_asked", clinic=clinic, where=name, count=failures, delay_s=round(wait_s, 1), error=why
            )
            return
        confirmations.record_asked(self._rooms.database, confirmation, wait_s=self._rooms.delivery.commitment_wait_s)
        log.info("commitment_asked", clinic=clinic, where=name, count=len(references))


def settle(connection: sa.Connection, rooms: Rooms, confirmation_id: int) -> None:
    """A report has come, or none will: every result that waits for it learns what becomes of it."""
    confirmation = confirmations.lock_due(connection, confirmation_id)
    if confirmation is None:
        return
    is_waited_for = is_sent_again = False
    for study_id in confirmations.studies_of(connection, confirmation):
        studies.lock(connection, study_id)
        owed = confirmations.owed(connection, confirmation, study_id)
        if confirmation.report is None:
            _unanswered(connection, rooms, confirmation, study_id, owed)
        else:
            committed = [one for one in owed if _is_committed(confirmation, one)]
            lost = [one for one in owed if one not in committed and one.is_asked_for and _failure(confirmation, one)]
            _committed(connection, confirmation, study_id, committed)
            is_sent_again |= _lost(connection, rooms, confirmation, study_id, lost)
            is_waited_for |= any(one.is_asked_for and one not in committed and one not in lost for one in owed)
        finish(connection, study_id)
    confirmations.end(connection, confirmation, is_waited_for=is_waited_for)
    if is_sent_again:
        outboxes.wake(connection, rooms.jobs, clinic=confirmation.clinic, destination=confirmation.destination)


def close_unasked(connection: sa.Connection, rooms: Rooms, clinic: str, destination: str) -> None:
    """The configuration says no more that this destination is to commit: what it stored is delivered."""
    for study_id in confirmations.no_longer_asked(connection, clinic=clinic, destination=destination):
        add_event(connection, study_id, "delivery", f"{destination} is not asked to commit any more")
        finish(connection, study_id)


def _is_committed(confirmation: Confirmation, owed: Owed) -> bool:
    """A late report counts for what was not stored anew since it was asked for."""
    assert confirmation.report is not None
    return confirmation.report.has_committed(owed.reference) and (owed.is_asked_for or owed.is_older)


def _failure(confirmation: Confirmation, owed: Owed) -> str | None:
    assert confirmation.report is not None
    return confirmation.report.failure(owed.reference.sop_instance_uid)


def _committed(connection: sa.Connection, confirmation: Confirmation, study_id: int, owed: Sequence[Owed]) -> None:
    if not owed:
        return
    confirmations.settle(connection, owed, DeliveryState.COMMITTED)
    said = f"by {confirmation.destination}: {_results(owed)} (transaction {confirmation.transaction_uid})"
    add_event(connection, study_id, "committed", said)


def _lost(
    connection: sa.Connection, rooms: Rooms, confirmation: Confirmation, study_id: int, owed: Sequence[Owed]
) -> bool:
    """The destination says that it does not hold these. Whether any is sent again."""
    if not owed:
        return False
    over = [one for one in owed if rooms.delivery.is_over(one.since)]
    again = [one for one in owed if one not in over]
    for one in over:
        why = f"stored, but not kept: {_failure(confirmation, one)}"
        confirmations.settle(connection, [one], DeliveryState.UNCOMMITTED, why=why)
    for one in again:
        why = f"stored, but not kept: {_failure(confirmation, one)}"
        due_at = utc_now() + timedelta(seconds=delay_s(rooms, one.attempts))
        confirmations.settle(connection, [one], DeliveryState.PENDING, why=why, due_at=due_at)
    reasons = "; ".join(dict.fromkeys(str(_failure(confirmation, one)) for one in owed))
    _say(connection, confirmation, study_id, again, f"{reasons}; sent again")
    _say(connection, confirmation, study_id, over, f"{reasons}; given up")
    log.warning(
        "result_not_kept", clinic=confirmation.clinic, where=confirmation.destination, count=len(owed), error=reasons
    )
    return bool(again)


def _unanswered(
    connection: sa.Connection, rooms: Rooms, confirmation: Confirmation, study_id: int, owed: Sequence[Owed]
) -> None:
    """The destination could not be asked, or has not reported: these are asked for anew, or given up."""
    why = confirmation.last_error or "there was no report in time"
    over = [one for one in owed if rooms.delivery.is_over(one.since)]
    again = [one for one in owed if one not in over]
    confirmations.settle(connection, over, DeliveryState.UNCOMMITTED, why=f"stored, but never committed to: {why}")
    confirmations.settle(connection, again, DeliveryState.STORED, why=why)
    if not confirmation.failures:  # the history has it from the first failure
        _say(connection, confirmation, study_id, again, f"{why}; asked again")
    _say(connection, confirmation, study_id, over, f"{why}; given up")
    log.warning("commitment_unanswered", clinic=confirmation.clinic, where=confirmation.destination, error=why)


def _say(connection: sa.Connection, confirmation: Confirmation, study_id: int, owed: Sequence[Owed], what: str) -> None:
    if owed:
        said = f"by {confirmation.destination}: {_results(owed)} (transaction {confirmation.transaction_uid}): {what}"
        add_event(connection, study_id, "not_committed", said)


def _results(owed: Sequence[Owed]) -> str:
    return "1 result" if len(owed) == 1 else f"{len(owed)} results"
