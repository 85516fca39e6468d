"""`collimator billing [status|sync|subscribe|plan|checkout|portal]`: how it stands with Stripe, and what to do."""

import argparse
from typing import TYPE_CHECKING

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for, whoever_asks
from cli.payments import open_payments
from config.settings import Settings
from domain.errors import Misconfigured
from domain.plans import Tier, tier_named
from metering.billing_status import events_waiting, read_status
from metering.subscriptions import sync_subscriptions
from storage.audit import keeping_refusals
from storage.database import Database, utc_now
from storage.intake import sync_clinics

if TYPE_CHECKING:
    from metering.stripe.billing import StripeBilling

HEADER = (
    "CLINIC",
    "STATUS",
    "TIER",
    "PERIOD ENDS (UTC)",
    "SEEN (UTC)",
    "WAITING",
    "OVERDUE",
    "CORRECTED",
    "LAST ERROR",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects")
    verbs = parser.add_subparsers(dest="billing_verb", metavar="[status|sync|subscribe|plan|checkout|portal]")
    verbs.add_parser("status", help="what of the ledger Stripe does not know, and what it said last")
    verbs.add_parser("sync", help="do now what a worker does every 30 s: customers, charges, events, settlements")
    subscribe = verbs.add_parser("subscribe", help="a subscription that is paid by invoice, on the configured tier")
    subscribe.add_argument("name", metavar="CLINIC")
    plan = verbs.add_parser("plan", help="put a clinic's subscription on another plan, from now on")
    plan.add_argument("name", metavar="CLINIC")
    plan.add_argument("tier", metavar="TIER", help=", ".join(Tier))
    checkout = verbs.add_parser("checkout", help="the link where a clinic subscribes with a card; open for a day")
    checkout.add_argument("name", metavar="CLINIC")
    checkout.add_argument("--tier", help=f"{', '.join(Tier)}; default: the configured one")
    portal = verbs.add_parser("portal", help="the link where it looks after cards and invoices, or cancels")
    portal.add_argument("name", metavar="CLINIC")


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    database = open_database(settings)
    try:
        if args.billing_verb in (None, "status"):
            _print_status(database, as_json=args.json)
        else:
            _ask_stripe(settings, database, args)
    finally:
        database.close()
    return 0


def _print_status(database: Database, *, as_json: bool) -> None:
    lines = read_status(database, now=utc_now())
    if as_json:
        print_objects(lines)
        return
    rows = [
        (o.clinic, o.status, o.tier, o.period_ends_at, o.seen_at, o.waiting, o.overdue, o.corrected, o.last_error)
        for o in lines
    ]
    print_table(HEADER, rows)
    waiting = events_waiting(database)
    if waiting:
        print(f"{waiting} events of Stripe's wait")


def _ask_stripe(settings: Settings, database: Database, args: argparse.Namespace) -> None:
    payments = open_payments(settings, database)
    if payments is None:
        raise Misconfigured("there is no key for Stripe", hint="set billing.stripe_secret_key_file, or STRIPE_API_KEY")
    sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics})
    sync_subscriptions(database, settings.clinic_directory, settings.plans.plans, now=utc_now())
    if args.billing_verb == "sync":
        payments.round()
        _print_status(database, as_json=args.json)
        return
    with keeping_refusals(database, who=whoever_asks(), act=args.billing_verb, clinic=args.name):
        _ask_for_clinic(settings, payments, args)


def _ask_for_clinic(settings: Settings, payments: "StripeBilling", args: argparse.Namespace) -> None:
    if args.billing_verb == "subscribe":
        payments.subscribe(args.name, days_until_due=settings.billing.net_days)
        print(f"{args.name} has a subscription, paid by invoice within {settings.billing.net_days} days")
    elif args.billing_verb == "plan":
        payments.put_on_plan(args.name, tier_named(args.tier))
        print(f"{args.name} is on the {args.tier} plan")
    elif args.billing_verb == "checkout":
        tier = None if args.tier is None else tier_named(args.tier)
        print(payments.checkout(args.name, tier=tier, return_url=settings.billing.return_url))
    else:
        print(payments.portal(args.name, return_url=settings.billing.return_url))
