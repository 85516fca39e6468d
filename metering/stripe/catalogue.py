"""What can be bought at Stripe, made from the plans: found again by lookup keys, and made where it is not there.

    meter      collimator_study                       counts studies
    feature    collimator_chest, …                    what entitles to a model
    product    collimator_basic_<packages>            a tier and the models that it opens
    price      collimator_basic_base_<terms>          licensed, flat, in advance
               collimator_basic_usage_<terms>         metered, graduated, afterwards

A price never changes at Stripe, nor does what a clinic agreed to: other terms are another price, with another key.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import stripe

from domain.plans import Plan, Tier
from metering.stripe.meter import CUSTOMER_KEY, EVENT_NAME, VALUE_KEY

PREFIX = "collimator"
CURRENCY = "usd"
PAGE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """The two prices of a plan, by their ids at Stripe."""

    base: str
    usage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    meter_id: str
    prices: Mapping[Tier, Prices]


def ensure_catalogue(client: stripe.StripeClient, plans: Mapping[Tier, Plan]) -> Catalogue:
    """Everything that the plans need; doing it again makes nothing more."""
    meter_id = _ensure_meter(client)
    features = {package: _ensure_feature(client, package) for package in _packages(plans)}
    return Catalogue(
        meter_id=meter_id,
        prices={tier: _ensure_prices(client, plan, meter_id, features) for tier, plan in plans.items()},
    )


def missing_from(client: stripe.StripeClient, plans: Mapping[Tier, Plan]) -> list[str]:
    """What Stripe does not have of it, by what each is called there; nothing is made."""
    missing = [] if _find_meter(client) else [f"meter {EVENT_NAME}"]
    missing += [f"feature {PREFIX}_{one}" for one in _packages(plans) if _find_feature(client, one) is None]
    for plan in plans.values():
        known = _find_prices(client, plan)
        missing += [f"price {key}" for key in price_keys(plan) if key not in known]
    return missing


def price_keys(plan: Plan) -> tuple[str, str]:
    """Of the base price and of the metered one."""
    base = _digest([plan.price_usd_cents, sorted(plan.packages)])
    usage = _digest([graduated_tiers(plan), sorted(plan.packages)])
    return f"{PREFIX}_{plan.tier}_base_{base}", f"{PREFIX}_{plan.tier}_usage_{usage}"


def graduated_tiers(plan: Plan) -> list[dict[str, Any]]:
    """What the n-th study of a period costs, as Stripe's graduated tiers: as `domain.plans.price_of` says."""
    if plan.studies_per_month is None:
        return [{"up_to": "inf", "unit_amount": 0}]
    included = [{"up_to": plan.studies_per_month, "unit_amount": 0}] if plan.studies_per_month else []
    usage: list[dict[str, Any]] = [
        {"up_to": "inf" if tier.up_to is None else tier.up_to, "unit_amount": tier.price_usd_cents}
        for tier in plan.usage_tiers
    ]
    # What goes beyond them goes on grace, and costs nothing.
    rest = [] if usage and usage[-1]["up_to"] == "inf" else [{"up_to": "inf", "unit_amount": 0}]
    return [*included, *usage, *rest]


def tier_of(lookup_key: str | None) -> Tier | None:
    """Whose base price it is that has this key; None: not one of ours."""
    parts = (lookup_key or "").split("_")
    if len(parts) != 4 or parts[0] != PREFIX or parts[2] != "base" or parts[1] not in set(Tier):
        return None
    return Tier(parts[1])


def package_of(lookup_key: str) -> str:
    return lookup_key.removeprefix(f"{PREFIX}_")


def _find_meter(client: stripe.StripeClient) -> str | None:
    listed = client.v1.billing.meters.list({"status": "active", "limit": PAGE}).auto_paging_iter()
    return next((str(meter.id) for meter in listed if meter.event_name == EVENT_NAME), None)


def _find_feature(client: stripe.StripeClient, package: str) -> str | None:
    listed = client.v1.entitlements.features.list({"lookup_key": f"{PREFIX}_{package}"})
    return next((str(feature.id) for feature in listed), None)


def _find_prices(client: stripe.StripeClient, plan: Plan) -> dict[str | None, str]:
    """Their ids by their lookup keys."""
    listed = client.v1.prices.list({"lookup_keys": list(price_keys(plan)), "limit": PAGE})
    return {price.lookup_key: str(price.id) for price in listed}


def _ensure_meter(client: stripe.StripeClient) -> str:
    known = _find_meter(client)
    if known is not None:
        return known
    made = client.v1.billing.meters.create(
        {
            "display_name": "Analysed studies",
            "event_name": EVENT_NAME,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
            "value_settings": {"event_payload_key": VALUE_KEY},
        },
        {"idempotency_key": f"{PREFIX}-meter"},
    )
    return str(made.id)


def _ensure_feature(client: stripe.StripeClient, package: str) -> str:
    known, key = _find_feature(client, package), f"{PREFIX}_{package}"
    if known is not None:
        return known
    made = client.v1.entitlements.features.create(
        {"lookup_key": key, "name": f"Model: {package}"}, {"idempotency_key": f"{key}-feature"}
    )
    return str(made.id)


def _ensure_prices(client: stripe.StripeClient, plan: Plan, meter_id: str, features: Mapping[str, str]) -> Prices:
    product = f"{PREFIX}_{plan.tier}_{_digest(sorted(plan.packages))}"
    base_key, usage_key = price_keys(plan)
    known = _find_prices(client, plan)
    _ensure_product(client, product, plan, features)
    recurring: Any = {"interval": "month"}
    base = known.get(base_key) or _make_price(
        client, base_key, product, {"unit_amount": plan.price_usd_cents, "recurring": recurring}
    )
    usage = known.get(usage_key) or _make_price(
        client,
        usage_key,
        product,
        {
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": graduated_tiers(plan),
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        },
    )
    return Prices(base=base, usage=usage)


def _ensure_product(client: stripe.StripeClient, product: str, plan: Plan, features: Mapping[str, str]) -> None:
    try:
        client.v1.products.retrieve(product)
    except stripe.InvalidRequestError as error:
        if error.http_status != 404:
            raise
        named: Any = {"id": product, "name": f"Collimator {plan.tier}", "metadata": {"collimator_tier": plan.tier}}
        client.v1.products.create(named, {"idempotency_key": f"{product}-product"})
    attached = {one.entitlement_feature.id for one in client.v1.products.features.list(product, {"limit": PAGE})}
    for package in sorted(plan.packages):
        if features[package] not in attached:
            client.v1.products.features.create(
                product,
                {"entitlement_feature": features[package]},
                {"idempotency_key": f"{product}-{package}"},
            )


def _make_price(client: stripe.StripeClient, key: str, product: str, terms: dict[str, Any]) -> str:
    asked: Any = {"product": product, "currency": CURRENCY, "lookup_key": key, "nickname": key} | terms
    return str(client.v1.prices.create(asked, {"idempotency_key": f"{key}-price"}).id)


def _packages(plans: Mapping[Tier, Plan]) -> list[str]:
    return sorted({package for plan in plans.values() for package in plan.packages})


def _digest(terms: object) -> str:
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:12]
