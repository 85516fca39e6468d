"""What becomes of a clinic's subscription here when Stripe says something of it there: the whole of it, as tables.

A refund has no effect on the state: whoever gives money back and wants the service to end cancels it as well. Whatever
the state, what is sent is kept (domain/subscription.py).
"""

from collections.abc import Iterable

from domain.subscription import SubscriptionState

OF_SUBSCRIPTION = {
    "trialing": SubscriptionState.TRIALING,
    "active": SubscriptionState.ACTIVE,
    "past_due": SubscriptionState.PAST_DUE,  # 14 days of grace
    "unpaid": SubscriptionState.UNPAID,
    "incomplete": SubscriptionState.UNPAID,  # the first payment did not go through
    "incomplete_expired": SubscriptionState.CANCELLED,
    "canceled": SubscriptionState.CANCELLED,
    "paused": SubscriptionState.PAUSED,
}
# A dispute takes the money back until it is decided.
OF_DISPUTE = {
    "warning_needs_response": None,
    "warning_under_review": None,
    "warning_closed": None,
    "needs_response": SubscriptionState.PAST_DUE,
    "under_review": SubscriptionState.PAST_DUE,
    "won": None,
    "prevented": None,
    "lost": SubscriptionState.UNPAID,
}
WORST_FIRST = (
    SubscriptionState.CANCELLED,
    SubscriptionState.UNPAID,
    SubscriptionState.PAUSED,
    SubscriptionState.PAST_DUE,
    SubscriptionState.TRIALING,
    SubscriptionState.ACTIVE,
)


def state_of(status: str, *, is_collection_paused: bool, disputes: Iterable[str]) -> SubscriptionState:
    """The worst of what the subscription and its disputes say. A word that is new to us changes nothing: active."""
    said = [OF_SUBSCRIPTION.get(status, SubscriptionState.ACTIVE)]
    if is_collection_paused:
        said.append(SubscriptionState.PAUSED)
    said += [state for dispute in disputes if (state := OF_DISPUTE.get(dispute)) is not None]
    return min(said, key=WORST_FIRST.index)
