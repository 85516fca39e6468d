"""`collimator models drift`: how far each version's scores and images have moved from where they began."""

import argparse

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from domain.drift import REFERENCE_IMAGES
from domain.errors import Refuse
from storage.answers.drift import DriftLine, begin_new_reference, read_drift
from storage.database import Database

MOST_WEEKS = 520
HEADER = ("CLINIC", "CALLER", "PACKAGE", "VERSION", "WEEK", "IMAGES", "FEATURE", "PSI", "BY CHANCE", "ALARM")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", metavar="PACKAGE", nargs="?", help="default: all")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's")
    parser.add_argument(
        "--weeks",
        type=_weeks,
        metavar="N",
        help="each of the last N weeks, by feature; default: the newest with enough images",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects, one a feature, with its counts")
    parser.add_argument(
        "--new-reference",
        action="store_true",
        help=f"the change is known and right: hold later images against the next {REFERENCE_IMAGES}",
    )
    parser.add_argument("--caller", metavar="AE", help="with --new-reference: of this calling AE title only")


def run(args: argparse.Namespace) -> int:
    database = open_database(settings_for(args.config))
    try:
        if args.new_reference:
            _begin_new_reference(database, args.package, args.caller)
            return 0
        clinics = None if args.clinic is None else {args.clinic}
        lines = read_drift(database, clinics=clinics, package=args.package, weeks=args.weeks)
    finally:
        database.close()
    if args.json:
        print_objects(lines)
    else:
        print_table(HEADER, [_row(line) for line in lines])
    return 0


def _weeks(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_WEEKS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_WEEKS}, found {text!r}")
    return int(text)


def _begin_new_reference(database: Database, package: str | None, caller: str | None) -> None:
    begun = 0 if package is None else begin_new_reference(database, package=package, calling_ae_title=caller)
    if not begun:
        raise Refuse(
            f"there is no reference of {package or 'a package without a name'} to begin anew",
            reason="no_reference",
            hint="`collimator models drift` lists packages and callers",
        )
    print(f"{begun} of {package} begin anew, with the next {REFERENCE_IMAGES} images of each caller and version")


def _row(line: DriftLine) -> tuple[object, ...]:
    return (
        line.clinic,
        line.calling_ae_title,
        line.package,
        line.version,
        line.week,
        line.images,
        line.feature,
        "" if line.psi is None else f"{line.psi:.3f}",
        "" if line.chance is None else f"{line.chance:.3f}",
        line.is_alarm,
    )
