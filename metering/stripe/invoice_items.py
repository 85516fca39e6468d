"""Invoice items: what the meter can no longer bring onto an invoice, and what is given back, row by row."""

from typing import Any

import stripe

LEDGER_ID, STUDIES, PERIOD = "collimator_ledger_id", "collimator_studies", "collimator_period"
CURRENCY = "usd"
PAGE = 100


def create(
    client: stripe.StripeClient,
    *,
    customer_id: str,
    ledger_id: int,
    period: str,
    studies: int,
    amount_usd_cents: int,
    key: str,
) -> str:
    """Its id. `studies`: 1 for a charge, -1 for a credit, 0 for one that leaves the study on the bill."""
    what = "Study" if studies > 0 else "Credit for a study"
    made = client.v1.invoice_items.create(
        {
            "customer": customer_id,
            "amount": amount_usd_cents,
            "currency": CURRENCY,
            "description": f"{what} of {period}, row {ledger_id} of the ledger",
            "metadata": {LEDGER_ID: str(ledger_id), STUDIES: str(studies), PERIOD: period},
        },
        {"idempotency_key": key},
    )
    return str(made.id)


def find(client: stripe.StripeClient, *, customer_id: str, ledger_id: int, since_s: int) -> str | None:
    """The id of the item that was made for this row of the ledger since then, if one was."""
    return find_by(client, customer_id=customer_id, name=LEDGER_ID, value=str(ledger_id), since_s=since_s)


def find_by(client: stripe.StripeClient, *, customer_id: str, name: str, value: str, since_s: int) -> str | None:
    """The id of the customer's item that has this in its metadata."""
    items = client.v1.invoice_items.list({"customer": customer_id, "created": {"gte": since_s}, "limit": PAGE})
    for item in items.auto_paging_iter():
        if metadata_of(item).get(name) == value:
            return str(item.id)
    return None


def metadata_of(item: stripe.StripeObject) -> dict[str, str]:
    plain: dict[str, Any] = item.to_dict()
    return dict(plain.get("metadata") or {})
