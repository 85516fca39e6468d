"""Sends what is due from the outbox, one row after the other, until nothing is or Stripe is away.

    claim some  ->  for each: what is next?  ->  begin  ->  the request  ->  finish, put off, or start over

Several senders may run; a row is one's at a time (outbox.py).
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import stripe
import structlog

from metering import outbox
from metering.outbox import Claimed
from metering.outbox_rules import SETTLED_AFTER, Route, Step, next_step, retry_in_s
from metering.stripe import invoice_items, meter
from metering.stripe.answers import IS_AWAY, Answer, Meaning, ask
from storage.database import Database

log = structlog.get_logger()

# A row that waits for another one, and one that Stripe refuses: it is looked at again, and after a week it alarms.
LOOK_AGAIN = timedelta(minutes=5)
REFUSED_AGAIN = timedelta(hours=1)
# Half of the lease: what is not begun by then is left to the next round.
ROUND = outbox.LEASE / 2


class Sender:
    """`clock`: the time. `on_step`: tests watch the steps."""

    def __init__(
        self,
        database: Database,
        client: stripe.StripeClient,
        *,
        clock: Callable[[], datetime],
        chance: random.Random | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 (jitter)
        self._on_step = on_step

    def send_due(self) -> int:
        """How many rows are done now that were not."""
        done = 0
        while claimed := outbox.claim(self._database, now=self._clock()):
            self._on_step("claimed")
            began = self._clock()
            for place, row in enumerate(claimed):
                answer = self._do(row)
                done += answer.meaning is Meaning.DONE
                is_away = answer.meaning in IS_AWAY
                if is_away:
                    log.warning("stripe_away", why=answer.why, clinic=row.entry.clinic)
                if is_away or self._clock() - began > ROUND:
                    outbox.release(self._database, claimed[place + 1 :])
                    return done
        return done

    def _do(self, row: Claimed) -> Answer:
        step = next_step(row.entry, self._clock())
        if step is Step.SEND:
            return self._send(row)
        if step is Step.CANCEL:
            return self._cancel(row)
        if step is Step.INVOICE_ITEM:
            return self._make_item(row)
        if step is Step.LOOK_UP_ITEM:
            return self._look_up_item(row)
        if step is Step.LEAVE_OUT:
            outbox.finish(self._database, row, route=Route.LEFT_OUT, now=self._clock())
            return Answer(meaning=Meaning.DONE)
        # reconcile.py takes up what may not be repeated; the rest waits for its charge.
        waits_for = "reconciliation" if step is Step.RECONCILE else "a subscription, or its charge"
        outbox.put_off(self._database, row, until=self._clock() + LOOK_AGAIN, why=f"waits for {waits_for}")
        return Answer(meaning=Meaning.REFUSED)

    def _send(self, row: Claimed) -> Answer:
        identifier = meter.identifier_of(row.identifier_key, row.study_instance_uid, row.round)
        answer = self._request(
            row,
            Route.METER,
            identifier,
            lambda: meter.send(
                self._client,
                customer_id=row.customer_id,
                identifier=identifier,
                metered_at=row.entry.metered_at,
                errors=row.errors,
            ),
        )
        if answer.meaning is Meaning.REFUSED:
            # Nothing in it changes by waiting; but a customer or a meter may be put right by a person.
            self._put_off(row, answer, REFUSED_AGAIN)
        return answer

    def _cancel(self, row: Claimed) -> Answer:
        answer = self._request(
            row,
            Route.CANCEL,
            row.charge_identifier,
            lambda: meter.cancel(self._client, identifier=row.charge_identifier, errors=row.errors),
        )
        if answer.meaning is Meaning.REFUSED:
            outbox.start_over(self._database, row, route=Route.INVOICE_ITEM, until=self._clock(), why=answer.why)
        return answer

    def _make_item(self, row: Claimed) -> Answer:
        key = meter.identifier_of(row.identifier_key, f"item {row.ledger_id}", row.round)
        sign = -1 if row.entry.is_credit else 1
        answer = self._request(
            row,
            Route.INVOICE_ITEM,
            key,
            lambda: invoice_items.create(
                self._client,
                customer_id=row.customer_id,
                ledger_id=row.ledger_id,
                period=row.period,
                # An amount that a person named is taken off; the study stays on the bill.
                studies=0 if row.entry.has_own_amount else sign,
                amount_usd_cents=sign * row.price_usd_cents,
                key=key,
            ),
        )
        if answer.meaning is Meaning.REFUSED:
            self._put_off(row, answer, REFUSED_AGAIN)
        return answer

    def _look_up_item(self, row: Claimed) -> Answer:
        assert row.entry.first_asked_at is not None
        since_s = int((row.entry.first_asked_at - SETTLED_AFTER).timestamp())
        answer = ask(
            lambda: invoice_items.find(
                self._client, customer_id=row.customer_id, ledger_id=row.ledger_id, since_s=since_s
            )
        )
        if answer.meaning is not Meaning.DONE:
            self._put_off(row, answer)
        elif answer.content is None:
            outbox.start_over(self._database, row, route=Route.INVOICE_ITEM, until=self._clock(), why="it was not made")
            return Answer(meaning=Meaning.REFUSED)
        else:
            outbox.finish(self._database, row, route=Route.INVOICE_ITEM, now=self._clock(), stripe_id=answer.content)
        return answer

    def _request(self, row: Claimed, route: Route, identifier: str, request: Callable[[], object]) -> Answer:
        """Begin, ask, and keep what every route does with the answer; what is refused is the caller's."""
        if not outbox.begin(self._database, row, route=route, identifier=identifier, now=self._clock()):
            return Answer(meaning=Meaning.REFUSED, why="another sender has it")
        self._on_step("begun")
        answer = ask(request)
        self._on_step("answered")
        if answer.meaning is Meaning.DONE:
            stripe_id = answer.content if isinstance(answer.content, str) else ""
            outbox.finish(self._database, row, route=route, now=self._clock(), stripe_id=stripe_id)
            self._on_step("finished")
        elif answer.meaning is not Meaning.REFUSED:
            self._put_off(row, answer)
        return answer

    def _put_off(self, row: Claimed, answer: Answer, pause: timedelta | None = None) -> None:
        pause = pause or timedelta(seconds=retry_in_s(row.attempts + 1, self._chance.random()))
        outbox.put_off(
            self._database,
            row,
            until=self._clock() + pause,
            why=answer.why,
            was_refused=answer.meaning in (Meaning.TOO_FAST, Meaning.REFUSED, Meaning.NOT_ALLOWED),
            is_fault=answer.meaning is Meaning.FAULT,
        )
