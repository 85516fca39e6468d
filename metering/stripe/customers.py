"""The clinic as a customer of Stripe's, and its subscription there: made once, and changed to another plan.

What Stripe is told of a clinic: its name in the configuration, whom to bill, and the purchase order.
"""

from datetime import datetime
from typing import Any

import stripe

from domain.clinics import Clinic
from domain.errors import Refuse
from domain.periods import PeriodRule
from domain.plans import Tier
from metering.stripe.accounts import Account, account_of, open_account
from metering.stripe.catalogue import Catalogue
from metering.subscriptions import calendar_of, subscription_at
from storage import audit
from storage.clinic_lock import lock_clinic
from storage.database import Database

CLINIC = "collimator_clinic"
WHO = "stripe"


def ensure_customer(database: Database, client: stripe.StripeClient, clinic: Clinic, *, now: datetime) -> Account:
    """The clinic's account; where there is none, Stripe gets a customer. Two that do it at once make one."""
    with database.read() as connection:
        known = account_of(connection, clinic.name)
    if known is not None:
        return known
    customer_id = _find(client, clinic.name) or _make(client, clinic)
    with database.write() as connection:
        lock_clinic(connection, clinic.name)
        known = account_of(connection, clinic.name)
        if known is None:
            open_account(connection, clinic=clinic.name, customer_id=customer_id, now=now)
            audit.enter(connection, at=now, who=WHO, act="billed_by_stripe", clinic=clinic.name, detail=customer_id)
            known = account_of(connection, clinic.name)
    assert known is not None
    return known


def subscribe(
    database: Database,
    client: stripe.StripeClient,
    catalogue: Catalogue,
    account: Account,
    *,
    tier: Tier,
    days_until_due: int,
    now: datetime,
) -> str:
    """A subscription that is paid by invoice; its id. Its periods begin on the days on which the ledger's do, in UTC.

    A clinic that pays by card subscribes itself, in Checkout (links.py).
    """
    with database.read() as connection:
        rule = calendar_of(connection, clinic=account.clinic).rule_at(now)
        trial_ends_at = subscription_at(connection, clinic=account.clinic, moment=now).trial_ends_at
    asked: Any = {
        "customer": account.customer_id,
        "items": [{"price": catalogue.prices[tier].base}, {"price": catalogue.prices[tier].usage}],
        "collection_method": "send_invoice",
        "days_until_due": days_until_due,
        "metadata": {CLINIC: account.clinic},
        "billing_mode": {"type": "flexible"},
        "billing_cycle_anchor_config": anchor_config(rule),
    }
    if trial_ends_at is not None and trial_ends_at > now:
        asked["trial_end"] = int(trial_ends_at.timestamp())
    key = f"{account.customer_id}-subscribe-{tier}-{now:%Y%m%d%H}"
    return str(client.v1.subscriptions.create(asked, {"idempotency_key": key}).id)


def anchor_config(rule: PeriodRule) -> dict[str, int]:
    """Midnight of the rule's day. Stripe knows no time zones: what falls between is settled (settle.py)."""
    return {"day_of_month": rule.anchor_day, "hour": 0, "minute": 0, "second": 0}


def put_on_plan(
    client: stripe.StripeClient, catalogue: Catalogue, account: Account, *, tier: Tier, now: datetime
) -> None:
    """From now on; the flat price is prorated by Stripe, and what was used until now is billed by the old terms.

    Raises:
        Refuse: the clinic has no subscription at Stripe, or is on that plan already.
    """
    if account.subscription_id is None:
        raise Refuse(
            f"{account.clinic} has no subscription at Stripe",
            reason="no_subscription",
            hint="`collimator billing checkout` gives the link where it can subscribe",
        )
    if account.tier == tier:
        raise Refuse(f"{account.clinic} is on the {tier} plan already", reason="same_plan")
    wanted = catalogue.prices[tier]
    subscription = client.v1.subscriptions.retrieve(account.subscription_id)
    changed = [
        {"id": item["id"], "price": wanted.usage if _is_metered(item) else wanted.base}
        for item in items_of(subscription)
    ]
    asked: Any = {"items": changed, "proration_behavior": "create_prorations"}
    key = f"{account.subscription_id}-{tier}-{int(now.timestamp())}"
    client.v1.subscriptions.update(account.subscription_id, asked, {"idempotency_key": key})


def items_of(subscription: stripe.Subscription) -> list[dict[str, Any]]:
    """Its items as plain data: `items` is also the name of a method of their class."""
    plain: dict[str, Any] = subscription.to_dict()
    return list(plain["items"]["data"])


def _is_metered(item: dict[str, Any]) -> bool:
    return bool(item["price"]["recurring"]["usage_type"] == "metered")


def _find(client: stripe.StripeClient, clinic: str) -> str | None:
    """One that was made before, whose answer did not come or whose row was lost with it."""
    found = client.v1.customers.search({"query": f"metadata['{CLINIC}']:'{clinic}'"})
    return next((str(customer.id) for customer in found), None)


def _make(client: stripe.StripeClient, clinic: Clinic) -> str:
    asked: Any = {"name": clinic.billing.bill_to.name or clinic.name, "metadata": {CLINIC: clinic.name}}
    if clinic.billing.purchase_order:
        field = {"name": "Purchase order", "value": clinic.billing.purchase_order}
        asked["invoice_settings"] = {"custom_fields": [field]}
    return str(client.v1.customers.create(asked, {"idempotency_key": f"collimator-customer-{clinic.name}"}).id)
