"""`collimator ledger`: what was charged, in the order it was charged; `collimator ledger credit`: take it back."""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import fields

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for, whoever_asks
from domain.errors import Misconfigured, Refuse
from metering.invoice_csv import inert
from metering.ledger import LedgerRow, credit, read_ledger
from storage.audit import keeping_refusals
from storage.database import Database, utc_now

HEADER = ("CHARGED (UTC)", "WHAT", "CLINIC", "TIER", "PACKAGES", "DESTINATION", "STUDY INSTANCE UID")
MONTH_PATTERN = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
AMOUNT_PATTERN = re.compile(r"(\d{1,6})(?:\.(\d\d))?")
COLUMNS = tuple(field.name for field in fields(LedgerRow))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects")
    form.add_argument("--csv", action="store_true", help="one line a row, with a header")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    parser.add_argument(
        "--month", metavar="YYYY-MM", help="only the billing periods that begin in this month; default: all"
    )
    verbs = parser.add_subparsers(dest="ledger_verb", metavar="[credit]")
    give = verbs.add_parser("credit", help="take a study's charge back, once")
    give.add_argument("study_instance_uid", metavar="UID")
    give.add_argument("--why", required=True, metavar="TEXT", help="stands in the ledger and on the invoice for good")
    give.add_argument("--amount", metavar="DOLLARS", help="for example 1.50; default: what the study cost")
    give.add_argument("--clinic", metavar="NAME", help="where more than one has the study", dest="of_clinic")


def run(args: argparse.Namespace) -> int:
    if args.month is not None and not MONTH_PATTERN.fullmatch(args.month):
        raise Misconfigured(f"--month {args.month!r} is not a month", hint="write it as YYYY-MM, for example 2026-11")
    database = open_database(settings_for(args.config))
    if args.ledger_verb == "credit":
        _give(database, args)
        database.close()
        return 0
    rows = read_ledger(database, clinic=args.clinic, period=args.month)
    database.close()
    if args.json:
        print_objects(rows)
    elif args.csv:
        _print_csv(rows)
    else:
        print_table(
            HEADER,
            [(r.charged_at, r.kind, r.clinic, r.tier, _packages(r), r.destination, r.study_instance_uid) for r in rows],
        )
    return 0


def _give(database: Database, args: argparse.Namespace) -> None:
    uid, wanted = args.study_instance_uid, args.of_clinic or args.clinic
    charged = [row for row in read_ledger(database, clinic=wanted) if row.study_instance_uid == uid]
    clinics = {row.clinic for row in charged}
    if not clinics:
        raise Refuse(f"study {uid!r} was never charged", reason="unknown_charge", hint="`collimator ledger` lists them")
    if len(clinics) > 1:
        raise Refuse("more than one clinic has the study", reason="ambiguous", hint="say which one with --clinic")
    (clinic,) = clinics
    amount = None if args.amount is None else _cents(args.amount)
    who = whoever_asks()
    with keeping_refusals(database, who=who, act="credit", clinic=clinic), database.write() as connection:
        number = credit(
            connection,
            clinic=clinic,
            study_instance_uid=uid,
            why=args.why,
            who=who,
            now=utc_now(),
            amount_usd_cents=amount,
        )
    print(f"credited: ledger row {number}")


def _cents(dollars_and_cents: str) -> int:
    amount = AMOUNT_PATTERN.fullmatch(dollars_and_cents)
    if amount is None:
        raise Misconfigured(f"--amount {dollars_and_cents!r} is no amount", hint="write dollars, for example 1.50")
    return int(amount[1]) * 100 + int(amount[2] or 0)


def _print_csv(rows: Sequence[LedgerRow]) -> None:
    """RFC 4180 but for the line end, which is the system's; several packages, models or UIDs are parted by blanks."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = {column: getattr(row, column) for column in COLUMNS} | {
            "packages": _packages(row),
            "charged_at": row.charged_at.isoformat(),
            "models": " ".join(f"{model.package}/{model.version}" for model in row.models),
            "result_sop_instance_uids": " ".join(row.result_sop_instance_uids),
            "why": inert(row.why),
        }
        writer.writerow(cells.values())


def _packages(row: LedgerRow) -> str:
    return " ".join(row.packages)
