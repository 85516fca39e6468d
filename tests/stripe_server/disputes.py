"""Charges, and what becomes of them: refunds, which we ask for, and disputes, which a bank opens."""

from tests.stripe_server.account import Account
from tests.stripe_server.listing import page
from tests.stripe_server.problems import Json, Problem


def charge(account: Account, invoice: Json) -> Json:
    """What paid an invoice."""
    return account.add(
        "charge",
        "ch",
        {
            "customer": invoice["customer"],
            "amount": invoice["amount_due"],
            "amount_refunded": 0,
            "refunded": False,
            "disputed": False,
            "currency": "usd",
            "status": "succeeded",
        },
    )


def refund(account: Account, params: Json) -> Json:
    known = account.get("charge", params.get("charge", ""), "charge")
    amount = int(params.get("amount", known["amount"] - known["amount_refunded"]))
    if amount > known["amount"] - known["amount_refunded"] or amount <= 0:
        raise Problem("Refund amount is greater than unrefunded amount on charge.", param="amount")
    known["amount_refunded"] += amount
    known["refunded"] = known["amount_refunded"] == known["amount"]
    made = account.add("refund", "re", {"charge": known["id"], "amount": amount, "status": "succeeded"})
    account.emit("charge.refunded", known)
    return made


def dispute(account: Account, charge_id: str) -> Json:
    """A cardholder's bank takes the money back for now."""
    known = account.get("charge", charge_id)
    known["disputed"] = True
    made = account.add(
        "dispute",
        "dp",
        {"charge": charge_id, "amount": known["amount"], "reason": "fraudulent", "status": "needs_response"},
    )
    account.emit("charge.dispute.created", made)
    return made


def close_dispute(account: Account, dispute_id: str, status: str) -> Json:
    """`status`: won or lost."""
    known = account.get("dispute", dispute_id)
    known["status"] = status
    account.emit("charge.dispute.closed", known)
    return known


def retrieve_charge(account: Account, _params: Json, charge_id: str) -> Json:
    return account.get("charge", charge_id)


def list_charges(account: Account, params: Json) -> Json:
    found = [one for one in account.all("charge") if params.get("customer") in (None, one["customer"])]
    return page(found, params, url="/v1/charges")


def retrieve_dispute(account: Account, _params: Json, dispute_id: str) -> Json:
    return account.get("dispute", dispute_id)


def list_disputes(account: Account, params: Json) -> Json:
    found = [one for one in account.all("dispute") if params.get("charge") in (None, one["charge"])]
    return page(found, params, url="/v1/disputes")


ROUTES = {
    ("POST", r"/v1/refunds"): refund,
    ("GET", r"/v1/charges"): list_charges,
    ("GET", r"/v1/charges/([^/]+)"): retrieve_charge,
    ("GET", r"/v1/disputes"): list_disputes,
    ("GET", r"/v1/disputes/([^/]+)"): retrieve_dispute,
}
