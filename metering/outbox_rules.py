"""What is done next with one row of the billing outbox, as a function of what is known of it.

Stripe keeps a meter event's identifier unique for 24 hours, lets it be cancelled for as long, and puts on an invoice
what came before that invoice was final. So a charge goes

    to the meter           while its invoice can still count it, and it is not older than 30 days
    to the meter again     while an unanswered request is younger than 23 hours: the identifier lets it count once
    to reconciliation      after that: what was counted is asked, nothing is sent blindly
    to an invoice item     when the meter can no longer bring it onto an invoice

and a credit

    nowhere                where its charge was never sent: both are left out
    to the meter           as a cancelled event, within 23 hours, while the invoice can still change
    to an invoice item     of a negative amount, on the next invoice: the invoice it was on is never touched again
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# An hour less than Stripe promises, on each of them, for clocks that disagree and requests that take their time.
IDENTIFIER_WINDOW = CANCEL_WINDOW = timedelta(hours=23)
# An invoice is a draft for an hour after its period.
DRAFT_WINDOW = timedelta(minutes=30)
# How long after the last request for it Stripe has aggregated what it received.
SETTLED_AFTER = timedelta(hours=1)
ALARM_AFTER = timedelta(days=7)
METER_WINDOW = timedelta(days=30)

FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 900.0


class State(StrEnum):
    WAITING = "waiting"  # nothing of it has reached Stripe
    ASKED = "asked"  # a request went out, and its answer has not come
    DONE = "done"


class Route(StrEnum):
    NONE = ""
    METER = "meter"
    CANCEL = "cancel"
    INVOICE_ITEM = "invoice_item"
    LEFT_OUT = "left_out"


class Step(StrEnum):
    WAIT = "wait"
    LEAVE_OUT = "leave_out"
    SEND = "send"
    CANCEL = "cancel"
    RECONCILE = "reconcile"
    INVOICE_ITEM = "invoice_item"
    LOOK_UP_ITEM = "look_up_item"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row, with what of its ledger row, of the charge that it takes back, and of its clinic's account it needs.

    metered_at: the time of the meter event, in the billing period that the ledger counts the study in.
    is_credited: a later row takes it back as a whole. has_own_amount: it is a credit of an amount that a person named.
    first_asked_at: when the first request of its round went out; the earliest at which Stripe can have received it.
    had_fault: Stripe answered a request of this round with a fault of its own, and may have done it.
    closed_until: usage before this moment can no longer come onto an invoice by the meter; None: nothing is closed.
    has_invoices: the clinic has, or had, a subscription at Stripe.
    """

    ledger_id: int
    clinic: str
    is_credit: bool
    metered_at: datetime
    state: State = State.WAITING
    route: Route = Route.NONE
    first_asked_at: datetime | None = None
    is_credited: bool = False
    has_own_amount: bool = False
    had_fault: bool = False
    charge: "Entry | None" = None
    closed_until: datetime | None = None
    has_invoices: bool = True


def next_step(entry: Entry, now: datetime) -> Step:
    """The one thing to do with it now."""
    if entry.state is State.DONE or not entry.has_invoices:
        return Step.WAIT
    if entry.route is Route.INVOICE_ITEM:
        # Of an item nothing but the Idempotency-Key says that it is the same, and after a fault that is of no more use.
        can_repeat = _can_repeat(entry, now) and not (entry.state is State.ASKED and entry.had_fault)
        return Step.INVOICE_ITEM if can_repeat else Step.LOOK_UP_ITEM
    return _step_of_credit(entry, now) if entry.is_credit else _step_of_charge(entry, now)


def _step_of_charge(entry: Entry, now: datetime) -> Step:
    if entry.state is State.ASKED:
        return Step.SEND if _can_repeat(entry, now) and _meter_is_open(entry, now) else Step.RECONCILE
    if entry.is_credited:
        return Step.LEAVE_OUT
    return Step.SEND if _meter_is_open(entry, now) else Step.INVOICE_ITEM


def _step_of_credit(entry: Entry, now: datetime) -> Step:
    charge = entry.charge
    if charge is None or entry.has_own_amount:  # billed before Stripe was; or more, or less, than a count can tell
        return Step.INVOICE_ITEM
    if charge.state is not State.DONE:
        return Step.WAIT
    if charge.route is Route.LEFT_OUT:
        return Step.LEAVE_OUT
    can_cancel = charge.route is Route.METER and _is_young(charge, now) and _meter_is_open(charge, now)
    if entry.state is State.ASKED:
        return Step.CANCEL if can_cancel else Step.RECONCILE
    return Step.CANCEL if can_cancel else Step.INVOICE_ITEM


def _can_repeat(entry: Entry, now: datetime) -> bool:
    return entry.first_asked_at is None or now - entry.first_asked_at < IDENTIFIER_WINDOW


def _is_young(charge: Entry, now: datetime) -> bool:
    return charge.first_asked_at is not None and now - charge.first_asked_at < CANCEL_WINDOW


def _meter_is_open(entry: Entry, now: datetime) -> bool:
    is_invoiced = entry.closed_until is not None and entry.metered_at < entry.closed_until
    return not is_invoiced and now - entry.metered_at < METER_WINDOW


def closed_until(
    *,
    period_begins_at: datetime | None,
    period_ends_at: datetime | None,
    metered_since: datetime | None,
    has_ended: bool,
    now: datetime,
) -> datetime | None:
    """Before which moment Stripe's invoices are final, by what was last known of the subscription's period.

    metered_since: when the metered price was last replaced; Stripe bills what was used before at that moment.
    """
    if has_ended:
        return now
    turns = [one for one in (period_begins_at, period_ends_at) if one is not None and one + DRAFT_WINDOW <= now]
    return max([*turns, *([metered_since] if metered_since is not None else [])], default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """What is known of one clinic's usage in one minute, the finest that Stripe's summaries tell.

    sent: events that Stripe has confirmed, less those whose cancellation it has confirmed. unsure, unsure_cancels:
    requests without an answer. counted: what Stripe says.
    """

    sent: int
    unsure: int
    unsure_cancels: int
    counted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How many of the unsure are missing at Stripe and are to be sent anew, and how many cancellations did not happen.

    Which of them does not matter: what is billed is the count.
    """

    missing: int
    not_cancelled: int
    is_possible: bool


def verdict(minute: Minute) -> Verdict:
    """From the count alone: wanted is every charge less every credit."""
    lacking = minute.sent + minute.unsure - minute.unsure_cancels - minute.counted
    is_possible = -minute.unsure_cancels <= lacking <= minute.unsure
    return Verdict(missing=max(lacking, 0), not_cancelled=max(-lacking, 0), is_possible=is_possible)


def retry_in_s(attempts: int, chance: float) -> float:
    """`chance`: in [0, 1). Between half of the pause and all of it, so that workers do not come all at once."""
    return float(min(FIRST_RETRY_S * 2 ** min(attempts - 1, 20), LONGEST_RETRY_S)) * (0.5 + chance / 2)
