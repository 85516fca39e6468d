"""What a clinic's subscription was at any moment, and what each of its states means for new work.

Whatever the state, a C-STORE is answered as ever and the study is kept. What waits is analysed by itself once the state
allows it. What was charged before is finished and revised in every state.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.billing import Payer
from domain.plans import Plan

# How long a clinic that is late with its payment is served.
PAST_DUE_GRACE = timedelta(days=14)


class SubscriptionState(StrEnum):
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    PAUSED = "paused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """takes_work: new studies are analysed; otherwise they are kept and wait. is_paid: its time is paid for."""

    takes_work: bool
    is_paid: bool
    meaning: str


EFFECTS = {
    SubscriptionState.TRIALING: Effect(takes_work=True, is_paid=False, meaning="tries the plan; nothing is owed"),
    SubscriptionState.ACTIVE: Effect(takes_work=True, is_paid=True, meaning="as agreed"),
    SubscriptionState.PAST_DUE: Effect(
        takes_work=True, is_paid=True, meaning="a payment is late; unpaid after 14 days of it"
    ),
    SubscriptionState.UNPAID: Effect(takes_work=False, is_paid=False, meaning="a payment did not come"),
    SubscriptionState.PAUSED: Effect(takes_work=False, is_paid=False, meaning="stopped for a time"),
    SubscriptionState.CANCELLED: Effect(takes_work=False, is_paid=False, meaning="ended"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """One stretch of time in which nothing about it was changed by anybody. `ends_at` None: it goes on.

    state_since: when it came into this state, also where its plan was changed since then.
    payer: who is asked for it; None: that was not said, and may be anybody.
    """

    clinic: str
    plan: Plan
    state: SubscriptionState
    state_since: datetime
    begins_at: datetime
    ends_at: datetime | None = None
    trial_ends_at: datetime | None = None
    payer: Payer | None = None

    def is_paid_by(self, payer: Payer) -> bool:
        return self.payer in (None, payer)

    @property
    def turns_at(self) -> datetime | None:
        """When time alone changes its state: a trial ends, and so does patience."""
        if self.state is SubscriptionState.TRIALING:
            return self.trial_ends_at
        return self.state_since + PAST_DUE_GRACE if self.state is SubscriptionState.PAST_DUE else None

    def state_at(self, moment: datetime) -> SubscriptionState:
        if self.turns_at is None or moment < self.turns_at:
            return self.state
        return SubscriptionState.ACTIVE if self.state is SubscriptionState.TRIALING else SubscriptionState.UNPAID

    def takes_work(self, moment: datetime) -> bool:
        return EFFECTS[self.state_at(moment)].takes_work
