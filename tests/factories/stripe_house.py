"""A clinic that pays by Stripe: its ledger in a real database, the real client, and the stand-in on loopback."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import stripe

from domain.billing import BillingTerms, Payer
from domain.clinics import Clinic
from domain.plans import PLANS, Plan, Tier
from metering.ledger import charge, credit
from metering.stripe.accounts import Account, read_accounts
from metering.stripe.billing import StripeBilling
from metering.stripe.client import open_client
from metering.stripe.keys import StripeKeys
from metering.stripe.sender import Sender
from metering.subscriptions import subscription_at
from storage.database import Database
from storage.tables import billing_outbox, studies
from tests.stripe_server.meters import counted
from tests.stripe_server.problems import Json
from tests.stripe_server.server import SECRET_KEY, StripeServer

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEYS = StripeKeys(secret_key=SECRET_KEY, webhook_secret="whsec_standin")
ST_MARY = Clinic(
    name="st-mary",
    tier=Tier.PROFESSIONAL,
    sends_notes=False,
    callers=(),
    destinations=(),
    billing=BillingTerms(payer=Payer.STRIPE),
)


class StripeHouse:
    """`now` is the time of the node and of Stripe; `pass_by` lets it go on, and Stripe does what it does meanwhile."""

    def __init__(
        self,
        database: Database,
        server: StripeServer,
        *,
        clinics: tuple[Clinic, ...] = (ST_MARY,),
        plans: Mapping[Tier, Plan] = PLANS,
    ) -> None:
        self.database = database
        self.server = server
        self.plans = plans
        self.now = NOON
        server.account.move_to(NOON.timestamp())
        self.client = self.open_client()
        self.billing = StripeBilling(
            database, self.client, keys=KEYS, clinics=clinics, plans=plans, clock=lambda: self.now
        )

    def open_client(self) -> stripe.StripeClient:
        return open_client(KEYS, address=self.server.url)

    def subscribe(self, clinic: str = "st-mary") -> None:
        self.billing.subscribe(clinic, days_until_due=30)

    def pass_by(self, **time: float) -> None:
        self.move_to(self.now + timedelta(**time))

    def move_to(self, moment: datetime) -> None:
        self.now = moment
        self.server.advance_to(moment.timestamp())

    def sender(self, on_step: Callable[[str], None] = lambda step: None) -> Sender:
        return Sender(self.database, self.client, clock=lambda: self.now, on_step=on_step)

    def send(self) -> int:
        """As often as it takes for everything that is not put off."""
        return self.sender().send_due()

    def charge(self, *uids: str, clinic: str = "st-mary") -> None:
        for uid in uids:
            with self.database.write() as connection:
                assert charge_in(connection, uid, clinic=clinic, now=self.now)

    def credit(self, uid: str, *, clinic: str = "st-mary", amount_usd_cents: int | None = None) -> None:
        with self.database.write() as connection:
            credit(
                connection,
                clinic=clinic,
                study_instance_uid=uid,
                why="sent twice under two UIDs",
                who="an administrator",
                now=self.now,
                amount_usd_cents=amount_usd_cents,
            )

    def rows(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(billing_outbox).order_by(billing_outbox.c.ledger_id)))

    def ways(self) -> list[tuple[str, str]]:
        """State and route of each row."""
        return [(row.state, row.route) for row in self.rows()]

    def account(self, clinic: str = "st-mary") -> Account:
        return next(one for one in read_accounts(self.database) if one.clinic == clinic)

    def state(self, clinic: str = "st-mary") -> str:
        with self.database.read() as connection:
            return subscription_at(connection, clinic=clinic, moment=self.now).state_at(self.now)

    def counted(self, clinic: str = "st-mary") -> int:
        """What the meter has counted for the clinic, ever."""
        stripe_account = self.server.account
        (meter,) = stripe_account.all("billing.meter")
        return counted(stripe_account, meter, self.account(clinic).customer_id, 0, 1 << 40)

    def items(self, clinic: str = "st-mary") -> list[Json]:
        """Invoice items that were made for ledger rows, or to make up for a difference."""
        made = self.server.account.all("invoiceitem")
        customer = self.account(clinic).customer_id
        return [one for one in made if one["customer"] == customer and "collimator_studies" in one["metadata"]]

    def invoiced(self, clinic: str = "st-mary") -> Counter[str]:
        """Studies and US cents of usage on the clinic's invoices, and on items that wait for the next."""
        sums: Counter[str] = Counter()
        stripe_account = self.server.account
        customer = self.account(clinic).customer_id
        lines = [
            line
            for invoice in stripe_account.all("invoice")
            if invoice["customer"] == customer and invoice["status"] != "draft"
            for line in invoice["_lines"]
        ]
        waiting = [
            item["_line"]
            for item in stripe_account.all("invoiceitem")
            if item["customer"] == customer and item["invoice"] is None
        ]
        for line in [*lines, *waiting]:
            details = (line["pricing"] or {}).get("price_details")
            if details is None:
                sums["studies"] += int(line["metadata"].get("collimator_studies", 0))
                sums["cents"] += line["amount"] if "collimator_studies" in line["metadata"] else 0
            elif stripe_account.objects["price"][details["price"]]["recurring"]["usage_type"] == "metered":
                sums["studies"] += line["quantity"]
                sums["cents"] += line["amount"]
        return sums


def charge_in(connection: sa.Connection, uid: str, *, clinic: str, now: datetime) -> bool:
    """As the delivery of its first result charges a study."""
    return charge(
        connection,
        clinic=clinic,
        study_instance_uid=uid,
        study_id=enter_study(connection, clinic, uid),
        packages=["chest"],
        result_sop_instance_uid=f"2.25.{uid}",
        destination="pacs",
        now=now,
    )


def enter_study(connection: sa.Connection, clinic: str, uid: str) -> int:
    """A study whose results were delivered, as far as the ledger asks for it."""
    return int(
        connection.execute(
            sa.insert(studies)
            .values(
                clinic=clinic,
                study_instance_uid=uid,
                generation=1,
                state="done",
                calling_ae_title="MODALITY1",
                opened_at=NOON,
                last_received_at=NOON,
            )
            .returning(studies.c.id)
        ).scalar_one()
    )
