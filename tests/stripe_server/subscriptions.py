"""Subscriptions and their items, from the first invoice to the last; the current period is told by each item.

created -> active | incomplete      active -> past_due (a payment failed) -> unpaid (three weeks later) -> active (paid)
        -> canceled | paused        a change in mid-period is prorated by the second

A metered price that is replaced in mid-period becomes an invoice item for what was counted until then, and the new one
counts from there (billing mode flexible); in the classic mode what was used until then is on no invoice at all.
"""

from collections.abc import Iterator

from tests.stripe_server import invoices
from tests.stripe_server.account import DAY_S, Account
from tests.stripe_server.catalogue import amount_for, features_of
from tests.stripe_server.customers import payment_method
from tests.stripe_server.listing import page
from tests.stripe_server.months import Anchor, anchor_at, anchor_of
from tests.stripe_server.problems import Json, Problem, invalid, missing

UNPAID_AFTER_S = 21 * DAY_S
ENTITLED = ("active", "trialing", "past_due")
LIVING = (*ENTITLED, "unpaid", "paused")
TEXTS = ("cancel_at_period_end", "collection_method", "days_until_due", "default_payment_method", "description")


def create(account: Account, params: Json) -> Json:
    customer = account.get("customer", params.get("customer", ""), "customer")
    if not params.get("items"):
        raise missing("items")
    automatic = params.get("collection_method", "charge_automatically") == "charge_automatically"
    if not automatic and "days_until_due" not in params:
        raise missing("days_until_due")
    if automatic and not (params.get("default_payment_method") or payment_method(account, customer["id"])):
        raise Problem(
            "This customer has no attached payment source or default payment method.",
            code="resource_missing",
        )
    start, trial_end = int(account.now), int(params.get("trial_end", 0))
    whole = anchor_at(start).after(start)
    anchor = _anchor(params, start, whole)
    end = trial_end or anchor.after(start)
    subscription = account.add(
        "subscription",
        "sub",
        {
            "customer": customer["id"],
            "status": "trialing" if trial_end else "active",
            "trial_end": trial_end or None,
            "billing_mode": params.get("billing_mode", {"type": "flexible"}),
            "currency": "usd",
            "billing_cycle_anchor": anchor.after(start) if end != whole else start,
            "_anchor": (anchor.day, anchor.second),
            "cancel_at_period_end": False,
            "canceled_at": None,
            "ended_at": None,
            "pause_collection": None,
            "collection_method": params.get("collection_method", "charge_automatically"),
            "days_until_due": _number(params.get("days_until_due")),
            "default_payment_method": params.get("default_payment_method"),
            "start_date": start,
            "metadata": params.get("metadata", {}),
            "items": {"object": "list", "data": [], "has_more": False},
            "latest_invoice": None,
        },
    )
    for asked in params["items"]:
        _add_item(account, subscription, asked, start, end)
    account.emit("customer.subscription.created", subscription)
    lines = [] if trial_end else _flat_lines(subscription, (end - start) / (whole - start))
    invoices.issue(account, subscription, "subscription_create", lines, metered=[])
    _tell_entitlements(account, customer["id"])
    return subscription


def _anchor(params: Json, start: int, whole: int) -> Anchor:
    config, given = params.get("billing_cycle_anchor_config"), params.get("billing_cycle_anchor")
    if config is not None and given is not None:
        raise invalid("billing_cycle_anchor", "billing_cycle_anchor and its config are mutually exclusive")
    if config is not None:
        return anchor_of(config)
    if given is not None and not start < int(given) <= whole:
        raise invalid("billing_cycle_anchor", "billing_cycle_anchor must be in the future, and within one period")
    return anchor_at(start if given is None else int(given))


def retrieve(account: Account, _params: Json, subscription: str) -> Json:
    return account.get("subscription", subscription)


def listed(account: Account, params: Json) -> Json:
    status = params.get("status", "")
    found = [
        one
        for one in account.all("subscription")
        if params.get("customer") in (None, one["customer"])
        and (status == "all" or (one["status"] == status if status else one["status"] != "canceled"))
    ]
    return page(found, params, url="/v1/subscriptions")


def update(account: Account, params: Json, subscription: str) -> Json:
    known = account.get("subscription", subscription)
    if known["status"] == "canceled":
        raise Problem("A canceled subscription can only update its cancellation_details and metadata.")
    before = known["status"]
    for name in TEXTS:
        if name in params:
            known[name] = {"true": True, "false": False}.get(params[name], params[name])
    known["metadata"] |= params.get("metadata", {})
    if "pause_collection" in params:
        known["pause_collection"] = params["pause_collection"] or None
    for asked in params.get("items", []):
        _change_item(account, known, asked, prorates=params.get("proration_behavior") != "none")
    account.emit("customer.subscription.updated", known, previous={"status": before})
    _tell_entitlements(account, known["customer"])
    return known


