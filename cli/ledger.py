"""`collimator ledger`: what was charged, in the order it was charged."""

import argparse
import csv
import re
import sys
from collections.abc import Sequence

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from domain.errors import Misconfigured
from metering.ledger import LedgerRow, read_ledger

HEADER = ("CHARGED (UTC)", "CLINIC", "TIER", "PACKAGES", "DESTINATION", "STUDY INSTANCE UID")
MONTH_PATTERN = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
COLUMNS = (
    "clinic",
    "study_instance_uid",
    "period",
    "tier",
    "packages",
    "result_sop_instance_uid",
    "destination",
    "charged_at",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects")
    form.add_argument("--csv", action="store_true", help="one line a study, with a header")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    parser.add_argument("--month", metavar="YYYY-MM", help="only this calendar month's, in UTC; default: all")


def run(args: argparse.Namespace) -> int:
    if args.month is not None and not MONTH_PATTERN.fullmatch(args.month):
        raise Misconfigured(f"--month {args.month!r} is not a month", hint="write it as YYYY-MM, for example 2026-11")
    database = open_database(settings_for(args.config))
    rows = read_ledger(database, clinic=args.clinic, period=args.month)
    database.close()
    if args.json:
        print_objects(rows)
    elif args.csv:
        _print_csv(rows)
    else:
        print_table(
            HEADER,
            [(r.charged_at, r.clinic, r.tier, _packages(r), r.destination, r.study_instance_uid) for r in rows],
        )
    return 0


def _print_csv(rows: Sequence[LedgerRow]) -> None:
    """RFC 4180 but for the line end, which is the system's; several packages are parted by blanks."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        fields = {column: getattr(row, column) for column in COLUMNS}
        fields |= {"packages": _packages(row), "charged_at": row.charged_at.isoformat()}
        writer.writerow(fields.values())


def _packages(row: LedgerRow) -> str:
    return " ".join(row.packages)
