"""Invoices and their items: a draft for an hour, then final with what the meters have counted, then paid or not.

A meter event that arrives after its period's invoice was finalised is on no invoice, as with Stripe.
"""

from collections.abc import Iterator

from tests.stripe_server import disputes
from tests.stripe_server.account import DAY_S, HOUR_S, Account
from tests.stripe_server.catalogue import amount_for
from tests.stripe_server.customers import DECLINED, payment_method
from tests.stripe_server.listing import created_between, page
from tests.stripe_server.meters import counted
from tests.stripe_server.problems import Json, Problem, invalid, missing

DRAFT_FOR_S = HOUR_S


def create_item(account: Account, params: Json) -> Json:
    account.get("customer", params.get("customer", ""), "customer")
    if "amount" not in params:
        raise missing("amount")
    if not params.get("currency"):
        raise missing("currency")
    try:
        amount = int(params["amount"])
    except ValueError:
        raise invalid("amount", f"Invalid integer: {params['amount']}") from None
    return add_item(
        account,
        customer=params["customer"],
        amount=amount,
        description=params.get("description", ""),
        metadata=params.get("metadata", {}),
    )


def add_item(
    account: Account,
    *,
    customer: str,
    amount: int,
    description: str,
    metadata: Json,
    proration: bool = False,
    of_usage: Json | None = None,
) -> Json:
    """It waits for the customer's next invoice. `of_usage`: a line of its own for it."""
    shown = of_usage or line(amount, None, 1, start=account.now, end=account.now, metadata=metadata)
    return account.add(
        "invoiceitem",
        "ii",
        {
            "customer": customer,
            "amount": amount,
            "currency": "usd",
            "description": description,
            "metadata": metadata,
            "proration": proration,
            "invoice": None,
            "date": int(account.now),
            "pricing": shown["pricing"],
            "quantity": shown["quantity"],
            "period": shown["period"],
            "_line": shown,
        },
    )


def list_items(account: Account, params: Json) -> Json:
    found = [
        one
        for one in account.all("invoiceitem")
        if params.get("customer") in (None, one["customer"]) and not ("pending" in params and one["invoice"])
    ]
    return page(created_between(found, params), params, url="/v1/invoiceitems")


def retrieve(account: Account, _params: Json, invoice: str) -> Json:
    return account.get("invoice", invoice)


def listed(account: Account, params: Json) -> Json:
    found = [
        one
        for one in account.all("invoice")
        if params.get("customer") in (None, one["customer"])
        and params.get("subscription") in (None, one["_subscription"])
        and params.get("status") in (None, one["status"])
    ]
    return page(created_between(found, params), params, url="/v1/invoices")


def list_lines(account: Account, params: Json, invoice: str) -> Json:
    lines = [{"id": f"il_{invoice}_{n}"} | one for n, one in enumerate(account.get("invoice", invoice)["_lines"])]
    return page(lines[::-1], params, url=f"/v1/invoices/{invoice}/lines")


def pay(account: Account, _params: Json, invoice: str) -> Json:
    known = account.get("invoice", invoice)
    if known["status"] != "open":
        raise Problem("Invoice is not open.", code="invoice_not_open")
    _paid(account, known)
    return known


def line(
    amount: int, price: Json | None, quantity: int, *, start: float, end: float, metadata: Json | None = None
) -> Json:
    """One line of an invoice. Since API 2025-03-31.basil its price is in `pricing`."""
    details = None if price is None else {"price": price["id"], "product": price["product"]}
    return {
        "object": "line_item",
        "amount": amount,
        "currency": "usd",
        "quantity": quantity,
        "pricing": details and {"type": "price_details", "price_details": details},
        "period": {"start": int(start), "end": int(end)},
        "metadata": metadata or {},
    }


def issue(account: Account, subscription: Json, reason: str, lines: list[Json], *, metered: list[Json]) -> Json:
    """A draft. The first invoice of a subscription, and the last one, are final at once."""
    invoice = account.add(
        "invoice",
        "in",
        {
            "customer": subscription["customer"],
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": subscription["id"]}},
            "_subscription": subscription["id"],
            "billing_reason": reason,
            "collection_method": subscription["collection_method"],
            "status": "draft",
            "_lines": list(lines),
            "lines": _first_lines(lines),
            "total": None,
            "amount_due": None,
            "due_date": None,
            "_intervals": metered,
        },
    )
    subscription["latest_invoice"] = invoice["id"]
    account.emit("invoice.created", invoice)
    if reason != "subscription_cycle":
        finalise(account, invoice)
    return invoice


