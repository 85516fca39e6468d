"""`collimator commitments`: who asked the node to keep instances, and whether he was told the outcome."""

import argparse

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from storage.requests.commitments import read_commitments

HEADER = ("REQUESTED (UTC)", "CLINIC", "CALLER", "ADDRESS", "INSTANCES", "STATE", "ATTEMPTS", "LAST ERROR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")


def run(args: argparse.Namespace) -> int:
    database = open_database(settings_for(args.config))
    rows = read_commitments(database, clinic=args.clinic)
    database.close()
    if args.json:
        print_objects(rows)
    else:
        print_table(
            HEADER,
            [
                (
                    row.requested_at,
                    row.clinic,
                    row.calling_ae_title,
                    row.peer_address,
                    row.instances,
                    row.state,
                    row.attempts,
                    row.last_error,
                )
                for row in rows
            ],
        )
    return 0
