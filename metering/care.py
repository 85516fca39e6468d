"""Does what a person asks for a study (domain/care.py): its rows, its quota and its jobs in one transaction.

    the newest generation  ->  what is to be done in its state?  ->  rows, an event with who asked  ->  quota  ->  jobs

It is in this room because none of it may be done without the quota, and because the portal must not reach the rooms
that analyse.
"""

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from domain.care import SPOKEN, Action, Done, Rejection, Verb, action_for
from domain.errors import Refuse
from domain.plans import Tier
from domain.queueing import StatRules
from metering.quota import release, reserve, why_none
from storage import asked, outboxes, studies
from storage.asked import Generation
from storage.database import Database, utc_now
from storage.jobs import JobQueue
from storage.queueing import queue_study


class Care:
    """tiers: the configured clinics' plans; a clinic that is no longer among them gets no new work."""

    def __init__(self, database: Database, jobs: JobQueue, *, tiers: Mapping[str, Tier], stat: StatRules) -> None:
        self._database = database
        self._jobs = jobs
        self._tiers = tiers
        self._stat = stat

    def ask(
        self,
        verb: Verb,
        study_instance_uid: str,
        *,
        clinics: Collection[str] | None,
        asked_by: str,
        rejection: Rejection = Rejection.SAFETY,
    ) -> Done:
        """Do it. `asked_by` is what the history says of who asked, and perhaps why; `clinics` are those that may be
        seen (None: all). `rejection`: what PACS are told of results that are withdrawn.

        Raises:
            Refuse: there is no such study, or this cannot be done with it now; nothing was changed.
        """
        with self._database.write() as connection:
            study = asked.lock_newest(connection, study_instance_uid, clinics)
            action = action_for(verb, study.state, study.reason)
            if action is not Action.NOTHING:
                self._act(connection, action, study, f"asked for {asked_by}", rejection)
            after = asked.lock_newest(connection, study_instance_uid, {study.clinic})
        return Done(
            clinic=after.clinic,
            study_instance_uid=after.study_instance_uid,
            generation=after.generation,
            state=after.state,
            is_changed=action is not Action.NOTHING,
        )

    def _act(
        self, connection: sa.Connection, action: Action, study: Generation, said: str, rejection: Rejection
    ) -> None:
        if action in (Action.CANCEL, Action.WITHDRAW):
            self._end(connection, action, study, said, rejection)
            return
        if action is Action.WITHDRAW_AGAIN:
            self._withdraw_again(connection, study, said)
            return
        asked.require_images(connection, study)
        if action is Action.QUEUE:
            studies.requeue(connection, study.study_id, said)
            self._queue(connection, study.clinic, study.study_id)
        elif action is Action.OPEN_GENERATION:
            self._queue(connection, study.clinic, asked.open_generation(connection, study, said))
        else:
            self._send(connection, study, said)

    def _end(
        self, connection: sa.Connection, action: Action, study: Generation, said: str, rejection: Rejection
    ) -> None:
        """What was charged stays charged; what was only reserved is given back."""
        if action is Action.CANCEL:
            asked.cancel(connection, study, said)
        else:
            asked.withdraw(connection, study, rejection, f"{SPOKEN[rejection]}, {said}")
            self._jobs.put_withdrawal(connection, study_id=study.study_id)
        release(connection, clinic=study.clinic, study_instance_uid=study.study_instance_uid)

    def _withdraw_again(self, connection: sa.Connection, study: Generation, said: str) -> None:
        notes = asked.send_notes_again(connection, study, said)
        for destination in notes.refused_by:
            outboxes.wake(connection, self._jobs, clinic=study.clinic, destination=destination)
        if not notes.are_there:
            self._jobs.put_withdrawal(connection, study_id=study.study_id)

    def _queue(self, connection: sa.Connection, clinic: str, study_id: int) -> None:
        """Its quota is taken by the job, which puts it aside again where there is none."""
        if clinic not in self._tiers:
            raise Refuse(
                f"clinic {clinic!r} is no longer in the configuration",
                reason="unknown_clinic",
                hint="put it back, even without callers",
            )
        queue_study(connection, self._jobs, study_id=study_id, clinic=clinic, tier=self._tiers[clinic], stat=self._stat)

    def _send(self, connection: sa.Connection, study: Generation, said: str) -> None:
        """It is charged when a destination takes a result after all; the quota for that was given back."""
        now = utc_now()
        if not reserve(connection, clinic=study.clinic, study_instance_uid=study.study_instance_uid, now=now):
            none = why_none(connection, clinic=study.clinic, now=now)
            raise Refuse(none.message, reason=none.reason, hint="try again when there is quota")
        for destination in asked.send_again(connection, study, said):
            outboxes.wake(connection, self._jobs, clinic=study.clinic, destination=destination)
