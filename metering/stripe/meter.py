"""Meter events: one for each charged study, its cancellation, and what Stripe has counted of them.

What goes there is a keyed hash in the place of the study, the customer's id, the number 1, and the time.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Any

import stripe

EVENT_NAME = "collimator_study"
CUSTOMER_KEY, VALUE_KEY = "stripe_customer_id", "value"
A_MINUTE = timedelta(minutes=1)


def identifier_of(identifier_key: str, study_instance_uid: str, round_: int = 0) -> str:
    """HMAC-SHA-256 by the clinic's own key, so that nobody who has a Study Instance UID can ask for it at Stripe."""
    said = study_instance_uid if round_ == 0 else f"{study_instance_uid} {round_}"
    return hmac.new(bytes.fromhex(identifier_key), said.encode(), hashlib.sha256).hexdigest()


def idempotency_key(identifier: str, errors: int) -> str:
    """The identifier; after a fault that Stripe would repeat, another one: the identifier still lets it count once."""
    return identifier if errors == 0 else f"{identifier}-{errors}"


def send(client: stripe.StripeClient, *, customer_id: str, identifier: str, metered_at: datetime, errors: int) -> Any:
    return client.v1.billing.meter_events.create(
        {
            "event_name": EVENT_NAME,
            "identifier": identifier,
            "payload": {CUSTOMER_KEY: customer_id, VALUE_KEY: "1"},
            "timestamp": int(metered_at.timestamp()),
        },
        {"idempotency_key": idempotency_key(identifier, errors)},
    )


def cancel(client: stripe.StripeClient, *, identifier: str, errors: int) -> Any:
    return client.v1.billing.meter_event_adjustments.create(
        {"event_name": EVENT_NAME, "type": "cancel", "cancel": {"identifier": identifier}},
        {"idempotency_key": idempotency_key(f"cancel-{identifier}", errors)},
    )


def counted_in_minute(client: stripe.StripeClient, *, meter_id: str, customer_id: str, minute: datetime) -> int:
    """What Stripe has counted for the customer in the minute that begins at `minute`."""
    summaries = client.v1.billing.meters.event_summaries.list(
        meter_id,
        {
            "customer": customer_id,
            "start_time": int(minute.timestamp()),
            "end_time": int((minute + A_MINUTE).timestamp()),
            "limit": 100,
        },
    )
    return round(sum(summary.aggregated_value for summary in summaries.auto_paging_iter()))


def minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
