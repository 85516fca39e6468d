"""`collimator invoices [list|export|close]`: what clinics were asked to pay, and the files for their accounts."""

import argparse
from pathlib import Path

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from config.settings import Settings
from domain.billing import Payer
from domain.errors import Misconfigured
from domain.invoice import dollars
from metering.billing import close_ended_periods
from metering.invoices import list_invoices, read_invoice
from metering.subscriptions import sync_subscriptions
from storage.database import Database, utc_now
from storage.intake import sync_clinics

HEADER = ("NUMBER", "CLINIC", "PERIOD", "ISSUED (UTC)", "DUE (UTC)", "TOTAL, USD")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    verbs = parser.add_subparsers(dest="invoices_verb", metavar="[export|close]")
    export = verbs.add_parser("export", help="write each invoice as PDF and CSV")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="what is there already stays as it is")
    verbs.add_parser("close", help="write the invoices of the periods that are over; a worker does it by itself")


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    database = open_database(settings)
    if args.invoices_verb == "export":
        print(f"{_export(database, args.to, args.clinic)} files written to {args.to}")
    elif args.invoices_verb == "close":
        print(f"{_close(settings, database)} periods closed")
    else:
        _list(database, args)
    database.close()
    return 0


def _list(database: Database, args: argparse.Namespace) -> None:
    lines = list_invoices(database, clinics=None if args.clinic is None else [args.clinic])
    if args.json:
        print_objects(lines)
        return
    rows = [(o.number, o.clinic, o.period, o.issued_at, o.due_at, dollars(o.total_usd_cents)) for o in lines]
    print_table(HEADER, rows)


def _export(database: Database, folder: Path, clinic: str | None) -> int:
    """How many files were written. An invoice never changes, so one that is there is the same."""
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for line in list_invoices(database, clinics=None if clinic is None else [clinic]):
            _, pdf, csv = read_invoice(database, line.number)
            for name, content in ((f"{line.number}.pdf", pdf), (f"{line.number}.csv", csv)):
                if not (folder / name).exists():
                    (folder / name).write_bytes(content)
                    written += 1
    except OSError as error:
        raise Misconfigured(f"--to {folder}: {error.strerror}", hint="name a folder that can be written to") from error
    return written


def _close(settings: Settings, database: Database) -> int:
    from metering.invoice_billing import InvoiceBilling  # 0.1 s that a listing does not pay

    now = utc_now()
    sync_clinics(database, {clinic.name: clinic.tier for clinic in settings.clinics})
    sync_subscriptions(database, settings.clinic_directory, settings.plans.plans, now=now)
    payers = {Payer.INVOICE: InvoiceBilling(settings.billing.issuer)}
    return close_ended_periods(database, settings.clinic_directory, payers, now=now)
