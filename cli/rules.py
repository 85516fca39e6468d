"""`collimator rules`: why a study goes where it goes, and what other rules would change, before anything is sent."""

import argparse
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom.errors import InvalidDicomError

from cli.listing import print_objects, print_table
from cli.parts import open_database, open_spool, settings_for, settings_or_defaults
from config.settings import load
from domain.routing import decide, explain
from domain.study import Instance, Study
from storage.headers import read_any_file
from storage.studies import latest_studies, read_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="rules_verb", metavar="VERB", required=True)
    explain_parser = verbs.add_parser("explain", help="print the whole decision for some files")
    explain_parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    explain_parser.add_argument("--caller", default="", metavar="AE", help="as if this AE title had sent them")
    dry_run = verbs.add_parser("dry-run", help="which of the stored studies would go elsewhere by other rules")
    dry_run.add_argument("proposed", type=Path, metavar="FILE", help="a configuration with the [routing] to try")
    dry_run.add_argument("--last", type=int, default=500, metavar="N", help="so many studies (default: %(default)s)")
    dry_run.add_argument("--json", action="store_true", help="a list of objects, one a study that would change")


def run(args: argparse.Namespace) -> int:
    return _dry_run(args) if args.rules_verb == "dry-run" else _explain(args)


def _explain(args: argparse.Namespace) -> int:
    settings = settings_or_defaults(args.config)
    instances, status = [], 0
    for path in args.paths:
        try:
            instances.append(_instance(path))
        except (OSError, InvalidDicomError, ValueError) as error:
            print(f"collimator: {path} cannot be read: {error}", file=sys.stderr)
            status = 1
    for instance in instances:
        study = Study(
            clinic="",
            study_instance_uid="",
            generation=1,
            calling_ae_title=args.caller,
            completed_at=datetime.now(UTC),
            completion_reason="",
            instances=(instance,),
        )
        print(f"{instance.path}")
        print("\n".join(explain(decide(study, settings.rulebook))))
    return status


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A study that other rules would send elsewhere, and their reason. An empty package: it would not be analysed."""

    clinic: str
    study_instance_uid: str
    generation: int
    packages_now: tuple[str, ...]
    packages_proposed: tuple[str, ...]
    reason_proposed: str


def _dry_run(args: argparse.Namespace) -> int:
    """Both rulebooks decide anew over what the headers said; nothing is written."""
    settings = settings_for(args.config)
    rulebook, proposed = settings.rulebook, load(args.proposed).rulebook
    database, spool = open_database(settings), open_spool(settings)
    studies = [read_study(database, spool, study_id) for study_id in latest_studies(database, limit=args.last)]
    database.close()
    changes = []
    for study in studies:
        now, then = decide(study, rulebook), decide(study, proposed)
        if now.packages != then.packages:
            changes.append(
                Change(
                    clinic=study.clinic,
                    study_instance_uid=study.study_instance_uid,
                    generation=study.generation,
                    packages_now=now.packages,
                    packages_proposed=then.packages,
                    reason_proposed=then.reason,
                )
            )
    if args.json:
        print_objects(changes)
        return 0
    if changes:
        print_table(("CLINIC", "STUDY", "NOW", "PROPOSED", "WHY"), [_row(change) for change in changes])
    print(f"{len(changes)} of the last {len(studies)} studies would go elsewhere")
    return 0


def _row(change: Change) -> tuple[str, ...]:
    now, proposed = (", ".join(to) or "nowhere" for to in (change.packages_now, change.packages_proposed))
    return change.clinic, change.study_instance_uid, now, proposed, change.reason_proposed


def _instance(path: Path) -> Instance:
    dataset, facts = read_any_file(path)
    if "SOPInstanceUID" not in dataset:
        raise ValueError("it is not a DICOM file")
    return Instance(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
        transfer_syntax_uid="",
        path=str(path),
        facts=facts,
    )