def _first_lines(lines: list[Json]) -> Json:
    """An invoice shows ten of its lines."""
    return {"object": "list", "data": lines[:10], "has_more": len(lines) > 10}


def finalise(account: Account, invoice: Json) -> None:
    lines = invoice["_lines"]
    for interval in invoice["_intervals"]:
        quantity, amount = usage(account, invoice["customer"], interval)
        lines.append(line(amount, interval["price"], quantity, start=interval["start"], end=interval["end"]))
    for item in account.all("invoiceitem"):
        if item["customer"] == invoice["customer"] and item["invoice"] is None:
            item["invoice"] = invoice["id"]
            lines.append(item["_line"])
    invoice["lines"] = _first_lines(lines)
    customer = account.get("customer", invoice["customer"])
    total = sum(one["amount"] for one in lines)
    due = total + customer.get("balance", 0)
    customer["balance"] = min(due, 0)
    subscription = account.get("subscription", invoice["_subscription"])
    days = subscription["days_until_due"]
    invoice |= {"status": "open", "total": total, "amount_due": max(due, 0)}
    invoice["due_date"] = None if days is None else int(account.now) + days * DAY_S
    account.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        _paid(account, invoice)
    elif invoice["collection_method"] == "charge_automatically":
        method = subscription["default_payment_method"] or payment_method(account, invoice["customer"])
        if method == DECLINED:
            _failed(account, invoice, subscription)
        else:
            _paid(account, invoice)


def dues(account: Account) -> Iterator[tuple[float, str, Json]]:
    """Drafts that become final, and invoices whose day has come."""
    for invoice in account.all("invoice"):
        if invoice["status"] == "draft":
            yield invoice["created"] + DRAFT_FOR_S, "finalise", invoice
        elif invoice["status"] == "open" and invoice["due_date"] is not None and not invoice.get("is_overdue"):
            yield invoice["due_date"], "overdue", invoice


def happen(account: Account, what: str, invoice: Json) -> None:
    if what == "finalise":
        finalise(account, invoice)
    else:
        invoice["is_overdue"] = True
        _failed(account, invoice, account.get("subscription", invoice["_subscription"]))


def _failed(account: Account, invoice: Json, subscription: Json) -> None:
    account.emit("invoice.payment_failed", invoice)
    if subscription["status"] == "active":
        before, subscription["status"] = subscription["status"], "past_due"
        subscription["failed_at"] = account.now
        account.emit("customer.subscription.updated", subscription, previous={"status": before})


def _paid(account: Account, invoice: Json) -> None:
    invoice["status"] = "paid"
    if invoice["amount_due"]:
        disputes.charge(account, invoice)
    account.emit("invoice.paid", invoice)
    subscription = account.get("subscription", invoice["_subscription"])
    still_open = any(
        one["status"] == "open" and one["_subscription"] == subscription["id"] for one in account.all("invoice")
    )
    if subscription["status"] in ("past_due", "unpaid") and not still_open:
        before, subscription["status"] = subscription["status"], "active"
        account.emit("customer.subscription.updated", subscription, previous={"status": before})


def usage(account: Account, customer: str, interval: Json) -> tuple[int, int]:
    """Units that a metered price has counted in its interval, and the cents that they cost; a trial costs nothing."""
    price = interval["price"]
    meter = account.get("billing.meter", price["recurring"]["meter"])
    quantity = counted(account, meter, customer, interval["start"], interval["end"])
    return quantity, 0 if interval["trial"] else amount_for(price, quantity)


ROUTES = {
    ("POST", r"/v1/invoiceitems"): create_item,
    ("GET", r"/v1/invoiceitems"): list_items,
    ("GET", r"/v1/invoices"): listed,
    ("GET", r"/v1/invoices/([^/]+)"): retrieve,
    ("GET", r"/v1/invoices/([^/]+)/lines"): list_lines,
    ("POST", r"/v1/invoices/([^/]+)/pay"): pay,
}
