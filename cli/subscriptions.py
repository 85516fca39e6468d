"""`collimator subscriptions`: each clinic's plan and state; pause, resume or cancel one; the audit trail of money."""

import argparse

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for, whoever_asks
from domain.errors import Refuse
from domain.subscription import SubscriptionState
from metering.subscriptions import set_state
from metering.usage import read_usage
from storage.audit import keeping_refusals, read_audit
from storage.database import utc_now
from storage.tables import clinics

HEADER = ("CLINIC", "TIER", "STATE", "PERIOD", "USED", "INCLUDED", "WAITING")
AUDIT_HEADER = ("WHEN (UTC)", "WHO", "CLINIC", "WHAT", "DETAIL")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    verbs = parser.add_subparsers(dest="subscriptions_verb", metavar="[set|audit]")
    change = verbs.add_parser("set", help="bring a subscription into a state")
    change.add_argument("name", metavar="CLINIC")
    change.add_argument("state", choices=[str(state) for state in SubscriptionState])
    change.add_argument("--why", required=True, metavar="TEXT", help="stands in the audit trail for good")
    verbs.add_parser("audit", help="what was changed, when, by whom and why")


def run(args: argparse.Namespace) -> int:
    database = open_database(settings_for(args.config))
    if args.subscriptions_verb == "set":
        who = whoever_asks()
        with keeping_refusals(database, who=who, act="state_change", clinic=args.name), database.write() as connection:
            if connection.execute(clinics.select().where(clinics.c.name == args.name)).first() is None:
                raise Refuse(f"there is no clinic {args.name!r}", reason="unknown_clinic")
            state = SubscriptionState(args.state)
            changed = set_state(connection, clinic=args.name, state=state, at=utc_now(), why=args.why, who=who)
        print(f"{args.name} is {args.state}" + ("" if changed else " already"))
    elif args.subscriptions_verb == "audit":
        lines = read_audit(database, clinic=args.clinic)
        if args.json:
            print_objects(lines)
        else:
            print_table(AUDIT_HEADER, [(o.at, o.who, o.clinic, o.act, o.detail) for o in lines])
    else:
        usages = read_usage(database, clinic=args.clinic)
        if args.json:
            print_objects(usages)
        else:
            rows = [(o.clinic, o.tier, o.state, o.period, o.used, _included(o.included), o.waiting) for o in usages]
            print_table(HEADER, rows)
    database.close()
    return 0


def _included(studies: int | None) -> str:
    return "unlimited" if studies is None else str(studies)
