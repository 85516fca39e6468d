"""What Stripe tells is taken in once, only from our account and of now; what it means is asked of Stripe itself."""

import json
import random
from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.errors import Refuse
from metering.stripe.states import OF_DISPUTE, OF_SUBSCRIPTION, state_of
from storage.audit import read_audit
from storage.tables import stripe_events
from tests.factories.stripe_house import StripeHouse
from tests.stripe_server import disputes
from tests.stripe_server.customers import DECLINED
from tests.stripe_server.invoices import pay
from tests.stripe_server.problems import Json
from tests.stripe_server.subscriptions import change_status


def receive(house: StripeHouse, event: Json, *, signature: str | None = None, at: float | None = None) -> None:
    body = json.dumps(event).encode()
    house.billing.receive(body, signature or house.server.webhooks.signature(body, at=at))


def events(house: StripeHouse) -> list[tuple[str, int, str]]:
    """Type, how often it came, and whose it was found to be."""
    with house.database.read() as connection:
        rows = connection.execute(sa.select(stripe_events).order_by(stripe_events.c.received_at, stripe_events.c.id))
        return [(row.type, row.times_received, row.outcome) for row in rows]


def tell(house: StripeHouse, *, seed: int = 1) -> None:
    """Everything new, shuffled and partly twice, and then what a worker does."""

    def post(body: bytes, signature: str) -> int:
        house.billing.receive(body, signature)
        return 200

    house.server.webhooks.deliver(post, chance=random.Random(seed))
    house.billing.round()


def subscription(house: StripeHouse) -> Json:
    (one,) = house.server.account.all("subscription")
    return one


@pytest.fixture
def event(house: StripeHouse) -> Json:
    return house.server.account.emit("customer.subscription.updated", subscription(house))


def refusals(house: StripeHouse) -> list[str]:
    return [line.detail.partition(":")[0] for line in read_audit(house.database) if line.act == "webhook_refused"]


def test_an_event_is_kept_once_however_often_it_comes(house: StripeHouse, event: Json) -> None:
    for _ in range(3):
        receive(house, event)
    assert events(house) == [("customer.subscription.updated", 3, "")]


def test_of_an_event_only_names_are_kept(house: StripeHouse) -> None:
    about = subscription(house) | {"metadata": {"note": "CANARY"}}
    receive(house, house.server.account.emit("customer.subscription.updated", about))
    with house.database.read() as connection:
        assert "CANARY" not in str(connection.execute(sa.select(stripe_events)).all())


@pytest.mark.parametrize(
    ("minutes", "is_taken"), [(0, True), (-4.9, True), (4.9, True), (-6, False), (6, False), (10, False)]
)
def test_an_event_that_was_signed_long_ago_or_in_the_future_is_refused(
    house: StripeHouse, event: Json, minutes: float, is_taken: bool
) -> None:
    """Stripe's own library takes one from ten minutes in the future."""
    at = (house.now + timedelta(minutes=minutes)).timestamp()
    if is_taken:
        receive(house, event, at=at)
    else:
        with pytest.raises(Refuse, match=r"in the (past|future)"):
            receive(house, event, at=at)
        assert refusals(house) == ["wrong_time"]
    assert len(events(house)) == is_taken


def test_a_wrong_signature_is_refused_and_is_in_the_audit_trail(house: StripeHouse, event: Json) -> None:
    body = json.dumps(event).encode()
    for signature in ("", "t=1", "t=x,v1=y", house.server.webhooks.signature(body, secret="whsec_another")):
        with pytest.raises(Refuse, match="not that of our webhook secret"):
            receive(house, event, signature=signature or "none")
    tampered = house.server.webhooks.signature(body)
    with pytest.raises(Refuse, match="not that of our webhook secret"):
        receive(house, event | {"type": "invoice.paid"}, signature=tampered)
    assert (events(house), refusals(house)) == ([], ["wrong_signature"])  # one line a minute, not one a try


def test_an_event_for_another_account_or_another_mode_is_refused(house: StripeHouse, event: Json) -> None:
    with pytest.raises(Refuse, match="for the account 'acct_another'"):
        receive(house, event | {"account": "acct_another"})
    with pytest.raises(Refuse, match="of the live mode"):
        receive(house, event | {"livemode": True})
    assert (events(house), refusals(house)) == ([], ["another_account", "another_mode"])


@pytest.mark.parametrize("event", [[], {}, {"id": "evt_1"}, {"id": 1, "type": "x", "created": 1}], ids=str)
def test_what_is_signed_and_is_no_event_is_refused(house: StripeHouse, event: object) -> None:
    body = json.dumps(event).encode()
    with pytest.raises(Refuse, match="no event"):
        house.billing.receive(body, house.server.webhooks.signature(body))


@pytest.mark.parametrize("seed", range(3))
def test_events_out_of_order_and_twice_leave_what_stripe_says_now(house: StripeHouse, seed: int) -> None:
    """Past due, unpaid, and paid again: whichever event comes last, the clinic is active."""
    change_status(house.server.account, subscription(house), "past_due")
    change_status(house.server.account, subscription(house), "unpaid")
    tell(house, seed=seed)
    assert house.state() == "unpaid"
    change_status(house.server.account, subscription(house), "past_due")
    change_status(house.server.account, subscription(house), "active")
    tell(house, seed=seed)
    assert house.state() == "active"


