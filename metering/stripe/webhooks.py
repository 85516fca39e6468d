"""Takes in what Stripe tells: checked, kept once, answered at once. What it means is asked of Stripe later (events.py).

    signature  ->  time, in both directions  ->  this account, this mode  ->  a row by the event's id  ->  200

Stripe's library takes an event that is ten minutes old for a forgery, and one from the future for none: both are
refused here. Of an event only its names are kept; a replay adds one to a counter.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe
import structlog
from sqlalchemy.dialects import postgresql, sqlite

from domain.errors import Refuse
from metering.stripe.keys import StripeKeys
from storage import audit
from storage.database import Database
from storage.tables import stripe_events

log = structlog.get_logger()

LARGEST_SKEW = timedelta(minutes=5)
# Of refusals for one reason: whoever can reach the port could fill a table that only grows. The log has all.
AUDITED_EVERY = timedelta(minutes=1)
WHO = "stripe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """The names in an event."""

    event_id: str
    event_type: str
    object_id: str
    customer_id: str
    created_at: datetime


class Webhooks:
    def __init__(self, database: Database, keys: StripeKeys) -> None:
        self._database = database
        self._keys = keys
        self._audited_at: dict[str, datetime] = {}

    def receive(self, body: bytes, signature: str, *, now: datetime) -> None:
        """Keep it, if it is new.

        Raises:
            Refuse: it is not from our account at Stripe, or not of now; the audit trail has the reason.
        """
        try:
            told = self._check(body, signature, now)
        except Refuse as error:
            log.warning("webhook_refused", reason=error.reason)
            self._enter(error, now)
            raise
        self._keep(told, now)

    def _enter(self, error: Refuse, now: datetime) -> None:
        last = self._audited_at.get(error.reason)
        if last is not None and now - last < AUDITED_EVERY:
            return
        self._audited_at[error.reason] = now
        with self._database.write() as connection:
            detail = f"{error.reason}: {error.message}"
            audit.enter(connection, at=now, who=WHO, act="webhook_refused", detail=detail)

    def _check(self, body: bytes, signature: str, now: datetime) -> Told:
        if not self._keys.webhook_secret:
            raise Refuse(
                "this node has no webhook secret",
                reason="no_webhook_secret",
                hint="set billing.stripe_webhook_secret_file",
            )
        try:
            # Its own look at the time knows the past only, and another clock.
            stripe.WebhookSignature.verify_header(body, signature, self._keys.webhook_secret, tolerance=None)
            event = json.loads(body)
        except (stripe.SignatureVerificationError, ValueError):
            raise Refuse("the signature is not that of our webhook secret", reason="wrong_signature") from None
        skew = _signed_at(signature) - now
        if abs(skew) > LARGEST_SKEW:
            direction = "future" if skew > timedelta() else "past"
            raise Refuse(
                f"the event was signed {abs(skew.total_seconds()):.0f} s in the {direction}",
                reason="wrong_time",
                hint="compare the node's clock; a replay looks the same",
            )
        return self._told(event)

    def _told(self, event: Any) -> Told:
        if not isinstance(event, dict):
            raise Refuse("it is signed, and no event", reason="no_event")
        account = event.get("account") or event.get("context") or ""
        if account and account != self._keys.account:
            raise Refuse(f"the event is for the account {account[:64]!r}", reason="another_account")
        if bool(event.get("livemode")) is not self._keys.is_live:
            mode = "live" if event.get("livemode") else "test"
            raise Refuse(f"the event is of the {mode} mode, and our key is not", reason="another_mode")
        if not all(isinstance(event.get(name), str) for name in ("id", "type")) or "created" not in event:
            raise Refuse("it is signed, and no event", reason="no_event")
        about = (event.get("data") or {}).get("object") or event.get("related_object") or {}
        customer = about.get("id") if about.get("object") == "customer" else about.get("customer")
        return Told(
            event_id=str(event["id"])[:255],
            event_type=str(event["type"])[:128],
            object_id=str(about.get("charge") or about.get("id") or "")[:255],
            customer_id=str(customer or "")[:64],
            created_at=_created_at(event["created"]),
        )

    def _keep(self, told: Told, now: datetime) -> None:
        with self._database.write() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            new = insert(stripe_events).values(
                id=told.event_id,
                type=told.event_type,
                object_id=told.object_id,
                customer_id=told.customer_id,
                created_at=told.created_at,
                received_at=now,
                due_at=now,
            )
            again = {"times_received": stripe_events.c.times_received + 1}
            connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=again))


def _signed_at(signature: str) -> datetime:
    moment = next(part[2:] for part in signature.split(",") if part.startswith("t="))
    return datetime.fromtimestamp(int(moment), UTC)


def _created_at(created: int | str) -> datetime:
    """Seconds in API v1, a date in v2."""
    if isinstance(created, str):
        return datetime.fromisoformat(created).astimezone(UTC)
    return datetime.fromtimestamp(created, UTC)
