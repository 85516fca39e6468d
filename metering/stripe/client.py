"""Opens Stripe's client: the real one, with the habits that a ledger needs."""

import stripe

from domain.identity import MODEL_NAME
from metering.stripe.keys import StripeKeys

# An answer that takes longer does not come.
TIMEOUT_S = 20.0


def open_client(keys: StripeKeys, *, address: str = "") -> stripe.StripeClient:
    """`address`: of a stand-in; empty: Stripe's own.

    It does not try again by itself: the outbox knows better what may be repeated. It tells Stripe neither an identifier
    of this machine nor how long requests take.
    """
    stripe.enable_telemetry = False
    client = stripe.StripeClient(
        keys.secret_key,
        base_addresses={"api": address, "meter_events": address} if address else None,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
    )
    stripe.set_app_info(MODEL_NAME)
    return client
