"""`collimator models compare PACKAGE`: how two versions differ on the studies at which both have looked."""

import argparse
from datetime import UTC, datetime

from cli.listing import print_objects, print_table
from cli.parts import open_database, settings_for
from domain.comparison import Comparison, LabelComparison, VersionFigures
from domain.feedback import Words
from storage.answers.comparisons import Asked, compare_versions

VERSIONS = ("VERSION", "STUDIES", "IMAGES", "FAILED", "INFER P50 S", "INFER P95 S")
LABELS = (
    "LABEL", "N", "AGREE", "KAPPA", "BOTH", "ONLY FROM", "ONLY TO", "NEITHER", "|DIFF|", "|DIFF| P95", "SHIFT", "PSI",
    "READERS FROM", "READERS TO",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", metavar="PACKAGE")
    parser.add_argument("--from", dest="from_version", default="", metavar="V1", help="default: the active version")
    parser.add_argument("--to", dest="to_version", default="", metavar="V2", help="default: the other that ran last")
    parser.add_argument("--clinic", metavar="NAME", help="only this clinic's studies")
    parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="only what ran from this day on, in UTC")
    parser.add_argument("--json", action="store_true", help="a list of one object")


def run(args: argparse.Namespace) -> int:
    database = open_database(settings_for(args.config))
    asked = Asked(
        package=args.package,
        from_version=args.from_version,
        to_version=args.to_version,
        clinics=None if args.clinic is None else {args.clinic},
        since=args.since,
    )
    try:
        comparison = compare_versions(database, asked)
    finally:
        database.close()
    if args.json:
        print_objects([comparison])
    else:
        _print(comparison)
    return 0


def day(text: str) -> datetime:
    """
    Raises:
        ValueError: it is no date; argparse says so.
    """
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


def _print(comparison: Comparison) -> None:
    before, after = comparison.from_version, comparison.to_version
    print_table(VERSIONS, [_version(before), _version(after)])
    print(f"\n{comparison.package} from {before.version} to {after.version}: ", end="")
    print(f"{comparison.images} images of {comparison.studies} studies seen by both\n")
    print_table(LABELS, [_label(label) for label in comparison.labels])


def _version(figures: VersionFigures) -> tuple[object, ...]:
    return (
        figures.version,
        figures.studies,
        figures.images,
        figures.failed_studies,
        _number(figures.infer_p50_s),
        _number(figures.infer_p95_s),
    )


def _label(label: LabelComparison) -> tuple[object, ...]:
    return (
        label.label,
        label.images,
        _number(label.agreement),
        _number(label.kappa),
        label.both,
        label.only_from,
        label.only_to,
        label.neither,
        _number(label.difference_mean),
        _number(label.difference_p95),
        _number(label.shift, "+.3f"),
        _number(label.psi),
        _words(label.from_words),
        _words(label.to_words),
    )


def _words(words: Words) -> str:
    return f"+{words.agree} -{words.disagree}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)
