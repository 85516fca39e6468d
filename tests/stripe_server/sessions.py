"""Links for people: Checkout, where a clinic subscribes, and the customer portal, where it looks after that."""

from tests.stripe_server import subscriptions
from tests.stripe_server.account import Account
from tests.stripe_server.problems import Json, Problem, invalid, missing

CHECKOUT_FOR_S = 24 * 3600


def create_checkout(account: Account, params: Json) -> Json:
    if params.get("mode") != "subscription":
        raise invalid("mode", "Invalid mode: must be subscription here")
    if not params.get("line_items"):
        raise missing("line_items")
    for name in ("success_url",):
        if name not in params:
            raise missing(name)
    account.get("customer", params.get("customer", ""), "customer")
    for item in params["line_items"]:
        price = account.get("price", item.get("price", ""), "line_items[price]")
        if price["recurring"]["usage_type"] == "metered" and "quantity" in item:
            raise invalid("line_items[quantity]", "Quantity should not be specified for metered prices.")
        if price["recurring"]["usage_type"] == "licensed" and "quantity" not in item:
            raise Problem("Quantity is required. Add `quantity` to `line_items[0]`", param="line_items[quantity]")
    session = account.add(
        "checkout.session",
        "cs_test",
        {
            "mode": "subscription",
            "customer": params["customer"],
            "line_items_asked": params["line_items"],
            "success_url": params["success_url"],
            "client_reference_id": params.get("client_reference_id"),
            "metadata": params.get("metadata", {}),
            "subscription_data": params.get("subscription_data", {}),
            "status": "open",
            "subscription": None,
            "expires_at": int(account.now) + CHECKOUT_FOR_S,
        },
    )
    session["url"] = f"https://checkout.stripe.com/c/pay/{session['id']}"
    return session


def complete_checkout(account: Account, session_id: str, payment_method: str = "pm_card_visa") -> Json:
    """What a person at the clinic does: types in a card and confirms."""
    session = account.get("checkout.session", session_id)
    if session["status"] != "open" or session["expires_at"] < account.now:
        raise Problem("This Checkout Session is no longer open.")
    account.get("customer", session["customer"])["invoice_settings"]["default_payment_method"] = payment_method
    asked = session["subscription_data"] | {"customer": session["customer"], "items": session["line_items_asked"]}
    subscription = subscriptions.create(account, asked)
    session |= {"status": "complete", "subscription": subscription["id"]}
    account.emit("checkout.session.completed", session)
    return subscription


def retrieve_checkout(account: Account, _params: Json, session: str) -> Json:
    return account.get("checkout.session", session)


def create_portal(account: Account, params: Json) -> Json:
    account.get("customer", params.get("customer", ""), "customer")
    session = account.add(
        "billing_portal.session", "bps", {"customer": params["customer"], "return_url": params.get("return_url")}
    )
    session["url"] = f"https://billing.stripe.com/p/session/{session['id']}"
    return session


ROUTES = {
    ("POST", r"/v1/checkout/sessions"): create_checkout,
    ("GET", r"/v1/checkout/sessions/([^/]+)"): retrieve_checkout,
    ("POST", r"/v1/billing_portal/sessions"): create_portal,
}
