"""Customers, and whether their payments go through: `pm_card_visa` does, `pm_card_chargeCustomerFail` does not."""

from tests.stripe_server.account import Account
from tests.stripe_server.listing import created_between, page
from tests.stripe_server.problems import Json

FIELDS = (
    "name",
    "email",
    "phone",
    "address",
    "description",
    "metadata",
    "preferred_locales",
    "test_clock",
    "tax_exempt",
)
DECLINED = "pm_card_chargeCustomerFail"


def create(account: Account, params: Json) -> Json:
    fields = {name: params.get(name) for name in FIELDS} | {"metadata": params.get("metadata", {})}
    return account.add(
        "customer", "cus", fields | {"invoice_settings": {"default_payment_method": params.get("payment_method")}}
    )


def retrieve(account: Account, _params: Json, customer: str) -> Json:
    return account.get("customer", customer)


def update(account: Account, params: Json, customer: str) -> Json:
    known = account.get("customer", customer)
    settings = params.pop("invoice_settings", {})
    known["invoice_settings"] = known["invoice_settings"] | settings
    known["metadata"] = known["metadata"] | params.pop("metadata", {})
    known.update(params)
    return known


def own_account(account: Account, _params: Json) -> Json:
    """Whose the key is."""
    return {"id": account.account_id, "object": "account"}


def delete(account: Account, _params: Json, customer: str) -> Json:
    """It is told of afterwards as deleted, and as nothing else."""
    account.get("customer", customer)
    account.objects["customer"][customer] = {"id": customer, "object": "customer", "deleted": True}
    return account.get("customer", customer)


def listed(account: Account, params: Json) -> Json:
    found = [one for one in _living(account) if params.get("email") in (None, one["email"])]
    return page(created_between(found, params), params, url="/v1/customers")


def search(account: Account, params: Json) -> Json:
    """Only what is asked here: metadata['collimator_clinic']:'st-mary'."""
    key, _, value = params["query"].partition(":")
    name, wanted = key.removeprefix("metadata[").strip("]'\""), value.strip("'\"")
    found = [one for one in _living(account) if one["metadata"].get(name) == wanted]
    return {"object": "search_result", "url": "/v1/customers/search", "data": found, "has_more": False}


def _living(account: Account) -> list[Json]:
    return [one for one in account.all("customer") if not one.get("deleted")]


def payment_method(account: Account, customer: str) -> str | None:
    method: str | None = account.get("customer", customer)["invoice_settings"]["default_payment_method"]
    return method


ROUTES = {
    ("GET", r"/v1/account"): own_account,
    ("POST", r"/v1/customers"): create,
    ("GET", r"/v1/customers"): listed,
    ("GET", r"/v1/customers/search"): search,
    ("GET", r"/v1/customers/([^/]+)"): retrieve,
    ("POST", r"/v1/customers/([^/]+)"): update,
    ("DELETE", r"/v1/customers/([^/]+)"): delete,
}
