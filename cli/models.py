"""`collimator models`: which model packages this node has, how they come here, and how accurate they are."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from cli import comparison, drift, evaluation
from cli.listing import print_objects, print_table
from cli.parts import models_dir, settings_or_defaults
from config.settings import Settings
from domain.errors import CollimatorError, Misconfigured, Refuse
from inference.acceptance import Acceptance, read_acceptance
from inference.children import Limits
from inference.install import add, check, published
from inference.install import pull as pull  # the demonstration pulls too
from inference.package import Package
from inference.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="models_verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="all packages, and why one is not configured")
    listing.add_argument("--json", action="store_true", help="a list of objects")
    pulling = verbs.add_parser("pull", help="download, check and convert a shipped package's published weights")
    pulling.add_argument("name", metavar="NAME")
    pulling.add_argument("--accept-licence", default="", metavar="LICENCE", help="by its name, where it binds you")
    pulling.add_argument("--by", default="", metavar="WHO", help="who accepts it; default: the account that runs this")
    verifying = verbs.add_parser("verify", help="check bytes, network and golden scores, of all packages or one")
    verifying.add_argument("name", metavar="NAME", nargs="?")
    adding = verbs.add_parser("add", help="check a package of your own and install a copy of it")
    adding.add_argument("folder", metavar="DIR", type=Path)
    evaluating = verbs.add_parser("evaluate", help="measure a package on labelled images")
    evaluation.add_arguments(evaluating)
    comparing = verbs.add_parser("compare", help="how two versions differ on the studies at which both have looked")
    comparison.add_arguments(comparing)
    drifting = verbs.add_parser("drift", help="how far scores and images have moved from where they began")
    drift.add_arguments(drifting)


def run(args: argparse.Namespace) -> int:
    if args.models_verb == "compare":
        return comparison.run(args)
    if args.models_verb == "drift":
        return drift.run(args)
    settings = settings_or_defaults(args.config)
    installed_dir, limits = models_dir(settings), _limits(settings)
    match args.models_verb:
        case "list":
            return _list(Registry(installed_dir), as_json=args.json)
        case "pull":
            _show_licence(published(args.name))
            is_new = pull(
                args.name, installed_dir, accepted_licence=args.accept_licence, accepted_by=args.by, limits=limits
            )
            done = "pulled, checked and installed" if is_new else "was pulled before, and is whole:"
            print(f"{args.name}: {done} in {installed_dir / args.name}")
            return 0
        case "add":
            package = add(args.folder, installed_dir, limits=limits)
            print(f"{package.name} {package.manifest.version}: checked and installed in {package.folder}")
            _say_what_answers(package, Registry(installed_dir))
            return 0
        case "verify":
            registry = Registry(installed_dir)
            packages = registry.versions(args.name) if args.name else _all_versions(registry)
            status = _verify(packages, limits, is_named=bool(args.name))
            return _name_all(registry.broken(args.name or "")) or status
        case _:
            return evaluation.run(Registry(installed_dir).get(args.package, args.version), args)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageLine:
    """A version of a package as `models list --json` gives it.

    is_active: the one that the package's name alone means, where a clinic's configuration names no other.
    """

    name: str
    version: str
    is_active: bool
    title: str
    is_configured: bool
    why_not: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    age_min_years: int | None
    age_max_years: int | None
    labels: tuple[str, ...]
    licence: str
    weights_sha256: str
    is_cleared: bool
    folder: str
    adapter: str
    licence_url: str
    licence_binds: bool
    attribution: str
    licence_accepted_by: str
    licence_accepted_at: str
    licence_accepted_for_sha256: str


def _limits(settings: Settings) -> Limits:
    inference = settings.inference
    return Limits(memory_limit_bytes=inference.memory_limit_mb << 20, time_limit_s=inference.time_limit_s)


def _all_versions(registry: Registry) -> list[Package]:
    return [version for package in registry.packages() for version in registry.versions(package.name)]


def _say_what_answers(added: Package, registry: Registry) -> None:
    """Where there is more than one version, what adding this one has changed."""
    version, active = added.manifest.version, registry.get(added.name).manifest.version
    if len(registry.versions(added.name)) > 1:
        says = "answers from now on" if version == active else f"waits; {active} answers"
        print(f"{added.name} {version} {says}, for every clinic whose [[clinics.models]] names no other")


def _list(registry: Registry, *, as_json: bool) -> int:
    active = {package.name: package.manifest.version for package in registry.packages()}
    lines, damaged = [], []
    for package in _all_versions(registry):
        try:
            acceptance = read_acceptance(package.folder)
        except Misconfigured as error:
            acceptance = None
            damaged.append(error)
        lines.append(_line(package, active[package.name], acceptance))
    if as_json:
        print_objects(lines)
    else:
        print_table(
            ("NAME", "VERSION", "ACTIVE", "CONFIGURED", "ADAPTER", "LABELS", "LICENCE", "ACCEPTED", "TITLE", "WHY NOT"),
            [
                (
                    line.name,
                    line.version,
                    line.is_active,
                    line.is_configured,
                    line.adapter,
                    len(line.labels),
                    line.licence,
                    f"{line.licence_accepted_at[:10]} {line.licence_accepted_by}".strip(),
                    line.title,
                    line.why_not,
                )
                for line in lines
            ],
        )
    return _name_all(registry.broken() + damaged)


def _name_all(broken: list[Misconfigured]) -> int:
    """What is wrong with folders that the registry leaves out, or with what lies in them. 1 where there is anything."""
    for error in broken:
        print(f"collimator: {error.message}", file=sys.stderr)
    return 1 if broken else 0


def _line(package: Package, active_version: str, acceptance: Acceptance | None) -> PackageLine:
    manifest = package.manifest
    licence = manifest.weights.licence
    return PackageLine(
        name=package.name,
        version=manifest.version,
        is_active=manifest.version == active_version,
        title=manifest.title,
        is_configured=package.is_configured,
        why_not=package.why_not,
        modalities=manifest.accepts.modalities,
        body_parts=manifest.accepts.body_parts,
        age_min_years=manifest.accepts.age_min_years,
        age_max_years=manifest.accepts.age_max_years,
        labels=tuple(label.label for label in manifest.labels),
        licence=licence.name,
        weights_sha256=manifest.weights.sha256,
        is_cleared=manifest.is_cleared,
        folder=str(package.folder),
        adapter=manifest.adapter_name,
        licence_url=licence.url,
        licence_binds=bool(licence.name) and licence.binds,
        attribution=manifest.weights.attribution,
        licence_accepted_by=acceptance.accepted_by if acceptance else "",
        licence_accepted_at=acceptance.accepted_at if acceptance else "",
        licence_accepted_for_sha256=acceptance.source_sha256 if acceptance else "",
    )


def _show_licence(package: Package) -> None:
    """Before a byte is fetched, also where nothing has to be accepted."""
    licence = package.manifest.weights.licence
    print(f"{package.name}: the weights' licence is {licence.name}. {licence.asks}")
    for line in (licence.url, package.manifest.weights.attribution):
        if line:
            print(f"  {line}")
    sys.stdout.flush()


def _verify(packages: list[Package], limits: Limits, *, is_named: bool) -> int:
    """A package without weights has nothing to verify; it is a failure only where it was asked for by name."""
    status = 0
    for package in packages:
        if not package.is_configured and not is_named:
            print(f"{package.name}: not configured")
            continue
        try:
            if not package.is_configured:
                raise Refuse("not configured", reason="not_configured", hint=package.why_not)
            check(package, limits)
            print(f"{package.name} {package.manifest.version}: bytes, network and golden scores are right")
        except CollimatorError as error:
            # Every package is looked at, whatever an earlier one was like.
            hint = f" ({error.hint})" if error.hint else ""
            print(
                f"collimator: {package.name}: {error.message.removeprefix(f'{package.name}: ')}{hint}", file=sys.stderr
            )
            status = 1
    return status