def cancel(account: Account, params: Json, subscription: str) -> Json:
    known = account.get("subscription", subscription)
    if known["status"] == "canceled":
        raise Problem("No such subscription", status=404, code="resource_missing", param="id")
    _end(account, known, invoices_now=params.get("invoice_now") == "true")
    return known


def resume(account: Account, _params: Json, subscription: str) -> Json:
    known = account.get("subscription", subscription)
    if known["status"] != "paused":
        raise Problem("You can only resume subscriptions with the `paused` status.")
    change_status(account, known, "active", event="customer.subscription.resumed")
    return known


def list_items(account: Account, params: Json) -> Json:
    known = account.get("subscription", params.get("subscription", ""), "subscription")
    return page(known["items"]["data"], params, url="/v1/subscription_items")


def change_status(account: Account, subscription: Json, status: str, *, event: str = "updated") -> None:
    """What payments, disputes and time do to it; the tests do it by hand where Stripe needs a person."""
    before, subscription["status"] = subscription["status"], status
    name = event if "." in event else f"customer.subscription.{event}"
    account.emit(name, subscription, previous={"status": before})
    _tell_entitlements(account, subscription["customer"])


def dues(account: Account) -> Iterator[tuple[float, str, Json]]:
    """(when, what, subscription) of what time will do to them."""
    for one in account.all("subscription"):
        if one["status"] not in LIVING:
            continue
        yield one["items"]["data"][0]["current_period_end"], "renew", one
        failed_at = one.get("failed_at")
        if one["status"] == "past_due" and failed_at is not None:
            yield failed_at + UNPAID_AFTER_S, "give up", one


def happen(account: Account, what: str, subscription: Json) -> None:
    if what == "give up":
        change_status(account, subscription, "unpaid")
    elif subscription["cancel_at_period_end"]:
        _end(account, subscription, invoices_now=True)
    else:
        _renew(account, subscription)


def active_entitlements(account: Account, params: Json) -> Json:
    if "customer" not in params:
        raise missing("customer")
    account.get("customer", params["customer"], "customer")
    url = "/v1/entitlements/active_entitlements"
    return page(_entitlements(account, params["customer"]), params, url=url)


def _entitlements(account: Account, customer: str) -> list[Json]:
    features = {
        attached["entitlement_feature"]["id"]: attached["entitlement_feature"]
        for one in account.all("subscription")
        if one["customer"] == customer and one["status"] in ENTITLED
        for item in one["items"]["data"]
        for attached in features_of(account, item["price"]["product"])
    }
    return [
        {
            "id": f"ent_{customer}_{feature['id']}",
            "object": "entitlements.active_entitlement",
            "feature": feature["id"],
            "livemode": account.livemode,
            "lookup_key": feature["lookup_key"],
        }
        for feature in features.values()
    ]


def _tell_entitlements(account: Account, customer: str) -> None:
    account.emit(
        "entitlements.active_entitlement_summary.updated",
        {
            "object": "entitlements.active_entitlement_summary",
            "customer": customer,
            "livemode": account.livemode,
            "entitlements": {"object": "list", "data": _entitlements(account, customer), "has_more": False},
        },
    )


def _renew(account: Account, subscription: Json) -> None:
    """The period that ended is invoiced for what was used in it, the next one for its flat fee."""
    ended = subscription["items"]["data"][0]["current_period_end"]
    day, second = subscription["_anchor"]
    upcoming = Anchor(day=day, second=second).after(ended)
    metered = _close_intervals(account, subscription, ended, begins_anew=True)
    for item in subscription["items"]["data"]:
        item["current_period_start"], item["current_period_end"] = ended, upcoming
    # After a trial the first period is as long as it takes to the anchor.
    share = min(1.0, (upcoming - ended) / (anchor_at(ended).after(ended) - ended))
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    else:
        share = 1.0
    account.emit("customer.subscription.updated", subscription)
    invoices.issue(account, subscription, "subscription_cycle", _flat_lines(subscription, share), metered=metered)


def _end(account: Account, subscription: Json, *, invoices_now: bool) -> None:
    metered = _close_intervals(account, subscription, account.now, begins_anew=False)
    subscription |= {"canceled_at": int(account.now), "ended_at": int(account.now)}
    if invoices_now:
        invoices.issue(account, subscription, "subscription_cancel", [], metered=metered)
    change_status(account, subscription, "canceled", event="deleted")


