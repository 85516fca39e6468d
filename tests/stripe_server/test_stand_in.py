"""The stand-in keeps Stripe's rules, as the real client sees them: what it lets through, Stripe would."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from metering.stripe.client import open_client
from metering.stripe.keys import StripeKeys
from tests.stripe_server.account import Account
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.server import SECRET_KEY, StripeServer

HOUR_S, DAY_S = 3600, 86400
START = int(datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp())
DECEMBER = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


class Shop:
    """A meter, a customer, and a plan of 79 dollars of which two studies are free and the others cost 5 dollars."""

    def __init__(self, server: StripeServer) -> None:
        self.server = server
        self.client = open_client(StripeKeys(secret_key=SECRET_KEY), address=server.url)
        self.clock = self.client.v1.test_helpers.test_clocks.create({"frozen_time": START}).id
        self.meter = self.client.v1.billing.meters.create(
            {"display_name": "Studies", "event_name": "study", "default_aggregation": {"formula": "sum"}}
        ).id
        self.customer = self.client.v1.customers.create({"name": "St. Mary's"}).id
        product = self.client.v1.products.create({"name": "Professional"}).id
        self.base = self.client.v1.prices.create(
            {"product": product, "currency": "usd", "unit_amount": 7900, "recurring": {"interval": "month"}}
        ).id
        self.usage = self.graduated(product, free=2, then=500)
        self.dearer = self.graduated(product, free=0, then=900)

    def graduated(self, product: str, *, free: int, then: int) -> str:
        tiers: list[Any] = [{"up_to": free, "unit_amount": 0}] if free else []
        return self.client.v1.prices.create(
            {
                "product": product,
                "currency": "usd",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": [*tiers, {"up_to": "inf", "unit_amount": then}],
                "recurring": {"interval": "month", "usage_type": "metered", "meter": self.meter},
            }
        ).id

    def send(self, identifier: str, *, at: int = START, key: str | None = None) -> Any:
        payload = {"stripe_customer_id": self.customer, "value": "1"}
        return self.client.v1.billing.meter_events.create(
            {"event_name": "study", "identifier": identifier, "timestamp": at, "payload": payload},
            {} if key is None else {"idempotency_key": key},
        )

    def cancel(self, identifier: str) -> Any:
        return self.client.v1.billing.meter_event_adjustments.create(
            {"event_name": "study", "type": "cancel", "cancel": {"identifier": identifier}}
        )

    def counted(self, begins: int = START, ends: int = START + HOUR_S, **more: Any) -> float:
        asked: Any = {"customer": self.customer, "start_time": begins, "end_time": ends, **more}
        listed = self.client.v1.billing.meters.event_summaries.list(self.meter, asked)
        return sum(one.aggregated_value for one in listed.auto_paging_iter())

    def subscribe(self, **more: Any) -> Any:
        asked: Any = {
            "customer": self.customer,
            "items": [{"price": self.base}, {"price": self.usage}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "billing_cycle_anchor_config": {"day_of_month": 1},
            **more,
        }
        return self.client.v1.subscriptions.create(asked)

    def advance_to(self, moment: int) -> None:
        self.client.v1.test_helpers.test_clocks.advance(self.clock, {"frozen_time": moment})

    def usage_lines(self) -> list[tuple[int, int]]:
        """Quantity and amount of each line of the metered prices, on invoices that are final."""
        lines = []
        for invoice in self.client.v1.invoices.list({"customer": self.customer, "limit": 100}):
            for line in self.client.v1.invoices.line_items.list(invoice.id or "", {"limit": 100}):
                plain = line.to_dict()
                price = ((plain["pricing"] or {}).get("price_details") or {}).get("price")
                if price in (self.usage, self.dearer) and invoice.status != "draft":
                    lines.append((plain["quantity"], plain["amount"]))
        return sorted(lines)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with StripeServer(Account()) as server:
        yield Shop(server)


def refusal(request: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        request(*arguments, **more)
    return str(caught.value.user_message)


def test_an_identifier_counts_once_in_24_hours_and_again_after_them(shop: Shop) -> None:
    shop.send("a")
    assert refusal(shop.send, "a") == "An event already exists with identifier a."
    shop.advance_to(START + DAY_S - 1)
    assert refusal(shop.send, "a") == "An event already exists with identifier a."
    shop.advance_to(START + DAY_S)
    shop.send("a")
    assert shop.counted() == 2.0


def test_a_time_is_at_most_35_days_past_and_5_minutes_in_the_future(shop: Shop) -> None:
    shop.send("old", at=START - 35 * DAY_S)
    shop.send("early", at=START + 300)
    assert "35 calendar days" in refusal(shop.send, "older", at=START - 35 * DAY_S - 1)
    assert "5 minutes" in refusal(shop.send, "earlier", at=START + 301)


def test_an_event_can_be_cancelled_for_24_hours(shop: Shop) -> None:
    shop.send("a")
    shop.send("b")
    shop.cancel("a")
    assert (shop.counted(), refusal(shop.cancel, "a")) == (1.0, "The event with identifier a is already cancelled.")
    assert refusal(shop.cancel, "c") == "No event found with identifier c."
    shop.advance_to(START + DAY_S + 1)
    assert "within 24 hours" in refusal(shop.cancel, "b")


def test_what_was_received_counts_some_time_later(shop: Shop) -> None:
    shop.server.account.lag_s = 600.0
    shop.send("a")
    assert shop.counted() == 0.0
    shop.advance_to(START + 600)
    assert shop.counted() == 1.0
    shop.cancel("a")
    assert shop.counted() == 1.0
    shop.advance_to(START + 1201)
    assert shop.counted() == 0.0


def test_summaries_are_aligned_to_minutes_hours_or_days(shop: Shop) -> None:
    shop.send("a", at=START - 30)
    shop.send("b", at=START + 30)
    assert (shop.counted(START, START + 60), shop.counted(START - 60, START)) == (1.0, 1.0)
    assert "minute" in refusal(shop.counted, START + 1, START + 60)
    assert "hour" in refusal(shop.counted, START + 60, START + HOUR_S, value_grouping_window="hour")


def test_an_event_for_nobody_is_taken_and_reported_later(shop: Shop) -> None:
    shop.customer = "cus_gone"
    shop.send("a")
    assert shop.server.account.events[-1]["type"] == "v1.billing.meter.error_report_triggered"


def test_the_same_key_has_the_same_answer_a_500_as_well(shop: Shop) -> None:
    shop.send("a", key="one")
    assert shop.send("a", key="one").identifier == "a"
    with pytest.raises(stripe.IdempotencyError):
        shop.send("b", key="one")
    shop.server.script.then(Misfortune.ERROR_BEFORE)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            shop.send("c", key="two")
    shop.send("c", key="three")
    shop.advance_to(START + DAY_S + 1)
    assert "already exists" not in shop.send("d", key="two").identifier


def test_what_was_refused_for_its_parameters_or_its_haste_may_be_asked_again_with_the_same_key(shop: Shop) -> None:
    refusal(shop.send, "a", at=START - 40 * DAY_S, key="one")
    shop.server.script.then(Misfortune.RATE_LIMITED)
    with pytest.raises(stripe.RateLimitError):
        shop.send("a", key="one")
    shop.send("a", key="one")


def test_without_the_key_nothing_is_answered(shop: Shop) -> None:
    stranger = open_client(StripeKeys(secret_key="sk_test_other"), address=shop.server.url)
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.list()


def test_an_invoice_has_what_came_before_it_was_final_and_nothing_that_came_later(shop: Shop) -> None:
    shop.subscribe()
    for number in range(3):
        shop.send(f"a{number}")
    shop.advance_to(DECEMBER + HOUR_S // 2)
    shop.send("in the draft's hour", at=DECEMBER - 60)
    shop.advance_to(DECEMBER + HOUR_S)
    assert shop.usage_lines() == [(4, 1000)]
    shop.send("too late", at=DECEMBER - 60)
    shop.advance_to(DECEMBER + 40 * DAY_S)
    assert shop.usage_lines() == [(0, 0), (4, 1000)]


def test_the_flat_price_is_in_advance_and_prorated_to_the_anchor(shop: Shop) -> None:
    subscription = shop.subscribe()
    first = shop.client.v1.invoices.retrieve(subscription.latest_invoice)
    assert (first.total, first.status, first.billing_reason) == (2765, "open", "subscription_create")
    shop.advance_to(DECEMBER + HOUR_S)
    second = shop.client.v1.invoices.list({"customer": shop.customer}).data[0]
    assert (second.total, second.billing_reason) == (7900, "subscription_cycle")


@pytest.mark.parametrize(("mode", "lines"), [("flexible", [(1, 900), (3, 500)]), ("classic", [(1, 900)])])
def test_a_metered_price_that_changes_in_mid_period_forgets_what_was_used_in_the_classic_mode(
    shop: Shop, mode: str, lines: list[tuple[int, int]]
) -> None:
    subscription = shop.subscribe(billing_mode={"type": mode})
    for number in range(3):
        shop.send(f"a{number}")
    shop.advance_to(START + HOUR_S)
    (_, metered) = subscription.to_dict()["items"]["data"]
    changed: Any = {"items": [{"id": metered["id"], "price": shop.dearer}]}
    shop.client.v1.subscriptions.update(subscription.id, changed)
    shop.send("b", at=START + HOUR_S)
    shop.advance_to(DECEMBER + HOUR_S)
    assert shop.usage_lines() == lines


def test_an_invoice_that_is_not_paid_makes_past_due_and_after_three_weeks_unpaid(shop: Shop) -> None:
    subscription = shop.subscribe()

    def status() -> str:
        return shop.client.v1.subscriptions.retrieve(subscription.id).status

    shop.advance_to(START + 31 * DAY_S)
    assert status() == "past_due"
    shop.advance_to(START + 52 * DAY_S)
    assert status() == "unpaid"
    for invoice in shop.client.v1.invoices.list({"customer": shop.customer, "status": "open"}):
        shop.client.v1.invoices.pay(invoice.id or "")
    assert status() == "active"


def test_a_card_is_needed_for_automatic_collection(shop: Shop) -> None:
    assert "no attached payment source" in refusal(shop.subscribe, collection_method="charge_automatically")


def test_a_price_needs_what_stripe_needs_of_it(shop: Shop) -> None:
    create = shop.client.v1.prices.create
    product = shop.client.v1.products.create({"name": "Another"}).id
    metered: Any = {"product": product, "currency": "usd", "recurring": {"interval": "month", "usage_type": "metered"}}
    assert refusal(create, metered) == "Missing required param: recurring[meter]."
    flat: Any = {"product": product, "currency": "usd", "recurring": {"interval": "month"}}
    assert "non-negative" in refusal(create, flat | {"unit_amount": -1})
    create(flat | {"unit_amount": 1, "lookup_key": "one"})
    assert "already uses that lookup key" in refusal(create, flat | {"unit_amount": 2, "lookup_key": "one"})
