"""Lets studies in that the clinic's plan had no model for, once it has one: they wait for quota like all others.

    held: not_in_plan  ->  which models are for it?  ->  are all of them in the plan now?  ->  held: over_quota
                                                                                                   └──>  recovery.py

It does not matter what made the plan grow: the configuration, a person, or what the clinic has bought at Stripe. Which
models are for a study is decided anew, once for each study: a plan changes while a worker runs, its rules do not.
"""

from collections.abc import Sequence

from domain.routing import decide
from metering.entitlements import with_entitlements
from metering.subscriptions import subscription_at
from storage import studies
from storage.clinic_lock import lock_clinic
from storage.database import utc_now
from storage.studies import HeldStudy, read_study
from workflow.rooms import Rooms

# In one round: whoever has thousands waiting gets them in turn, and the worker shows itself between two rounds.
AT_ONCE = 200


class GrownPlans:
    """`_wanted`: the models that are for each study that is outside its plan, as far as that was decided already."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._wanted: dict[int, frozenset[str]] = {}

    def let_in(self) -> int:
        """The oldest first, AT_ONCE at most; how many they were."""
        configured = {clinic.name for clinic in self._rooms.clinics}
        outside = [one for one in studies.held_outside_plan(self._rooms.database) if one.clinic in configured]
        self._decide(outside)
        plans = {clinic: self._open_to(clinic) for clinic in {one.clinic for one in outside}}
        fitting = [one for one in outside if self._fits(one, plans[one.clinic])]
        return sum(self._let_in(one) for one in fitting[:AT_ONCE])

    def _decide(self, outside: Sequence[HeldStudy]) -> None:
        """AT_ONCE more of them; what is no longer outside is forgotten."""
        known = {one.study_id: self._wanted[one.study_id] for one in outside if one.study_id in self._wanted}
        for one in [one for one in outside if one.study_id not in known][:AT_ONCE]:
            study = read_study(self._rooms.database, self._rooms.spool, one.study_id)
            known[one.study_id] = frozenset(decide(study, self._rooms.rulebook).packages)
        self._wanted = known

    def _open_to(self, clinic: str) -> frozenset[str]:
        """The models that new studies of the clinic get now; none where its subscription takes no work."""
        now = utc_now()
        with self._rooms.database.read() as connection:
            subscription = subscription_at(connection, clinic=clinic, moment=now)
            if not subscription.takes_work(now):
                return frozenset()
            return with_entitlements(connection, subscription.plan, clinic=clinic).packages

    def _fits(self, held: HeldStudy, packages: frozenset[str]) -> bool:
        wanted = self._wanted.get(held.study_id, frozenset())
        return bool(wanted) and wanted <= packages

    def _let_in(self, held: HeldStudy) -> bool:
        models = " and ".join(sorted(package.replace("_", " ") for package in self._wanted[held.study_id]))
        with self._rooms.database.write() as connection:
            lock_clinic(connection, held.clinic)  # as everywhere, before the study's row
            return studies.let_wait_for_quota(connection, held.study_id, f"the plan includes the {models} model now")
