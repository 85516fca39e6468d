"""The stand-in where people act: Checkout, customer portal, entitlements, disputes; and how webhooks tell of it."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.stripe_server import disputes
from tests.stripe_server.account import Account
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.problems import Problem
from tests.stripe_server.server import StripeServer
from tests.stripe_server.sessions import complete_checkout
from tests.stripe_server.subscriptions import change_status
from tests.stripe_server.test_stand_in import DAY_S, START, Shop, refusal

CHEST = {"lookup_key": "collimator_chest", "name": "Model: chest"}


@pytest.fixture
def shop() -> Iterator[Shop]:
    with StripeServer(Account()) as server:
        yield Shop(server)


def checkout(shop: Shop, **more: Any) -> Any:
    items: Any = [{"price": shop.base, "quantity": 1}, {"price": shop.usage}]
    asked: Any = {"mode": "subscription", "customer": shop.customer, "line_items": items, "success_url": "http://here"}
    return shop.client.v1.checkout.sessions.create(asked | more)


def entitled(shop: Shop) -> list[str]:
    listed = shop.client.v1.entitlements.active_entitlements.list({"customer": shop.customer})
    return [one.lookup_key for one in listed.auto_paging_iter()]


def types(shop: Shop) -> list[str]:
    return [event["type"] for event in shop.server.account.events]


def test_a_checkout_session_is_completed_once_and_subscribes(shop: Shop) -> None:
    session = checkout(shop)
    assert (session.status, session.url[:37]) == ("open", "https://checkout.stripe.com/c/pay/cs_")
    complete_checkout(shop.server.account, session.id)
    again = shop.client.v1.checkout.sessions.retrieve(session.id)
    (subscription,) = shop.client.v1.subscriptions.list({"customer": shop.customer}).data
    assert (again.status, again.subscription, subscription.status) == ("complete", subscription.id, "active")
    assert "checkout.session.completed" in types(shop)
    with pytest.raises(Problem, match="no longer open"):
        complete_checkout(shop.server.account, session.id)


def test_a_checkout_session_is_open_for_a_day(shop: Shop) -> None:
    session = checkout(shop)
    shop.advance_to(START + DAY_S + 1)
    with pytest.raises(Problem, match="no longer open"):
        complete_checkout(shop.server.account, session.id)


def test_a_checkout_session_needs_a_quantity_for_flat_prices_only(shop: Shop) -> None:
    create: Any = checkout
    assert "Quantity is required" in refusal(create, shop, line_items=[{"price": shop.base}])
    assert "metered" in refusal(create, shop, line_items=[{"price": shop.usage, "quantity": 1}])


def test_the_customer_portal_is_a_link_for_a_customer_that_there_is(shop: Shop) -> None:
    create = shop.client.v1.billing_portal.sessions.create
    assert (create({"customer": shop.customer}).url or "").startswith("https://billing.stripe.com/p/session/")
    assert refusal(create, {"customer": "cus_gone"}) == "No such customer: 'cus_gone'"


def test_entitlements_come_with_a_subscription_and_go_with_it(shop: Shop) -> None:
    feature = shop.client.v1.entitlements.features.create(CHEST)  # type: ignore[arg-type]
    product = shop.client.v1.prices.retrieve(shop.base).product
    shop.client.v1.products.features.create(str(product), {"entitlement_feature": feature.id})
    assert entitled(shop) == []
    subscription = shop.subscribe()
    assert entitled(shop) == ["collimator_chest"]
    assert "entitlements.active_entitlement_summary.updated" in types(shop)
    shop.client.v1.subscriptions.cancel(subscription.id)
    assert entitled(shop) == []


def test_a_feature_is_there_once(shop: Shop) -> None:
    create: Any = shop.client.v1.entitlements.features.create
    create(CHEST)
    assert "already" in refusal(create, CHEST)


def test_a_subscription_that_is_paused_is_resumed_and_no_other(shop: Shop) -> None:
    subscription = shop.subscribe()
    resume = shop.client.v1.subscriptions.resume
    assert "`paused` status" in refusal(resume, subscription.id)
    change_status(shop.server.account, shop.server.account.get("subscription", subscription.id), "paused")
    assert resume(subscription.id).status == "active"
    items = shop.client.v1.subscription_items.list({"subscription": subscription.id}).data
    assert {item.price.id for item in items} == {shop.base, shop.usage}


def test_a_refund_is_at_most_what_was_paid_and_a_dispute_is_told_of(shop: Shop) -> None:
    subscription = shop.subscribe()
    shop.client.v1.invoices.pay(subscription.latest_invoice)
    (charge,) = shop.client.v1.charges.list({"customer": shop.customer}).data
    assert "greater than unrefunded" in refusal(
        shop.client.v1.refunds.create, {"charge": charge.id, "amount": charge.amount + 1}
    )
    dispute = disputes.dispute(shop.server.account, charge.id)
    assert shop.client.v1.charges.retrieve(charge.id).disputed
    disputes.close_dispute(shop.server.account, dispute["id"], "won")
    assert shop.client.v1.disputes.retrieve(dispute["id"]).status == "won"
    assert types(shop)[-2:] == ["charge.dispute.created", "charge.dispute.closed"]


def test_what_is_made_is_found_and_changed_by_its_name(shop: Shop) -> None:
    v1 = shop.client.v1
    assert v1.billing.meters.retrieve(shop.meter).event_name == "study"
    assert v1.test_helpers.test_clocks.retrieve(shop.clock).frozen_time == START
    v1.customers.update(shop.customer, {"metadata": {"collimator_clinic": "st-mary"}})
    (customer,) = v1.customers.list().data
    assert customer.to_dict()["metadata"] == {"collimator_clinic": "st-mary"}
    (product,) = v1.products.list().data
    assert v1.products.update(product.id, {"name": "Enterprise"}).name == "Enterprise"
    v1.customers.delete(shop.customer)
    assert (v1.customers.retrieve(shop.customer).deleted, v1.customers.list().data) == (True, [])


def test_webhooks_are_signed_as_stripes_library_checks_it(shop: Shop) -> None:
    shop.subscribe()
    told: list[stripe.Event] = []

    def post(body: bytes, signature: str) -> int:
        told.append(stripe.Webhook.construct_event(body, signature, "whsec_standin", tolerance=1 << 30))
        return 200

    assert set(shop.server.webhooks.deliver(post)) == {200}
    assert [event.type for event in told] == types(shop)
    assert shop.server.webhooks.deliver(post) == []
    other = shop.server.webhooks.signature(b"{}", secret="whsec_another")
    with pytest.raises(stripe.SignatureVerificationError):
        post(b"{}", other)


def test_webhooks_come_out_of_order_and_some_of_them_twice(shop: Shop) -> None:
    for _ in range(20):
        shop.server.account.emit("invoice.paid", {"id": "in_1"})
    told: list[str] = []

    def post(body: bytes, _signature: str) -> int:
        told.append(json.loads(body)["id"])
        return 200

    shop.server.webhooks.deliver(post, chance=random.Random(1))
    assert set(told) == {event["id"] for event in shop.server.account.events}
    assert len(told) > len(set(told))
    assert told != sorted(told)


@pytest.mark.parametrize(
    ("misfortune", "error", "is_done"),
    [
        (Misfortune.RATE_LIMITED, stripe.RateLimitError, False),
        (Misfortune.ERROR_BEFORE, stripe.APIError, False),
        (Misfortune.ERROR_AFTER, stripe.APIError, True),
        (Misfortune.CUT_BEFORE, stripe.APIConnectionError, False),
        (Misfortune.LOST_ANSWER, stripe.APIConnectionError, True),
    ],
)
def test_a_misfortune_is_what_it_says_and_what_was_done_is_done(
    shop: Shop, misfortune: Misfortune, error: type[Exception], is_done: bool
) -> None:
    shop.server.script.then(misfortune, path="/v1/billing/meter_events")
    with pytest.raises(error):
        shop.send("a")
    assert shop.counted() == is_done
