"""Every charge reaches Stripe once, whatever happens between; every credit takes one back."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.billing import BillingTerms, Payer
from metering import outbox
from metering.ledger import read_ledger
from metering.outbox_rules import Route
from metering.quota import reserve
from metering.stripe.client import open_client
from metering.stripe.keys import StripeKeys
from metering.stripe.reconcile import reconcile
from metering.subscriptions import sync_subscriptions
from storage.tables import billing_accounts
from tests.factories.stripe_house import KEYS, ST_MARY, StripeHouse, charge_in
from tests.stripe_server.misfortunes import Misfortune

EVENTS, ADJUSTMENTS, ITEMS = "/v1/billing/meter_events", "/v1/billing/meter_event_adjustments", "/v1/invoiceitems"
METER, CANCELLED, ITEM, LEFT_OUT = ("done", "meter"), ("done", "cancel"), ("done", "invoice_item"), ("done", "left_out")


def settled(house: StripeHouse) -> int:
    """Sent and reconciled, as a worker's rounds do it."""
    reconcile(house.database, house.client, meter_id=house.billing.catalogue().meter_id, now=house.now)
    return house.send()


def test_a_charge_becomes_one_meter_event_with_its_own_time(house: StripeHouse) -> None:
    house.charge("1.2.3")
    house.pass_by(minutes=7)
    assert house.send() == 1
    (event,) = house.server.account.all("billing.meter_event")
    assert event["timestamp"] == int((house.now - timedelta(minutes=7)).timestamp())
    assert event["payload"] == {"stripe_customer_id": house.account().customer_id, "value": "1"}
    assert (house.ways(), house.counted()) == ([METER], 1)


def charge_and_die(house: StripeHouse) -> None:
    with house.database.write() as connection:
        charge_in(connection, "1.2.3", clinic="st-mary", now=house.now)
        raise ZeroDivisionError


def test_a_ledger_row_and_its_outbox_row_are_there_together_or_not_at_all(house: StripeHouse) -> None:
    with pytest.raises(ZeroDivisionError):
        charge_and_die(house)
    assert (house.rows(), read_ledger(house.database)) == ([], [])
    house.charge("1.2.3")
    assert (len(house.rows()), len(read_ledger(house.database))) == (1, 1)


def test_a_clinic_that_does_not_pay_by_stripe_has_no_outbox(house: StripeHouse) -> None:
    house.charge("1.2.3", clinic="mercy")
    assert house.rows() == []


def test_a_clinic_that_pays_by_invoice_from_now_on_is_not_billed_by_stripe_as_well(house: StripeHouse) -> None:
    house.charge("1.2.3")
    by_invoice = replace(ST_MARY, billing=BillingTerms(payer=Payer.INVOICE))
    sync_subscriptions(house.database, [by_invoice], now=house.now)
    house.charge("1.2.4")
    assert len(house.rows()) == 1


@pytest.mark.parametrize("misfortune", [one for one in Misfortune if one is not Misfortune.HANG])
def test_after_any_misfortune_it_is_sent_again_and_counted_once(house: StripeHouse, misfortune: Misfortune) -> None:
    house.server.script.then(misfortune, misfortune, path=EVENTS)
    house.charge("1.2.3")
    for _ in range(3):
        house.send()
        house.pass_by(minutes=16)
    assert (house.ways(), house.counted()) == ([METER], 1)


