"""Links for people of a clinic: where it subscribes with a card, and where it looks after its subscription."""

from typing import Any

import stripe

from domain.errors import Refuse
from domain.periods import PeriodRule
from domain.plans import Tier
from metering.outbox import ENDED
from metering.stripe.accounts import Account
from metering.stripe.catalogue import Catalogue
from metering.stripe.customers import CLINIC, anchor_config


def checkout_link(
    client: stripe.StripeClient,
    catalogue: Catalogue,
    account: Account,
    *,
    tier: Tier,
    return_url: str,
    rule: PeriodRule,
) -> str:
    """Stripe's page on which the clinic subscribes to the plan; it is open for a day.

    Raises:
        Refuse: it has subscribed already.
    """
    if account.subscription_id is not None and account.status not in ENDED:
        raise Refuse(
            f"{account.clinic} has a subscription already",
            reason="has_subscription",
            hint="it is looked after in the customer portal",
        )
    prices = catalogue.prices[tier]
    asked: Any = {
        "mode": "subscription",
        "customer": account.customer_id,
        "client_reference_id": account.clinic,
        "line_items": [{"price": prices.base, "quantity": 1}, {"price": prices.usage}],
        "success_url": return_url,
        "subscription_data": {
            "metadata": {CLINIC: account.clinic},
            "billing_cycle_anchor_config": anchor_config(rule),
            "billing_mode": {"type": "flexible"},
        },
    }
    return str(client.v1.checkout.sessions.create(asked).url)


def portal_link(client: stripe.StripeClient, account: Account, *, return_url: str) -> str:
    """Stripe's page for cards, invoices and cancelling."""
    asked: Any = {"customer": account.customer_id, "return_url": return_url}
    return str(client.v1.billing_portal.sessions.create(asked).url)