def test_an_event_that_came_while_stripe_was_away_is_acted_on_later(house: StripeHouse) -> None:
    change_status(house.server.account, subscription(house), "unpaid")
    house.server.script.is_away = True
    tell(house)
    assert house.state() == "active"
    house.server.script.peace()
    house.pass_by(minutes=16)
    house.billing.round()
    assert house.state() == "unpaid"


def test_an_event_of_a_customer_that_is_not_ours_changes_nothing(house: StripeHouse) -> None:
    before = house.account()
    receive(house, house.server.account.emit("customer.subscription.deleted", {"id": "sub_x", "customer": "cus_x"}))
    receive(house, house.server.account.emit("charge.dispute.created", {"id": "dp_x", "charge": "ch_x"}))
    house.billing.round()
    assert {outcome for _, _, outcome in events(house)} == {"not ours"}
    assert (house.state(), house.account().status) == ("active", before.status)


def test_a_payment_that_fails_has_14_days_of_grace_and_is_unpaid_then(house: StripeHouse) -> None:
    """By invoice within 30 days: the first one is overdue on 20 December."""
    house.pass_by(days=31)
    tell(house)
    assert house.state() == "past_due"
    house.pass_by(days=13)
    assert house.state() == "past_due"
    house.pass_by(days=1, hours=1)
    assert house.state() == "unpaid"
    for invoice in house.server.account.all("invoice"):
        if invoice["status"] == "open":
            pay(house.server.account, {}, invoice["id"])
    tell(house)
    assert house.state() == "active"


def test_a_card_that_is_declined_at_the_turn_of_the_month_is_past_due(house: StripeHouse) -> None:
    customer = house.server.account.all("customer")[0]
    customer["invoice_settings"]["default_payment_method"] = DECLINED
    subscription(house)["collection_method"] = "charge_automatically"
    house.pass_by(days=12)
    tell(house)
    assert house.state() == "past_due"


def test_a_cancelled_subscription_takes_no_new_work(house: StripeHouse) -> None:
    house.client.v1.subscriptions.cancel(subscription(house)["id"], {"invoice_now": True})
    tell(house)
    assert house.state() == "cancelled"


def test_paused_collection_pauses_and_resumes(house: StripeHouse) -> None:
    name = subscription(house)["id"]
    house.client.v1.subscriptions.update(name, {"pause_collection": {"behavior": "void"}})
    tell(house)
    assert house.state() == "paused"
    house.client.v1.subscriptions.update(name, {"pause_collection": ""})
    tell(house)
    assert house.state() == "active"


def paid_charge(house: StripeHouse) -> Json:
    """The first invoice was paid by card."""
    (invoice,) = house.server.account.all("invoice")
    pay(house.server.account, {}, invoice["id"])
    return house.server.account.all("charge")[-1]


def test_a_dispute_is_as_a_payment_that_is_late_and_when_it_is_lost_as_one_that_did_not_come(
    house: StripeHouse,
) -> None:
    dispute = disputes.dispute(house.server.account, paid_charge(house)["id"])
    tell(house)
    assert (house.state(), list(house.account().disputes.values())) == ("past_due", ["needs_response"])
    disputes.close_dispute(house.server.account, dispute["id"], "lost")
    tell(house)
    assert house.state() == "unpaid"
    assert [line.act for line in read_audit(house.database) if line.act == "disputed"] == ["disputed", "disputed"]


def test_a_dispute_that_is_won_is_over(house: StripeHouse) -> None:
    dispute = disputes.dispute(house.server.account, paid_charge(house)["id"])
    tell(house)
    disputes.close_dispute(house.server.account, dispute["id"], "won")
    tell(house)
    assert house.state() == "active"


def test_a_refund_changes_no_state_and_is_in_the_audit_trail(house: StripeHouse) -> None:
    house.client.v1.refunds.create({"charge": paid_charge(house)["id"]})
    tell(house)
    assert house.state() == "active"
    assert [line.clinic for line in read_audit(house.database) if line.act == "refunded"] == ["st-mary"]


def test_every_status_of_a_subscription_and_of_a_dispute_has_an_effect() -> None:
    told = {status: str(state_of(status, is_collection_paused=False, disputes=[])) for status in OF_SUBSCRIPTION}
    assert told == {
        "trialing": "trialing",
        "active": "active",
        "past_due": "past_due",
        "unpaid": "unpaid",
        "incomplete": "unpaid",
        "incomplete_expired": "cancelled",
        "canceled": "cancelled",
        "paused": "paused",
    }
    assert {
        dispute: str(state_of("active", is_collection_paused=False, disputes=[dispute])) for dispute in OF_DISPUTE
    } == {
        "warning_needs_response": "active",
        "warning_under_review": "active",
        "warning_closed": "active",
        "needs_response": "past_due",
        "under_review": "past_due",
        "won": "active",
        "prevented": "active",
        "lost": "unpaid",
    }
    assert state_of("canceled", is_collection_paused=True, disputes=["lost"]) == "cancelled"
