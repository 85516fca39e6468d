"""`collimator rules`: why a study goes where it goes, and what other rules would change, before anything is sent."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cli.listing import print_objects, print_table
from cli.parts import models_dir, open_database, open_spool, settings_for, settings_or_defaults
from config.settings import Settings, load
from domain.clinics import Clinic
from domain.errors import Misconfigured, Refuse
from domain.routing import Decision, RuleBook, decide, explain
from domain.study import Instance, Study
from domain.versions import Choice, ClinicModel, choose
from inference.gates import with_gates
from inference.package import Package
from inference.registry import Registry
from inference.rule_packages import check_rule_packages
from storage.database import is_there
from storage.headers import read_any_file
from storage.studies import latest_studies, read_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="rules_verb", metavar="VERB", required=True)
    explain_parser = verbs.add_parser("explain", help="print the whole decision for some files")
    explain_parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with files")
    explain_parser.add_argument("--caller", default="", metavar="AE", help="as if this AE title had sent them")
    explain_parser.add_argument("--clinic", default="", metavar="NAME", help="with the model versions of this clinic")
    dry_run = verbs.add_parser("dry-run", help="which of the stored studies would go elsewhere by other rules")
    dry_run.add_argument("proposed", type=Path, metavar="FILE", help="a configuration with the [routing] to try")
    dry_run.add_argument("--last", type=_count, default=500, metavar="N", help="so many studies (default: %(default)s)")
    dry_run.add_argument("--json", action="store_true", help="a list of objects, one a study that would change")


def run(args: argparse.Namespace) -> int:
    return _dry_run(args) if args.rules_verb == "dry-run" else _explain(args)


def _explain(args: argparse.Namespace) -> int:
    """Each file as a study of its own. The plan and the quota are asked by the node, later."""
    settings = settings_or_defaults(args.config)
    models = Models(settings)
    check_rule_packages(models.registry, settings.rulebook)
    if args.clinic and models.clinic(args.clinic) is None:
        names = ", ".join(clinic.name for clinic in settings.clinics) or "none"
        raise Misconfigured(f"there is no clinic {args.clinic!r}", hint=f"There are: {names}.")
    explained, status = 0, 0
    for path, is_named in _files_in(args.paths):
        try:
            study = _study(path, clinic=args.clinic, caller=args.caller)
        except Exception as error:  # whatever pydicom makes of what is no DICOM file
            what = "cannot be read" if is_named else "is skipped"
            print(f"collimator: {path} {what}: {error}", file=sys.stderr)
            status = 1 if is_named else status
            continue
        explained += 1
        decision = models.decide(study, settings.rulebook)
        print(path)
        print("\n".join((*explain(decision), *models.not_configured(decision))))
    if not explained and not status:
        raise Refuse("there is no DICOM file to explain", reason="nothing_to_explain")
    return status


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageChange:
    """Where one image would go instead. Empty: nowhere; `refused`: why the package would not take it; `reason`: why it
    would go there.
    """

    sop_instance_uid: str
    package_now: str
    package_proposed: str
    refused_now: str
    refused_proposed: str
    reason_proposed: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A study of which other rules would send an image elsewhere, and their reason. No package: nothing is analysed.

    refused_proposed: what the packages' gates would say then, also to images that go where they went.
    """

    clinic: str
    study_instance_uid: str
    generation: int
    packages_now: tuple[str, ...]
    packages_proposed: tuple[str, ...]
    reason_proposed: str
    images: int
    images_changed: tuple[ImageChange, ...]
    refused_proposed: tuple[str, ...]


def _dry_run(args: argparse.Namespace) -> int:
    """Both rulebooks decide anew over what the headers said; nothing is written."""
    settings = settings_for(args.config)
    rulebook, proposed = settings.rulebook, load(args.proposed).rulebook
    models = Models(settings)
    check_rule_packages(models.registry, proposed)
    if not (settings.node.data_dir.is_dir() and is_there(settings.database_url)):
        raise Refuse(
            f"there is nothing to run on: no study was ever stored in {settings.node.data_dir}",
            reason="no_studies",
            hint="name the running node's configuration with --config, or try files with `collimator rules explain`",
        )
    database, spool = open_database(settings), open_spool(settings)
    studies = [read_study(database, spool, study_id) for study_id in latest_studies(database, limit=args.last)]
    database.close()
    found = (_change(study, models.decide(study, rulebook), models.decide(study, proposed)) for study in studies)
    changes = [change for change in found if change.images_changed]
    if args.json:
        print_objects(changes)
        return 0
    if changes:
        header = ("CLINIC", "STUDY", "NOW", "PROPOSED", "IMAGES", "REFUSED", "WHY")
        print_table(header, [_row(change) for change in changes])
    print(f"{len(changes)} of the last {len(studies)} studies would go elsewhere")
    return 0


