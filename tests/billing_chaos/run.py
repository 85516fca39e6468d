"""One run: three clinics over some months, with all that can go wrong between the ledger and Stripe.

charges, credits, plan changes  ->  rounds that crash, are killed, or meet misfortunes  ->  months turn  ->  …  ->
peace, until nothing waits  ->  the ledger, the stand-in and its invoices side by side
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import stripe

from domain.errors import CollimatorError
from domain.plans import Tier
from metering.stripe.billing import StripeBilling
from metering.subscriptions import sync_subscriptions
from storage.database import Database
from storage.intake import sync_clinics
from storage.tables import billing_outbox
from tests.billing_chaos.books import compare
from tests.billing_chaos.clinics import CLINICS, PLANS
from tests.billing_chaos.outcome import Outcome
from tests.factories.stripe_house import KEYS, StripeHouse, charge_in
from tests.stripe_server.account import Account
from tests.stripe_server.invoices import pay
from tests.stripe_server.server import StripeServer

ROOT = Path(__file__).parent.parent.parent
# Stripe counts what it received some minutes later.
LAG_S = 240.0
MISFORTUNES_SHARE = 0.12
CRASH_SHARE = 0.003
ROUNDS = 3
# How long Stripe is away, in hours: moments; longer than an identifier is unique; an alarm; and past the meter.
OUTAGES_H = (0.2, 3.0, 26.0, 9 * 24.0, 33 * 24.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """So many studies over so many days; `kills`: rounds that are done by a process which is killed in the middle."""

    database: str
    studies: int
    days: int
    kills: int
    seed: int


class Crash(BaseException):
    """The process ends here, for all that the code knows."""


class Run:
    def __init__(self, plan: Plan, database: Database, server: StripeServer, outcome: Outcome) -> None:
        self.plan, self.outcome = plan, outcome
        self.chance = random.Random(plan.seed)
        self.house = StripeHouse(database, server, clinics=CLINICS, plans=PLANS)
        self.clumsy_client = _crashing(self.house, self._perhaps_crash)
        self.worker = self._new_worker()
        self.server = server
        self.uids = 0
        self.charged: list[tuple[str, str]] = []

    def settle_in(self) -> None:
        """The clinics subscribe."""
        sync_clinics(self.house.database, {clinic.name: clinic.tier for clinic in CLINICS})
        sync_subscriptions(self.house.database, CLINICS, PLANS, now=self.house.now)
        for clinic in CLINICS:
            self.house.subscribe(clinic.name)

    def work(self) -> None:
        """The months in which everything goes wrong."""
        self.server.account.lag_s = LAG_S
        self.server.script.by_chance(MISFORTUNES_SHARE, seed=self.plan.seed)
        steps = self.plan.days * 2
        outages = self._outages(steps)
        kills = {round(steps * (number + 1) / (self.plan.kills + 1)) for number in range(self.plan.kills)}
        changes = {round(steps * share) for share in (0.15, 0.35, 0.55, 0.75)}
        for step in range(steps):
            self._studies(round(self.plan.studies * (step + 1) / steps) - self.uids)
            if step in changes:
                self._change_a_plan()
            if step in kills:
                self._round_that_is_killed()
            for _ in range(ROUNDS):
                self._round()
                self.house.pass_by(minutes=self.chance.uniform(1.0, 20.0))
            self._webhooks()
            self._pay()
            self.house.pass_by(minutes=self.chance.uniform(0.5, 1.5) * self.plan.days * 1440 / steps)
            if step in outages:
                self._outage(outages[step])

    def let_rest(self) -> None:
        """Peace, until nothing waits and the next two invoices are written."""
        self.server.script.peace()
        for _ in range(200):
            self.house.billing.round()
            self._webhooks()
            self._pay()
            self.house.pass_by(hours=9)
            if self._open_rows() == 0:
                break
        for _ in range(70):
            self.house.pass_by(days=1)
            self.house.billing.round()
            self._pay()

    def _studies(self, count: int) -> None:
        for _ in range(count):
            self.uids += 1
            clinic, uid = self.chance.choice(CLINICS).name, f"1.2.826.{self.plan.seed}.{self.uids}"
            self._charge(clinic, uid)
            if self.chance.random() < 0.3:
                self.house.pass_by(seconds=self.chance.uniform(1, 90))
        for clinic, uid in self._to_take_back(count):
            with suppress(CollimatorError):
                self.house.credit(uid, clinic=clinic, amount_usd_cents=self.chance.choice((None, None, None, 100)))
                self.outcome.credits += 1

    def _charge(self, clinic: str, uid: str) -> None:
        """Until it is: a worker that dies before the commit does its last step once more."""
        while True:
            try:
                with self.house.database.write() as connection:
                    charge_in(connection, uid, clinic=clinic, now=self.house.now)
                    self._perhaps_crash("charging")
                break
            except Crash:
                continue
        self.charged.append((clinic, uid))
        self.outcome.charges += 1

    def _to_take_back(self, count: int) -> list[tuple[str, str]]:
        """Some of the newest, and some of all."""
        newest = [one for one in self.charged[-2 * count :] if self.chance.random() < 0.04] if count else []
        older = [self.chance.choice(self.charged)] if self.charged and self.chance.random() < 0.15 else []
        return [*newest, *older]

    def _perhaps_crash(self, _step: str) -> None:
        if self.chance.random() < CRASH_SHARE:
            self.outcome.crashes += 1
            raise Crash

    def _round(self) -> None:
        """A worker's round, and a new worker where it crashed."""
        try:
            self.worker.round()
        except Crash:
            self.worker = self._new_worker()

    def _new_worker(self) -> StripeBilling:
        return StripeBilling(
            self.house.database,
            self.clumsy_client,
            keys=KEYS,
            clinics=CLINICS,
            plans=PLANS,
            clock=lambda: self.house.now,
            on_step=self._perhaps_crash,
        )

    def _round_that_is_killed(self) -> None:
        command = [sys.executable, "-m", "tests.billing_chaos.sender", self.house.database.url, self.server.url]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write(f"{self.house.now.isoformat()}\n")
            process.stdin.flush()
            time.sleep(self.chance.uniform(0.0, 0.6))
            process.kill()
        self.outcome.kills += 1

    def _change_a_plan(self) -> None:
        clinic = self.chance.choice(CLINICS).name
        tier = self.chance.choice([one for one in Tier if one != self.house.account(clinic).tier])
        for _ in range(20):
            try:
                self.house.billing.put_on_plan(clinic, tier)
            except CollimatorError:  # Stripe did not answer; a person tries again
                self.house.pass_by(minutes=2)
                if self._has_tier(clinic, tier):
                    break
            else:
                break
        self.outcome.plan_changes += 1

    def _has_tier(self, clinic: str, tier: Tier) -> bool:
        with suppress(Exception):
            self.house.billing.refresh_all()
        return self.house.account(clinic).tier == tier

    def _outages(self, steps: int) -> dict[int, float]:
        """At which step Stripe goes away, and for how many hours; none is longer than a quarter of the whole."""
        hours = [hours for hours in OUTAGES_H if hours <= self.plan.days * 24 / 4]
        return {round(steps * (number + 1) / (len(hours) + 1)): length for number, length in enumerate(hours)}

    def _outage(self, hours: float) -> None:
        """The clinics go on working meanwhile, and the workers go on trying."""
        self.server.script.is_away = True
        for _ in range(4):
            self._studies(3)
            self._round()
            self.house.pass_by(hours=hours / 4)
        self.server.script.is_away = False
        self.outcome.outages += 1

    def _webhooks(self) -> None:
        """Out of order, and some twice."""
        self.server.webhooks.deliver(self._post, chance=self.chance)

    def _post(self, body: bytes, signature: str) -> int:
        self.house.billing.receive(body, signature)
        return 200

    def _pay(self) -> None:
        for invoice in self.server.account.all("invoice"):
            if invoice["status"] == "open":
                with self.server.account.lock:
                    pay(self.server.account, {}, invoice["id"])

    def _open_rows(self) -> int:
        with self.house.database.read() as connection:
            query = sa.select(sa.func.count()).select_from(billing_outbox).where(billing_outbox.c.state != "done")
            return connection.scalar(query) or 0


def _crashing(house: StripeHouse, perhaps_crash: Callable[[str], None]) -> stripe.StripeClient:
    """The real client, in a process that may end before a request has gone out, and before its answer is looked at."""
    client = house.open_client()
    transport: Any = client._requestor._client
    request = transport.request_with_retries

    def request_or_crash(*args: Any, **kwargs: Any) -> Any:
        perhaps_crash("before a request")
        answer = request(*args, **kwargs)
        perhaps_crash("after a request")
        return answer

    transport.request_with_retries = request_or_crash
    return client


def simulate(url: str, plan: Plan) -> Outcome:
    """On an empty database at that URL."""
    outcome = Outcome(database=plan.database, seed=plan.seed)
    began = time.monotonic()
    database = Database(url)
    database.migrate()
    with StripeServer(Account()) as server:
        run = Run(plan, database, server, outcome)
        run.settle_in()
        run.work()
        run.let_rest()
        compare(run.house, outcome)
    database.close()
    outcome.seconds = time.monotonic() - began
    return outcome