def _add_item(account: Account, subscription: Json, asked: Json, start: int, end: int) -> Json:
    price = account.get("price", asked.get("price", ""), "items[price]")
    metered = price["recurring"]["usage_type"] == "metered"
    if metered and "quantity" in asked:
        raise invalid("items[quantity]", "You cannot set the quantity on metered plans.")
    item = {
        "id": account.new_id("si"),
        "object": "subscription_item",
        "created": int(account.now),
        "current_period_start": start,
        "current_period_end": end,
        "price": price,
        "quantity": None if metered else int(asked.get("quantity", 1)),
        "subscription": subscription["id"],
        "metadata": {},
    }
    subscription["items"]["data"].append(item)
    if metered:
        _open_interval(account, subscription, price)
    return item


def _change_item(account: Account, subscription: Json, asked: Json, *, prorates: bool) -> None:
    items = subscription["items"]["data"]
    item = next((one for one in items if one["id"] == asked.get("id")), None)
    if item is None:
        if "id" in asked:
            raise Problem(f"No such subscription item: '{asked['id']}'", status=404, code="resource_missing")
        first = items[0]
        _add_item(account, subscription, asked, first["current_period_start"], first["current_period_end"])
        return
    if asked.get("deleted") == "true":
        items.remove(item)
        return
    price = account.get("price", asked.get("price", item["price"]["id"]), "items[price]")
    if price["id"] == item["price"]["id"]:
        return
    if item["price"]["recurring"]["usage_type"] == "metered":
        _bill_usage_until_now(account, subscription, prorates=prorates)
        _open_interval(account, subscription, price)
    elif prorates:
        _prorate(account, subscription, item, price)
    item["price"] = price


def _prorate(account: Account, subscription: Json, item: Json, price: Json) -> None:
    """Back what is left of the old price, and ask what is left for the new one."""
    length = item["current_period_end"] - item["current_period_start"]
    left = (item["current_period_end"] - account.now) / length
    for one, sign, what in ((item["price"], -1, "Unused time on"), (price, 1, "Remaining time on")):
        amount = sign * round(amount_for(one, item["quantity"]) * left)
        invoices.add_item(
            account,
            customer=subscription["customer"],
            amount=amount,
            description=f"{what} {one['nickname'] or one['id']}",
            metadata={},
            proration=True,
        )


def _bill_usage_until_now(account: Account, subscription: Json, *, prorates: bool) -> None:
    closed = _close_intervals(account, subscription, account.now, begins_anew=False)
    if subscription["billing_mode"]["type"] == "classic" or not prorates:
        return
    for interval in closed:
        quantity, amount = invoices.usage(account, subscription["customer"], interval)
        invoices.add_item(
            account,
            customer=subscription["customer"],
            amount=amount,
            description="Usage until the price changed",
            metadata={},
            of_usage=invoices.line(amount, interval["price"], quantity, start=interval["start"], end=interval["end"]),
        )


def _open_interval(account: Account, subscription: Json, price: Json) -> None:
    fields: Json = {"subscription": subscription["id"], "price": price, "end": None, "invoiced": False}
    fields |= {"start": account.now, "trial": subscription["status"] == "trialing"}
    account.add("interval", "int", fields)


def _close_intervals(account: Account, subscription: Json, at: float, *, begins_anew: bool) -> list[Json]:
    """What the metered prices count, up to now: whoever asks puts it on an invoice."""
    closed = [
        one for one in account.all("interval") if one["subscription"] == subscription["id"] and not one["invoiced"]
    ]
    for interval in closed:
        interval |= {"end": at, "invoiced": True}
        if begins_anew:
            fields = {name: interval[name] for name in ("subscription", "price")}
            account.add("interval", "int", fields | {"start": at, "end": None, "invoiced": False, "trial": False})
    return closed


def _flat_lines(subscription: Json, share: float) -> list[Json]:
    """The licensed items' price for a share of the period."""
    return [
        invoices.line(
            round(amount_for(item["price"], item["quantity"]) * share),
            item["price"],
            item["quantity"],
            start=item["current_period_start"],
            end=item["current_period_end"],
        )
        for item in _licensed(subscription)
    ]


def _licensed(subscription: Json) -> list[Json]:
    return [item for item in subscription["items"]["data"] if item["price"]["recurring"]["usage_type"] == "licensed"]


def _number(text: object) -> int | None:
    return None if text is None else int(str(text))


ROUTES = {
    ("POST", r"/v1/subscriptions"): create,
    ("GET", r"/v1/subscriptions"): listed,
    ("GET", r"/v1/subscriptions/([^/]+)"): retrieve,
    ("POST", r"/v1/subscriptions/([^/]+)"): update,
    ("DELETE", r"/v1/subscriptions/([^/]+)"): cancel,
    ("POST", r"/v1/subscriptions/([^/]+)/resume"): resume,
    ("GET", r"/v1/subscription_items"): list_items,
    ("GET", r"/v1/entitlements/active_entitlements"): active_entitlements,
}
