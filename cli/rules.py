"""`collimator rules explain`: why a study goes where it goes, without sending it."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from pydicom.errors import InvalidDicomError

from cli.parts import settings_or_defaults
from domain.routing import decide, explain
from domain.study import Instance, Study
from storage.headers import read_any_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="rules_verb", metavar="explain", required=True)
    explain_parser = verbs.add_parser("explain", help="print the whole decision for some files")
    explain_parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    explain_parser.add_argument("--caller", default="", metavar="AE", help="as if this AE title had sent them")


def run(args: argparse.Namespace) -> int:
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