def _change(study: Study, now: Decision, then: Decision) -> Change:
    pairs = list(zip(now.images, then.images, strict=True))
    return Change(
        clinic=study.clinic,
        study_instance_uid=study.study_instance_uid,
        generation=study.generation,
        packages_now=now.packages,
        packages_proposed=then.packages,
        reason_proposed=then.reason,
        images=len(pairs),
        images_changed=tuple(
            ImageChange(
                sop_instance_uid=before.sop_instance_uid,
                package_now=before.package or "",
                package_proposed=after.package or "",
                refused_now=before.refusal,
                refused_proposed=after.refusal,
                reason_proposed=after.reason,
            )
            for before, after in pairs
            if (before.package, before.refusal) != (after.package, after.refusal)
        ),
        refused_proposed=tuple(image.refusal for image in then.images if image.refusal),
    )


def _row(change: Change) -> tuple[str, ...]:
    now, proposed = (", ".join(to) or "nowhere" for to in (change.packages_now, change.packages_proposed))
    refused = change.refused_proposed
    return (
        change.clinic,
        change.study_instance_uid,
        now,
        proposed,
        f"{len(change.images_changed)} of {change.images}",
        f"{len(refused)}: {', '.join(dict.fromkeys(refused))}" if refused else "-",
        "; ".join(dict.fromkeys(image.reason_proposed for image in change.images_changed)),
    )


class Models:
    """What is installed here, and which version of it each clinic uses."""

    def __init__(self, settings: Settings) -> None:
        self.registry = Registry(models_dir(settings))
        self._clinics = {clinic.name: clinic for clinic in settings.clinic_directory}
        self._names = {package.name for package in self.registry.packages()}

    def clinic(self, name: str) -> Clinic | None:
        return self._clinics.get(name)

    def decide(self, study: Study, rulebook: RuleBook) -> Decision:
        """The whole decision, as far as a study and the models tell it. A package that is not there is not asked."""
        decision = decide(study, rulebook)
        decision = replace(decision, choices=tuple(self._choices(study, decision)))
        return with_gates(decision, study, self._chosen(decision), rulebook)

    def not_configured(self, decision: Decision) -> list[str]:
        """A line for each package that would not answer."""
        return [f"{name}: not configured. {one.why_not}" for name, one in self._chosen(decision).items() if one.why_not]

    def _choices(self, study: Study, decision: Decision) -> Iterator[Choice]:
        clinic = self.clinic(study.clinic)
        for name in decision.packages:
            if name in self._names:
                yield choose(
                    clinic.model(name) if clinic else ClinicModel(package=name),
                    clinic=study.clinic,
                    study_instance_uid=study.study_instance_uid,
                    default=self.registry.get(name).manifest.version,
                )

    def _chosen(self, decision: Decision) -> dict[str, Package]:
        return {choice.package: self.registry.get(choice.package, choice.version) for choice in decision.choices}


def _files_in(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named itself: what lies in a folder need not be DICOM."""
    for path in paths:
        if path.is_dir():
            yield from ((file, False) for file in sorted(path.rglob("*")) if file.is_file())
        else:
            yield path, True


def _study(path: Path, *, clinic: str, caller: str) -> Study:
    dataset, facts = read_any_file(path)
    if "SOPInstanceUID" not in dataset:
        raise ValueError("it is not a DICOM file")
    instance = Instance(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
        transfer_syntax_uid="",
        path=str(path),
        facts=facts,
    )
    return Study(
        clinic=clinic,
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        generation=1,
        calling_ae_title=caller,
        completed_at=datetime.now(UTC),
        completion_reason="",
        instances=(instance,),
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of studies: 1 or more is expected")
    return int(text)
