"""What `collimator doctor` says of billing by Stripe. It asks, and changes nothing, there or here.

a key?  ->  does Stripe take it?  ->  the clinics' customers, what can be bought  ->  webhooks  ->  the outbox
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from cli.finding import Finding
from config.settings import Settings
from domain.billing import Payer
from domain.errors import Misconfigured
from metering.billing_status import (
    BillingStatus,
    events_waiting,
    last_event_at,
    last_event_refused,
    read_status,
)
from metering.stripe.accounts import Account, read_accounts
from metering.stripe.keys import StripeKeys, read_keys
from storage.audit import AuditLine
from storage.database import Database, utc_now

if TYPE_CHECKING:
    from metering.stripe.checkup import Checkup

RUNBOOK = "see docs/runbooks/billing.md"
WEBHOOK = "/api/v1/stripe/webhook"
# A worker asks for every clinic once an hour; after 72 hours of silence new studies wait.
ASKED_WITHIN = timedelta(hours=3)
# Of a clinic that has a subscription Stripe tells something each month.
TOLD_WITHIN = timedelta(days=35)


@dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """What the node's own rows say of Stripe."""

    accounts: Sequence[Account]
    standing: Sequence[BillingStatus]
    last_event_at: datetime | None
    last_refusal: AuditLine | None
    events_waiting: int


def look_at_stripe(settings: Settings) -> Iterator[Finding]:
    """Nothing where there is no key and nobody needs one."""
    billing = settings.billing
    try:
        keys = read_keys(
            billing.stripe_secret_key_file, billing.stripe_webhook_secret_file, account=billing.stripe_account
        )
    except Misconfigured as error:
        yield Finding(what="Stripe, key", is_well=False, says=error.message, advice=error.hint or RUNBOOK)
        return
    payers = [clinic.name for clinic in settings.clinic_directory if clinic.billing.payer is Payer.STRIPE]
    if keys.secret_key:
        yield from _with_key(settings, keys)
    elif payers:
        yield Finding(
            what="Stripe, key",
            is_well=False,
            says=f"there is none, and these clinics pay by Stripe: {', '.join(payers)}",
            advice="set billing.stripe_secret_key_file, or STRIPE_API_KEY; the ledger goes on without it",
            is_fatal=False,
        )


def _with_key(settings: Settings, keys: StripeKeys) -> Iterator[Finding]:
    from metering.stripe.checkup import check
    from metering.stripe.client import open_client

    here = _read(settings)
    client = open_client(keys, address=settings.billing.stripe_address)
    yield from _there(keys, check(client, settings.plans.plans, () if here is None else here.accounts))
    if here is None:
        yield Finding(
            what="Stripe, outbox",
            is_well=False,
            says="is not known: the database does not tell",
            advice="see what is said of the database above; `collimator migrate` brings it to this version",
            is_fatal=False,
        )
        return
    yield _webhooks(keys, here)
    yield _outbox(here)
    yield from _mirror(here)


def _read(settings: Settings) -> Here | None:
    """None: the database is not there, or has not these tables."""
    try:
        database = Database(settings.database_url)
    except Misconfigured:
        return None
    try:
        return Here(
            accounts=read_accounts(database),
            standing=read_status(database, now=utc_now()),
            last_event_at=last_event_at(database),
            last_refusal=last_event_refused(database),
            events_waiting=events_waiting(database),
        )
    except sa.exc.DBAPIError:
        return None
    finally:
        database.close()


def _there(keys: StripeKeys, checkup: "Checkup") -> Iterator[Finding]:
    if not checkup.is_answered:
        yield Finding(
            what="Stripe, key",
            is_well=False,
            says=checkup.why,
            advice=f"make another key, or give this one the rights it lacks: {RUNBOOK}"
            if checkup.is_key_refused
            else "the ledger goes on, and Stripe is told later; look at the way there (api.stripe.com, 443)",
            is_fatal=checkup.is_key_refused,
        )
        return
    mode = "live mode: real money moves" if keys.is_live else "test mode: no money moves"
    whose = f"of the account {checkup.account}" if checkup.account else "of an account that it may not tell"
    yield Finding(what="Stripe, key", is_well=True, says=f"{whose}, {mode}")
    if checkup.strangers:
        yield Finding(
            what="Stripe, customers",
            is_well=False,
            says=f"this key finds no customer of {', '.join(checkup.strangers)}",
            advice="use the key of the account, and of the mode (test or live), in which they were made",
        )
    yield Finding(
        what="Stripe, catalogue",
        is_well=not checkup.missing,
        says=f"lacks {', '.join(checkup.missing)}" if checkup.missing else "has the meter, the models and the prices",
        advice="`collimator billing sync` makes what lacks, and so does a worker that has the key",
        is_fatal=False,
    )


def _webhooks(keys: StripeKeys, here: Here) -> Finding:
    last, refused = here.last_event_at, here.last_refusal
    says, advice = "none has come yet" if last is None else f"the last one came {_ago(last)} ago", ""
    if not keys.webhook_secret:
        says = "this node has no webhook secret, and learns once an hour what Stripe says"
        advice = f"add an endpoint https://<portal>{WEBHOOK} at Stripe, and set billing.stripe_webhook_secret_file"
    elif refused is not None and (last is None or refused.at > last):
        says += f"; since then one was refused {_ago(refused.at)} ago, {refused.detail}"
        advice = f"compare billing.stripe_webhook_secret_file with the endpoint's own: {RUNBOOK}"
    elif here.standing and (last is None or utc_now() - last > TOLD_WITHIN):
        advice = f"does the endpoint at Stripe lead to https://<portal>{WEBHOOK}? Until then all takes an hour longer"
    elif here.events_waiting:
        says += f"; {here.events_waiting} wait"
    return Finding(what="Stripe, webhooks", is_well=not advice, says=says, advice=advice, is_fatal=False)


def _outbox(here: Here) -> Finding:
    waiting, overdue = (sum(getattr(one, name) for one in here.standing) for name in ("waiting", "overdue"))
    oldest = min((one.oldest_waiting for one in here.standing if one.oldest_waiting is not None), default=None)
    error = next((one.last_error for one in here.standing if one.last_error), "")
    says = "Stripe knows of every charge"
    if oldest is not None:
        says = f"{waiting} charges wait, the oldest for {_ago(oldest)}" + (f"; {error}" if error else "")
    return Finding(
        what="Stripe, outbox",
        is_well=not overdue,
        says=says,
        advice=f"{overdue} wait for seven days or more: `collimator billing status`, and {RUNBOOK}",
    )


def _mirror(here: Here) -> Iterator[Finding]:
    """Whether a worker has asked lately how it stands with each clinic."""
    for one in here.standing:
        if one.seen_at is None or utc_now() - one.seen_at > ASKED_WITHIN:
            never = "was never asked for" if one.seen_at is None else f"was asked for {_ago(one.seen_at)} ago"
            yield Finding(
                what=f"Stripe, {one.clinic}",
                is_well=False,
                says=f"{never}; 72 hours after the last answer new studies wait",
                advice="is a worker running that has the key? `collimator billing sync` asks now",
                is_fatal=False,
            )


def _ago(moment: datetime) -> str:
    """In the largest unit that is whole."""
    minutes = int((utc_now() - moment).total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
