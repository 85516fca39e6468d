"""`collimator studies`: the studies that the node has, the newest first."""

import argparse
import sys

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from domain.states import StudyState
from storage.overview import StudyFilter, list_studies

HEADER = ("OPENED (UTC)", "CLINIC", "STATE", "REASON", "GEN", "INSTANCES", "CHARGED", "STUDY INSTANCE UID")
DEFAULT_LIMIT = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    parser.add_argument("--state", choices=[str(state) for state in StudyState], help="only those in this state")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    database = open_database(settings_for(args.config))
    wanted = StudyFilter(clinics=None if args.clinic is None else {args.clinic}, state=args.state)
    lines, total = list_studies(database, wanted, limit=max(0, args.limit))
    if args.json:
        print_objects(lines)
    else:
        print_table(
            HEADER,
            [
                (
                    line.opened_at,
                    line.clinic,
                    line.state,
                    line.reason,
                    line.generation,
                    line.instances,
                    line.is_charged,
                    line.study_instance_uid,
                )
                for line in lines
            ],
        )
    if len(lines) < total:
        print(f"collimator: these are the newest {len(lines)} of {total}; --limit shows more", file=sys.stderr)
    database.close()
    return 0
