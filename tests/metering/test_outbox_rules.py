"""What is done next with a ledger row that Stripe has to learn of: the whole of it, row by row."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.outbox_rules import Entry, Minute, Route, State, Step, closed_until, next_step, retry_in_s, verdict

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


def charge(
    *,
    state: State = State.WAITING,
    route: Route = Route.NONE,
    age: timedelta = AN_HOUR,
    asked: timedelta | None = None,
    is_credited: bool = False,
    closed: timedelta | None = None,
    has_invoices: bool = True,
    had_fault: bool = False,
) -> Entry:
    """age, asked, closed: so long ago."""
    return Entry(
        ledger_id=1,
        clinic="st-mary",
        is_credit=False,
        metered_at=NOW - age,
        state=state,
        route=route,
        first_asked_at=None if asked is None else NOW - asked,
        is_credited=is_credited,
        closed_until=None if closed is None else NOW - closed,
        has_invoices=has_invoices,
        had_fault=had_fault,
    )


def credit(
    of: Entry | None,
    *,
    state: State = State.WAITING,
    route: Route = Route.NONE,
    asked: timedelta | None = None,
    has_own_amount: bool = False,
) -> Entry:
    return Entry(
        ledger_id=2,
        clinic="st-mary",
        is_credit=True,
        metered_at=NOW,
        state=state,
        route=route,
        first_asked_at=None if asked is None else NOW - asked,
        charge=of,
        has_own_amount=has_own_amount,
    )


def sent(asked: timedelta, *, closed: timedelta | None = None) -> Entry:
    return charge(state=State.DONE, route=Route.METER, asked=asked, age=asked, closed=closed)


ASKED, DONE = State.ASKED, State.DONE
METER, CANCEL, ITEM, LEFT_OUT = Route.METER, Route.CANCEL, Route.INVOICE_ITEM, Route.LEFT_OUT


@pytest.mark.parametrize(
    ("entry", "step"),
    [
        pytest.param(charge(), Step.SEND, id="a charge goes to the meter"),
        pytest.param(charge(has_invoices=False), Step.WAIT, id="and waits while there is no subscription to bill it"),
        pytest.param(charge(age=29 * A_DAY), Step.SEND, id="for 30 days"),
        pytest.param(charge(age=30 * A_DAY), Step.INVOICE_ITEM, id="after which it becomes an invoice item"),
        pytest.param(charge(age=2 * AN_HOUR, closed=AN_HOUR), Step.INVOICE_ITEM, id="as when its invoice is final"),
        pytest.param(charge(age=AN_HOUR, closed=2 * AN_HOUR), Step.SEND, id="but not for what came after that one"),
        pytest.param(charge(state=ASKED, route=METER, asked=22 * AN_HOUR), Step.SEND, id="unanswered: the same again"),
        pytest.param(
            charge(state=ASKED, route=METER, asked=23 * AN_HOUR), Step.RECONCILE, id="but never after 23 hours"
        ),
        pytest.param(
            charge(state=ASKED, route=METER, asked=AN_HOUR, age=2 * AN_HOUR, closed=AN_HOUR),
            Step.RECONCILE,
            id="nor when its invoice is final",
        ),
        pytest.param(charge(is_credited=True), Step.LEAVE_OUT, id="taken back before it was sent: Stripe never knows"),
        pytest.param(
            charge(state=ASKED, route=METER, asked=AN_HOUR, is_credited=True), Step.SEND, id="unless it may have been"
        ),
        pytest.param(
            charge(state=ASKED, route=ITEM, asked=AN_HOUR), Step.INVOICE_ITEM, id="an unanswered item: the same again"
        ),
        pytest.param(
            charge(state=ASKED, route=ITEM, asked=23 * AN_HOUR), Step.LOOK_UP_ITEM, id="and looked for after 23 hours"
        ),
        pytest.param(
            charge(state=ASKED, route=ITEM, asked=AN_HOUR, had_fault=True), Step.LOOK_UP_ITEM, id="or after a fault"
        ),
        pytest.param(charge(state=DONE, route=METER), Step.WAIT, id="done is done"),
        pytest.param(credit(charge()), Step.WAIT, id="a credit waits for its charge"),
        pytest.param(credit(charge(state=ASKED, route=METER, asked=AN_HOUR)), Step.WAIT, id="also for an unsure one"),
        pytest.param(credit(charge(state=DONE, route=LEFT_OUT)), Step.LEAVE_OUT, id="and is left out with it"),
        pytest.param(credit(sent(22 * AN_HOUR)), Step.CANCEL, id="a sent charge is cancelled"),
        pytest.param(credit(sent(23 * AN_HOUR)), Step.INVOICE_ITEM, id="for 23 hours, then it is given back"),
        pytest.param(credit(sent(2 * AN_HOUR, closed=AN_HOUR)), Step.INVOICE_ITEM, id="as from a final invoice"),
        pytest.param(credit(charge(state=DONE, route=ITEM)), Step.INVOICE_ITEM, id="an item is given back by an item"),
        pytest.param(credit(None), Step.INVOICE_ITEM, id="as is what was billed before Stripe was"),
        pytest.param(credit(sent(AN_HOUR), has_own_amount=True), Step.INVOICE_ITEM, id="and an amount of its own"),
        pytest.param(
            credit(sent(2 * AN_HOUR), state=ASKED, route=CANCEL, asked=AN_HOUR), Step.CANCEL, id="cancelled again"
        ),
        pytest.param(
            credit(sent(24 * AN_HOUR), state=ASKED, route=CANCEL, asked=2 * AN_HOUR),
            Step.RECONCILE,
            id="until Stripe would not take it any more",
        ),
    ],
)
def test_the_next_step(entry: Entry, step: Step) -> None:
    assert next_step(entry, NOW) is step


def test_usage_is_closed_half_an_hour_after_its_period_and_at_once_when_the_metered_price_changes() -> None:
    november, december = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)

    def closed(now: datetime, metered_since: datetime | None = None, has_ended: bool = False) -> datetime | None:
        return closed_until(
            period_begins_at=november,
            period_ends_at=december,
            metered_since=metered_since,
            has_ended=has_ended,
            now=now,
        )

    assert closed(NOW) == november
    # Nobody has told us yet that the period turned: we know the calendar.
    assert closed(december + timedelta(minutes=29)) == november
    assert closed(december + timedelta(minutes=30)) == december
    assert closed(NOW, metered_since=NOW - AN_HOUR) == NOW - AN_HOUR
    assert closed(NOW, has_ended=True) == NOW


@given(present=st.integers(0, 6), absent=st.integers(0, 6), effective=st.integers(0, 6), not_yet=st.integers(0, 6))
def test_after_a_reconciliation_as_many_are_counted_as_the_ledger_wants(
    present: int, absent: int, effective: int, not_yet: int
) -> None:
    """Of the unsure charges some came, of the unsure cancellations some happened; which, nobody knows."""
    sent = 10 + effective + not_yet
    counted = sent + present - effective
    known = Minute(sent=sent, unsure=present + absent, unsure_cancels=effective + not_yet, counted=counted)
    found = verdict(known)
    assert found.is_possible
    billed = counted + found.missing - found.not_cancelled
    assert billed == sent + present + absent - effective - not_yet


def test_a_count_that_none_of_our_requests_can_explain_is_left_to_a_person() -> None:
    assert not verdict(Minute(sent=3, unsure=1, unsure_cancels=0, counted=5)).is_possible
    assert not verdict(Minute(sent=3, unsure=1, unsure_cancels=0, counted=2)).is_possible


def test_pauses_grow_to_a_quarter_of_an_hour_and_differ_from_worker_to_worker() -> None:
    assert [retry_in_s(attempt, 0.0) for attempt in (1, 2, 3, 30)] == [2.5, 5.0, 10.0, 450.0]
    assert retry_in_s(30, 0.999) < 900.0
