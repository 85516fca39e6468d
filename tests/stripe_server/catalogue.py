"""Products, prices (licensed and flat, metered and graduated), and the features that products entitle to."""

from itertools import pairwise
from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.listing import page
from tests.stripe_server.problems import Json, Problem, invalid, missing

INTERVALS = {"day", "week", "month", "year"}


def create_product(account: Account, params: Json) -> Json:
    if not params.get("name"):
        raise missing("name")
    given = params.get("id")
    if given in account.objects["product"]:
        raise Problem("Product already exists.", code="resource_already_exists", param="id")
    product = account.add("product", "prod", {"name": params["name"], "active": True} | _described(params))
    if given:
        del account.objects["product"][product["id"]]
        product["id"] = given
        account.objects["product"][given] = product
    return product


def retrieve_product(account: Account, _params: Json, product: str) -> Json:
    return account.get("product", product)


def update_product(account: Account, params: Json, product: str) -> Json:
    known = account.get("product", product)
    known.update({name: params[name] for name in ("name", "description", "metadata") if name in params})
    return known


def list_products(account: Account, params: Json) -> Json:
    return page(account.all("product"), params, url="/v1/products")


def create_price(account: Account, params: Json) -> Json:
    account.get("product", params.get("product", ""), "product")
    recurring = params.get("recurring") or {}
    if recurring.get("interval") not in INTERVALS:
        raise invalid("recurring[interval]", "Invalid interval: must be one of day, month, week, or year")
    usage_type = recurring.setdefault("usage_type", "licensed")
    if usage_type == "metered":
        # Usage records are gone: a metered price without a meter is refused (API 2025-03-31.basil).
        if not recurring.get("meter"):
            raise missing("recurring[meter]")
        account.get("billing.meter", recurring["meter"], "recurring[meter]")
    scheme = params.get("billing_scheme", "per_unit")
    fields: Json = {
        "product": params["product"],
        "currency": params.get("currency") or _fail(missing("currency")),
        "recurring": recurring,
        "billing_scheme": scheme,
        "type": "recurring",
        "active": True,
        "nickname": params.get("nickname"),
        "lookup_key": None,
    }
    if scheme == "tiered":
        fields |= {"tiers_mode": params.get("tiers_mode"), "tiers": _tiers(params)}
    else:
        amount = int(params.get("unit_amount") or _fail(missing("unit_amount")))
        if amount < 0:
            raise invalid("unit_amount", "Invalid non-negative integer")
        fields["unit_amount"] = amount
    price = account.add("price", "price", fields | _described(params))
    if params.get("lookup_key"):
        _give_lookup_key(account, price, params["lookup_key"], takes=params.get("transfer_lookup_key") == "true")
    return price


def _tiers(params: Json) -> list[Json]:
    if params.get("tiers_mode") not in ("graduated", "volume"):
        raise missing("tiers_mode")
    tiers = [
        {
            "up_to": None if tier.get("up_to") == "inf" else int(tier["up_to"]),
            "unit_amount": int(tier.get("unit_amount", 0)),
            "flat_amount": int(tier["flat_amount"]) if "flat_amount" in tier else None,
        }
        for tier in params.get("tiers") or _fail(missing("tiers"))
    ]
    *bounds, last = [float("inf") if tier["up_to"] is None else tier["up_to"] for tier in tiers]
    if last != float("inf") or any(bound >= later for bound, later in pairwise([*bounds, last])):
        raise invalid("tiers", "Tiers must be in ascending order, and the last one must be up to inf")
    return tiers


def _give_lookup_key(account: Account, price: Json, key: str, *, takes: bool) -> None:
    for other in account.all("price"):
        if other["lookup_key"] == key:
            if not takes:
                raise invalid("lookup_key", f"A price (`{other['id']}`) already uses that lookup key.")
            other["lookup_key"] = None
    price["lookup_key"] = key


def retrieve_price(account: Account, _params: Json, price: str) -> Json:
    return account.get("price", price)


def list_prices(account: Account, params: Json) -> Json:
    keys = params.get("lookup_keys")
    found = [price for price in account.all("price") if keys is None or price["lookup_key"] in keys]
    return page(found, params, url="/v1/prices")


def create_feature(account: Account, params: Json) -> Json:
    key = params.get("lookup_key") or _fail(missing("lookup_key"))
    if any(feature["lookup_key"] == key for feature in account.all("entitlements.feature")):
        raise invalid("lookup_key", f"A feature with the lookup key {key} already exists.")
    fields = {"lookup_key": key, "name": params.get("name") or _fail(missing("name")), "active": True}
    return account.add("entitlements.feature", "feat", fields)


def list_features(account: Account, params: Json) -> Json:
    key = params.get("lookup_key")
    found = [one for one in account.all("entitlements.feature") if key in (None, one["lookup_key"])]
    return page(found, params, url="/v1/entitlements/features")


def attach_feature(account: Account, params: Json, product: str) -> Json:
    account.get("product", product)
    feature = account.get("entitlements.feature", params.get("entitlement_feature", ""), "entitlement_feature")
    if any(feature["id"] == one["entitlement_feature"]["id"] for one in features_of(account, product)):
        raise Problem("This feature is already attached to this product.", code="resource_already_exists")
    return account.add("product_feature", "prodft", {"product": product, "entitlement_feature": feature})


def list_attached(account: Account, params: Json, product: str) -> Json:
    return page(features_of(account, product), params, url=f"/v1/products/{product}/features")


def features_of(account: Account, product: str) -> list[Json]:
    return [one for one in account.all("product_feature") if one["product"] == product]


def amount_for(price: Json, quantity: int) -> int:
    """Cents for so many units."""
    if price["billing_scheme"] == "per_unit":
        return int(price["unit_amount"]) * quantity
    total, done = 0, 0
    for tier in price["tiers"]:
        upper = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        if upper > done:
            total += (upper - done) * tier["unit_amount"] + (tier["flat_amount"] or 0)
            done = upper
    return total


def _described(params: Json) -> Json:
    return {"description": params.get("description"), "metadata": params.get("metadata", {})}


def _fail(problem: Problem) -> Any:
    raise problem


ROUTES = {
    ("POST", r"/v1/products"): create_product,
    ("GET", r"/v1/products"): list_products,
    ("GET", r"/v1/products/([^/]+)"): retrieve_product,
    ("POST", r"/v1/products/([^/]+)"): update_product,
    ("POST", r"/v1/products/([^/]+)/features"): attach_feature,
    ("GET", r"/v1/products/([^/]+)/features"): list_attached,
    ("POST", r"/v1/prices"): create_price,
    ("GET", r"/v1/prices"): list_prices,
    ("GET", r"/v1/prices/([^/]+)"): retrieve_price,
    ("POST", r"/v1/entitlements/features"): create_feature,
    ("GET", r"/v1/entitlements/features"): list_features,
}