def test_an_answer_that_does_not_come_is_given_up(house: StripeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.stripe.client.TIMEOUT_S", 0.5)
    house.client = open_client(KEYS, address=house.server.url)
    house.server.script.then(Misfortune.HANG, path=EVENTS)
    house.charge("1.2.3")
    assert house.send() == 0
    assert house.ways() == [("asked", "meter")]
    house.server.script.let_go.set()
    house.pass_by(minutes=16)
    assert (house.send(), house.counted()) == (1, 1)


def test_a_fault_that_stripe_would_repeat_for_a_day_is_asked_under_another_key(house: StripeHouse) -> None:
    """Stripe answers the same Idempotency-Key with the same 500 for 24 hours, though nothing was done."""
    house.server.script.then(Misfortune.ERROR_BEFORE, path=EVENTS)
    house.charge("1.2.3")
    house.send()
    house.pass_by(minutes=16)
    assert house.send() == 1
    keys = {
        line.partition("('idempotency-key', '")[2].partition("'")[0]
        for line in house.server.journal
        if f"POST {EVENTS} " in line
    }
    (identifier,) = {event["identifier"] for event in house.server.account.all("billing.meter_event")}
    assert keys == {identifier, f"{identifier}-1"}


def test_an_unanswered_request_is_not_repeated_after_23_hours_but_reconciled(house: StripeHouse) -> None:
    """One of the three came to Stripe, and its identifier is forgotten there after 24 hours."""
    house.charge("1.2.1", "1.2.2", "1.2.3")
    house.server.script.then(Misfortune.CUT_BEFORE, Misfortune.LOST_ANSWER, Misfortune.CUT_BEFORE, path=EVENTS)
    for _ in range(3):
        house.send()
    assert house.ways() == [("asked", "meter")] * 3
    house.pass_by(hours=25)
    posted = len([line for line in house.server.journal if line.startswith(f"POST {EVENTS} ")])
    house.send()
    assert len([line for line in house.server.journal if line.startswith(f"POST {EVENTS} ")]) == posted
    house.pass_by(minutes=6)
    settled(house)
    assert (house.ways(), house.counted()) == ([METER] * 3, 3)


def test_nothing_is_reconciled_before_stripe_has_counted(house: StripeHouse) -> None:
    house.server.account.lag_s = 1800.0
    house.charge("1.2.1")
    house.server.script.then(Misfortune.LOST_ANSWER, path=EVENTS)
    house.send()
    house.pass_by(hours=22, minutes=50)
    house.server.script.then(Misfortune.LOST_ANSWER, path=EVENTS)
    house.send()
    house.pass_by(minutes=20)
    settled(house)
    assert house.ways() == [("asked", "meter")]
    house.pass_by(hours=1)
    settled(house)
    house.pass_by(hours=1)
    assert (house.ways(), house.counted()) == ([METER], 1)


def test_a_count_that_cannot_be_ours_is_left_for_a_person_and_alarms(house: StripeHouse) -> None:
    house.charge("1.2.1")
    house.server.script.then(Misfortune.LOST_ANSWER, path=EVENTS)
    house.send()
    event = {"event_name": "collimator_study", "timestamp": int(house.now.timestamp())}
    event["payload"] = {"stripe_customer_id": house.account().customer_id, "value": "5"}
    house.client.v1.billing.meter_events.create(event)  # type: ignore[arg-type]
    house.pass_by(hours=25)
    settled(house)
    house.pass_by(days=8)
    (backlog,) = outbox.read_backlog(house.database, now=house.now)
    assert (backlog.waiting, backlog.overdue) == (1, 1)
    assert "Stripe counted otherwise" in backlog.last_error


def test_what_waited_for_30_days_becomes_an_invoice_item(house: StripeHouse) -> None:
    house.charge("1.2.1")
    house.server.script.is_away = True
    house.send()
    house.pass_by(days=31)
    house.server.script.peace()
    for _ in range(3):
        settled(house)
        house.pass_by(minutes=31)
    assert (house.ways(), house.counted()) == ([ITEM], 0)
    (item,) = house.items()
    assert item["metadata"] == {
        "collimator_ledger_id": "1",
        "collimator_studies": "1",
        "collimator_period": "2026-11",
    }


def test_what_its_invoice_can_no_longer_count_becomes_an_invoice_item(house: StripeHouse) -> None:
    house.pass_by(days=10)
    house.charge("1.2.1")
    house.pass_by(days=1)
    house.billing.refresh_all()
    house.send()
    assert (house.ways(), house.counted()) == ([ITEM], 0)


def test_a_study_of_the_old_period_that_is_delivered_in_the_new_one_is_counted_in_the_old_one(
    house: StripeHouse,
) -> None:
    house.pass_by(days=10, hours=11, minutes=58)
    house.billing.refresh_all()
    with house.database.write() as connection:
        assert reserve(connection, clinic="st-mary", study_instance_uid="1.2.1", now=house.now)
    house.pass_by(minutes=4)
    house.charge("1.2.1")
    house.send()
    (event,) = house.server.account.all("billing.meter_event")
    assert (house.now.day, event["timestamp"]) == (1, int(house.now.replace(minute=0, second=0).timestamp()) - 1)


def test_a_charge_that_was_taken_back_before_it_was_sent_never_reaches_stripe(house: StripeHouse) -> None:
    house.charge("1.2.1")
    house.credit("1.2.1")
    posted = len(house.server.journal)
    house.send()
    house.pass_by(minutes=6)
    house.send()
    assert (house.ways(), len(house.server.journal)) == ([LEFT_OUT, LEFT_OUT], posted)


def test_a_credit_cancels_the_meter_event(house: StripeHouse) -> None:
    house.charge("1.2.1", "1.2.2")
    house.send()
    house.credit("1.2.1")
    house.send()
    assert (house.ways(), house.counted()) == ([METER, METER, CANCELLED], 1)


@pytest.mark.parametrize("misfortune", [one for one in Misfortune if one is not Misfortune.HANG])
def test_a_cancellation_survives_every_misfortune(house: StripeHouse, misfortune: Misfortune) -> None:
    house.charge("1.2.1")
    house.send()
    house.credit("1.2.1")
    house.server.script.then(misfortune, misfortune, path=ADJUSTMENTS)
    for _ in range(3):
        house.send()
        house.pass_by(minutes=16)
    assert (house.ways()[1], house.counted(), house.items()) == (CANCELLED, 0, [])


@pytest.mark.parametrize("happened", [True, False])
def test_a_cancellation_without_an_answer_is_reconciled_when_it_is_too_late_to_repeat(
    house: StripeHouse, happened: bool
) -> None:
    house.charge("1.2.1")
    house.send()
    house.pass_by(hours=22)
    house.credit("1.2.1")
    house.server.script.then(Misfortune.LOST_ANSWER if happened else Misfortune.CUT_BEFORE, path=ADJUSTMENTS)
    house.send()
    for _ in range(3):
        house.pass_by(hours=2)
        settled(house)
    assert house.ways() == [METER, CANCELLED if happened else ITEM]
    assert house.counted() + sum(int(item["metadata"]["collimator_studies"]) for item in house.items()) == 0


def test_a_later_credit_is_an_invoice_item_that_gives_back(house: StripeHouse) -> None:
    house.charge("1.2.1")
    house.send()
    house.pass_by(hours=24)
    house.credit("1.2.1")
    house.send()
    (item,) = house.items()
    assert (house.ways(), item["metadata"]["collimator_studies"], item["amount"]) == ([METER, ITEM], "-1", 0)


def test_a_credit_of_an_amount_of_its_own_is_given_back_as_that_amount(house: StripeHouse) -> None:
    house.charge("1.2.1")
    house.send()
    house.credit("1.2.1", amount_usd_cents=500)
    house.send()
    (item,) = house.items()
    assert (item["amount"], house.counted()) == (-500, 1)


@pytest.mark.parametrize("days", [0, 2])
@pytest.mark.parametrize("misfortune", [one for one in Misfortune if one is not Misfortune.HANG])
def test_an_invoice_item_is_made_once_whatever_happens(house: StripeHouse, misfortune: Misfortune, days: int) -> None:
    """A fault of Stripe's is repeated for its Idempotency-Key, and another key would make another item."""
    house.charge("1.2.1")
    house.send()
    house.pass_by(hours=24)
    house.credit("1.2.1")
    house.server.script.then(misfortune, path=ITEMS)
    house.send()
    for _ in range(2):
        house.pass_by(days=days, minutes=16)
        house.send()
    assert (house.ways(), len(house.items())) == ([METER, ITEM], 1)


def test_without_a_subscription_at_stripe_what_is_charged_waits(house: StripeHouse) -> None:
    with house.database.write() as connection:
        connection.execute(sa.update(billing_accounts).values(subscription_id=None, status=""))
    house.charge("1.2.1")
    house.send()
    assert house.ways() == [("waiting", "")]
    house.billing.refresh_all()
    house.pass_by(minutes=6)
    assert (house.send(), house.counted()) == (1, 1)


def test_two_senders_at_once_send_each_row_once(house: StripeHouse) -> None:
    house.charge(*(f"1.2.{number}" for number in range(60)))
    threads = [threading.Thread(target=house.send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert house.counted() == 60
    assert len([line for line in house.server.journal if line.startswith(f"POST {EVENTS} ")]) == 60


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["claimed", "begun", "answered", "finished"])
def test_a_sender_that_dies_between_any_two_steps_loses_and_doubles_nothing(house: StripeHouse, step: str) -> None:
    house.charge("1.2.1", "1.2.2")
    steps: Iterator[None] = iter([None])

    def die(at: str) -> None:
        if at == step and next(steps, "no more") is None:
            raise Killed

    with pytest.raises(Killed):
        house.sender(die).send_due()
    assert house.send() == 0  # its lease holds
    house.pass_by(minutes=11)
    house.send()
    assert (house.ways(), house.counted()) == ([METER] * 2, 2)


def test_a_sender_whose_lease_has_run_out_does_not_send_what_another_one_has(house: StripeHouse) -> None:
    house.charge("1.2.1")
    (old,) = outbox.claim(house.database, now=house.now)
    house.pass_by(minutes=11)
    (new,) = outbox.claim(house.database, now=house.now)
    assert not outbox.begin(house.database, old, route=Route.METER, now=house.now)
    assert outbox.begin(house.database, new, route=Route.METER, now=house.now)


def test_a_wrong_key_stops_the_sender_and_nothing_is_lost(house: StripeHouse) -> None:
    house.charge("1.2.1")
    right, house.client = house.client, open_client(StripeKeys(secret_key="sk_test_old"), address=house.server.url)
    house.send()
    assert house.ways() == [("waiting", "")]
    assert "not allowed" in house.rows()[0].last_error
    house.client = right
    house.pass_by(minutes=16)
    assert (house.send(), house.counted()) == (1, 1)
