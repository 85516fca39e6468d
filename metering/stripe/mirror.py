"""Asks Stripe how it stands with a clinic, and brings that home: its plan, its state, its period, its models.

Every event, in whatever order and however often it came, is answered by this one thing: ask anew. So an old event can
never undo a newer one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import stripe

from domain.plans import Plan, Tier
from metering.outbox import ENDED
from metering.stripe.accounts import Account, account_of, update_account
from metering.stripe.catalogue import PAGE, package_of, tier_of
from metering.stripe.customers import WHO, items_of
from metering.stripe.states import state_of
from metering.subscriptions import change_tier, set_state, subscriptions_of
from storage.clinic_lock import lock_clinic
from storage.database import Database


def refresh(
    database: Database, client: stripe.StripeClient, account: Account, *, plans: Mapping[Tier, Plan], now: datetime
) -> Account:
    """What is known of it afterwards. A clinic that never subscribed there stays as the configuration has it.

    Raises:
        stripe.StripeError: it did not answer; nothing is changed.
    """
    subscription = _newest(client, account.customer_id)
    values: dict[str, Any] = {"seen_at": now, "packages": _packages(client, account.customer_id)}
    disputes = _disputes(client, account.customer_id)
    values["disputes"] = disputes
    tier = None
    if subscription is not None:
        tier = _tier(subscription)
        values |= _facts(subscription, account, now) | {"tier": tier or ""}
    with database.write() as connection:
        lock_clinic(connection, account.clinic)
        update_account(connection, account.clinic, **values)
        if subscription is not None:
            known = subscriptions_of(connection, clinic=account.clinic)
            at = max([now, *(one.begins_at for one in known)])
            if tier is not None:
                change_tier(
                    connection,
                    clinic=account.clinic,
                    tier=tier,
                    plan=plans[tier],
                    at=at,
                    why=f"Stripe has {subscription.id} on this plan",
                    who=WHO,
                )
            state = state_of(
                subscription.status,
                is_collection_paused=bool(subscription.pause_collection),
                disputes=disputes.values(),
            )
            why = f"Stripe says {subscription.status}" + "".join(f", dispute {one}" for one in disputes.values())
            set_state(connection, clinic=account.clinic, state=state, at=at, why=why, who=WHO)
        refreshed = account_of(connection, account.clinic)
    assert refreshed is not None
    return refreshed


def _newest(client: stripe.StripeClient, customer_id: str) -> stripe.Subscription | None:
    """The one that lives; where none does, the last one that did."""
    listed = client.v1.subscriptions.list({"customer": customer_id, "status": "all", "limit": PAGE})
    found = list(listed.auto_paging_iter())
    living = [one for one in found if one.status not in ENDED]
    return next(iter([*living, *found]), None)


def _facts(subscription: stripe.Subscription, account: Account, now: datetime) -> dict[str, Any]:
    """Since API 2025-03-31.basil the period is told by the items."""
    items = items_of(subscription)
    metered = [item for item in items if item["price"]["recurring"]["usage_type"] == "metered"]
    begins_at, ends_at = (_moment(items[0][name]) for name in ("current_period_start", "current_period_end"))
    price_id = metered[0]["price"]["id"] if metered else ""
    return {
        "subscription_id": str(subscription.id),
        "status": subscription.status,
        "period_begins_at": begins_at,
        "period_ends_at": ends_at,
        "metered_price_id": price_id,
        "metered_since": _metered_since(subscription, account, price_id, now),
    }


def _metered_since(
    subscription: stripe.Subscription, account: Account, price_id: str, now: datetime
) -> datetime | None:
    """From when on Stripe meters for the price that it has now: as we noticed, which is not too early."""
    if account.subscription_id != str(subscription.id):
        return _moment(subscription.start_date)
    return account.metered_since if account.metered_price_id in ("", price_id) else now


def _tier(subscription: stripe.Subscription) -> Tier | None:
    """None: somebody has put prices of their own into it; its plan is not touched then."""
    found = [tier_of(item["price"].get("lookup_key")) for item in items_of(subscription)]
    return next((tier for tier in found if tier is not None), None)


def _packages(client: stripe.StripeClient, customer_id: str) -> list[str]:
    listed = client.v1.entitlements.active_entitlements.list({"customer": customer_id, "limit": PAGE})
    return sorted(package_of(one.lookup_key) for one in listed.auto_paging_iter())


def _disputes(client: stripe.StripeClient, customer_id: str) -> dict[str, str]:
    """Of the latest payments; one that was lost is over with the next payment that went through."""
    disputes: dict[str, str] = {}
    for charge in client.v1.charges.list({"customer": customer_id, "limit": PAGE}):
        if not charge.disputed:
            if charge.status == "succeeded":
                break
            continue
        for dispute in client.v1.disputes.list({"charge": charge.id}):
            disputes[str(dispute.id)] = dispute.status
    return disputes


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
