"""Stripe as a clinic's payer: the `Billing` port, and the round that keeps it in step with the ledger.

    events  ->  reconciliation  ->  outbox  ->  once an hour: every clinic anew  ->  settlements

Stripe writes its invoices by itself, from what it was told: closing a period asks it for nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
import stripe
import structlog

from domain.billing import Payer
from domain.clinics import Clinic
from domain.errors import Refuse
from domain.periods import Period
from domain.plans import Plan, Tier
from metering.outbox import ENDED
from metering.stripe import customers, links
from metering.stripe.accounts import Account, read_accounts
from metering.stripe.answers import in_our_words
from metering.stripe.catalogue import Catalogue, ensure_catalogue
from metering.stripe.events import forget_events, process_events
from metering.stripe.keys import StripeKeys
from metering.stripe.mirror import refresh
from metering.stripe.reconcile import reconcile
from metering.stripe.sender import Sender
from metering.stripe.settle import settle
from metering.stripe.webhooks import Webhooks
from metering.subscriptions import calendar_of
from storage.database import Database

log = structlog.get_logger()

REFRESH_EVERY = timedelta(hours=1)


class StripeBilling:
    """For the configured clinics whose payer is Stripe. `on_step`: tests watch the sender's steps."""

    def __init__(
        self,
        database: Database,
        client: stripe.StripeClient,
        *,
        keys: StripeKeys,
        clinics: Sequence[Clinic],
        plans: Mapping[Tier, Plan],
        clock: Callable[[], datetime],
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._database = database
        self._client = client
        self._clinics = {clinic.name: clinic for clinic in clinics if clinic.billing.payer is Payer.STRIPE}
        self._plans = plans
        self._clock = clock
        self._sender = Sender(database, client, clock=clock, on_step=on_step)
        self._webhooks = Webhooks(database, keys)
        self._catalogue: Catalogue | None = None
        self._refreshed_at: datetime | None = None

    def told(self, connection: sa.Connection, clinic: Clinic, period: Period) -> bool:
        """Yes: it is told of each charge by itself, and its own subscription ends the period there."""
        return True

    def close_period(self, connection: sa.Connection, clinic: Clinic, period: Period) -> None:
        """Nothing: settle.py looks at what Stripe made of it."""

    def round(self) -> None:
        """Everything that is due. Where Stripe does not answer, the rest goes on, and that is tried again next time."""
        for part in (self._take_in_events, self._reconcile, self._send, self._look_at_all):
            try:
                part()
            except stripe.StripeError as error:
                log.warning("stripe_away", job=part.__name__, why=f"{type(error).__name__}: {error.user_message}")

    def _take_in_events(self) -> None:
        process_events(self._database, self._client, plans=self._plans, now=self._clock())

    def _reconcile(self) -> None:
        reconcile(self._database, self._client, meter_id=self.catalogue().meter_id, now=self._clock())

    def _send(self) -> None:
        self._sender.send_due()

    def _look_at_all(self) -> None:
        now = self._clock()
        if self._refreshed_at is not None and now - self._refreshed_at < REFRESH_EVERY:
            return
        self.refresh_all()
        for account in read_accounts(self._database):
            settle(self._database, self._client, account, now=now)
        forget_events(self._database, now)
        self._refreshed_at = now

    def refresh_all(self) -> list[Account]:
        """Ask for every clinic; those that are new to Stripe become its customers."""
        for clinic in self._clinics.values():
            customers.ensure_customer(self._database, self._client, clinic, now=self._clock())
        return [
            refresh(self._database, self._client, account, plans=self._plans, now=self._clock())
            for account in read_accounts(self._database)
        ]

    def catalogue(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = ensure_catalogue(self._client, self._plans)
        return self._catalogue

    def receive(self, body: bytes, signature: str) -> None:
        """Take in an event. See webhooks.py for what is refused."""
        self._webhooks.receive(body, signature, now=self._clock())

    @in_our_words()
    def subscribe(self, clinic: str, *, days_until_due: int) -> None:
        """A subscription that is paid by invoice, on the configured tier."""
        account = self._refresh(self._account(clinic))
        if account.subscription_id is not None and account.status not in ENDED:
            raise Refuse(f"{clinic} has a subscription at Stripe already", reason="has_subscription")
        customers.subscribe(
            self._database,
            self._client,
            self.catalogue(),
            account,
            tier=self._clinics[clinic].tier,
            days_until_due=days_until_due,
            now=self._clock(),
        )
        self._refresh(account)

    @in_our_words()
    def put_on_plan(self, clinic: str, tier: Tier) -> None:
        """What waits is sent before: Stripe bills what it knows of by the old terms."""
        self._sender.send_due()
        account = self._refresh(self._account(clinic))
        customers.put_on_plan(self._client, self.catalogue(), account, tier=tier, now=self._clock())
        self._refresh(account)

    @in_our_words()
    def checkout(self, clinic: str, *, tier: Tier | None, return_url: str) -> str:
        account = self._account(clinic)
        with self._database.read() as connection:
            rule = calendar_of(connection, clinic=clinic).rule_at(self._clock())
        return links.checkout_link(
            self._client,
            self.catalogue(),
            account,
            tier=tier or self._clinics[clinic].tier,
            return_url=return_url,
            rule=rule,
        )

    @in_our_words()
    def portal(self, clinic: str, *, return_url: str) -> str:
        return links.portal_link(self._client, self._account(clinic), return_url=return_url)

    def _account(self, clinic: str) -> Account:
        if clinic not in self._clinics:
            raise Refuse(
                f"clinic {clinic!r} does not pay by Stripe",
                reason="other_payer",
                hint='its configuration needs billing.payer = "stripe"',
            )
        return customers.ensure_customer(self._database, self._client, self._clinics[clinic], now=self._clock())

    def _refresh(self, account: Account) -> Account:
        return refresh(self._database, self._client, account, plans=self._plans, now=self._clock())
