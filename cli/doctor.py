"""`collimator doctor`: looks at all that a working node needs, and says what is wrong and what to do about it."""

import argparse
import os
import secrets
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO

from cli.at_rest import look_at_keys
from cli.database_check import look_at_database
from cli.devices import open_devices
from cli.finding import Finding
from cli.parts import models_dir, settings_for
from cli.stripe_check import look_at_stripe
from config.settings import Settings
from domain.clinics import Destination
from domain.errors import CollimatorError, Misconfigured, Retry
from inference.clinic_models import troubles_of
from inference.registry import Registry
from inference.rule_packages import troubles_of_rules
from reports.write import contexts_of_profile, contexts_of_rejection
from scp.callers import Callers
from scp.contexts import STORAGE_COMMITMENT_PUSH_MODEL
from scp.tls import certificate_of, check_dates, server_context
from scu.confirmation import TRANSFER_SYNTAXES
from scu.echo import echo
from scu.negotiation import refused_contexts
from scu.store import Address, address_of
from storage.shared.url import SETTING as SHARED_URL
from storage.shared.url import open_shared_store

TIMEOUT_S = 5.0
LOW_SPACE_BYTES = 5 << 30
PROBE = b"collimator doctor"
RENEW_WITHIN = timedelta(days=30)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    sick = False
    for finding in examine(settings):
        mark = "ok  " if finding.is_well else "FAIL" if finding.is_fatal else "note"
        print(f"{mark}  {finding.what}: {finding.says}")
        if not finding.is_well and finding.advice:
            print(f"      {finding.advice}")
        sick = sick or (not finding.is_well and finding.is_fatal)
    return 1 if sick else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    yield _data_folder(settings)
    yield _free_space(settings)
    yield from look_at_keys(settings)
    yield from _shared_store(settings)
    yield look_at_database(settings)
    yield _clinics(settings)
    yield _receiver(settings)
    yield from _tls(settings)
    yield _portal(settings)
    yield from _models(settings)
    yield from _devices(settings)
    yield from look_at_stripe(settings)
    for clinic in settings.clinic_directory:
        for destination in clinic.destinations:
            yield from _destination(settings, clinic.name, destination)


def _data_folder(settings: Settings) -> Finding:
    what, folder = "data folder", settings.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.fsync(file.fileno())
    except OSError as error:
        advice = "change node.data_dir, or give the node's user the right to write there"
        return Finding(what=what, is_well=False, says=f"{folder} cannot be written: {error.strerror}", advice=advice)
    return Finding(what=what, is_well=True, says=str(folder.absolute()))


def _free_space(settings: Settings) -> Finding:
    try:
        free = shutil.disk_usage(settings.node.data_dir).free
    except OSError as error:
        return Finding(what="free space", is_well=False, says=str(error.strerror), advice="see the line above")
    return Finding(
        what="free space",
        is_well=free > LOW_SPACE_BYTES,
        says=f"{free / 1e9:.0f} GB",
        advice="less than 5 GB is left: make room before the spool cannot take more",
    )


def _shared_store(settings: Settings) -> Iterator[Finding]:
    """Put a small object, get it, remove it: what receivers and workers need to be allowed."""
    what = "shared store"
    if not settings.storage.shared_url:
        return
    name = f"doctor/{secrets.token_hex(16)}"
    try:
        store = open_shared_store(settings.storage.shared_url)
        store.put(name, PROBE)
        came_back = BytesIO()
        store.get(name, came_back)
        store.remove(name)
    except (CollimatorError, OSError) as error:
        advice = getattr(error, "hint", "") or f"check {SHARED_URL}, the network, and what the node may do there"
        yield Finding(what=what, is_well=False, says=str(error), advice=advice)
        return
    yield Finding(
        what=what,
        is_well=came_back.getvalue() == PROBE,
        says="takes an object, gives it back and removes it",
        advice="what it gives back is not what it took: do not use it",
    )
    if settings.database_url.startswith("sqlite"):
        yield Finding(
            what=what,
            is_well=False,
            says="is used with the embedded database, so by this machine only",
            advice="for several machines set node.database_url to PostgreSQL",
            is_fatal=False,
        )


def _clinics(settings: Settings) -> Finding:
    what, callers = "callers", [caller for clinic in settings.clinics for caller in clinic.callers]
    try:
        unresolved = Callers(settings.clinic_directory).unresolved
    except Misconfigured as error:
        return Finding(what=what, is_well=False, says=error.message, advice=error.hint)
    if unresolved:
        return Finding(
            what=what,
            is_well=False,
            says=f"cannot be resolved, so nobody is let in from there: {', '.join(unresolved)}",
            advice="check the names and this machine's name server, or write addresses; each is tried every minute",
            is_fatal=False,
        )
    return Finding(
        what=what,
        is_well=bool(callers),
        says=f"{len(callers)} may send, for {len(settings.clinics)} clinics",
        advice="add [[clinics]] with [[clinics.callers]]: nobody else is let in",
    )


def _receiver(settings: Settings) -> Finding:
    caller = next((caller.ae_title for clinic in settings.clinics for caller in clinic.callers), "ANYBODY")
    host, port = _reachable(settings.receiver.host), settings.receiver.port
    here = Address(ae_title=settings.node.ae_title, host=host, port=port)
    what = f"receiver {here.ae_title} at {here.host}:{here.port}"
    try:
        echo(here, calling_ae_title=caller, timeout_s=TIMEOUT_S)
    except Retry as error:
        if "rejected" in error.message:
            return Finding(what=what, is_well=True, says="listens, and rejects this machine as a caller, as configured")
        advice = "start `collimator serve` or `collimator receiver`; nothing else may use the port"
        return Finding(what=what, is_well=False, says=error.message, advice=advice, is_fatal=False)
    return Finding(what=what, is_well=True, says="answers C-ECHO")


def _tls(settings: Settings) -> Iterator[Finding]:
    """What the node shows to its peers, and by which it knows them."""
    files = settings.receiver.tls_files
    if files is None:
        return
    try:
        server_context(files)
        certificate = certificate_of(files.certificate_file)
        check_dates(certificate)
    except Misconfigured as error:
        yield Finding(what="TLS", is_well=False, says=error.message, advice=error.hint)
        return
    ends = certificate.not_valid_after_utc
    left = ends - datetime.now(UTC)
    yield Finding(
        what="TLS",
        is_well=left > RENEW_WITHIN,
        says=f"the certificate is valid until {ends:%Y-%m-%d}, for {left.days} days",
        advice="have it renewed; the new files are used without a restart",
        is_fatal=False,
    )
    if files.key_file.stat().st_mode & 0o007:
        yield Finding(
            what="TLS",
            is_well=False,
            says=f"every user of this machine may use the key in {files.key_file}",
            advice="let only the node's user read it: chmod 600",
            is_fatal=False,
        )


def _portal(settings: Settings) -> Finding:
    url = f"http://{_reachable(settings.portal.host)}:{settings.portal.port}/health"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return Finding(what=f"portal {url}", is_well=response.status == 200, says=f"HTTP {response.status}")
    except urllib.error.HTTPError as error:
        says, advice = f"HTTP {error.code}: {error.read(500).decode(errors='replace')}", "see what it says is not well"
    except OSError as error:
        says, advice = f"cannot be reached: {error}", "start `collimator serve` or `collimator portal`"
    return Finding(what=f"portal {url}", is_well=False, says=says, advice=advice, is_fatal=False)


def _models(settings: Settings) -> Iterator[Finding]:
    """A model that no clinic's plan includes may be missing; one that a clinic pays for is worth a note."""
    wanted = {package for clinic in settings.clinic_directory for package in settings.plans.plans[clinic.tier].packages}
    registry = Registry(models_dir(settings))
    try:
        packages, broken = registry.packages(), registry.broken()
    except CollimatorError as error:
        yield Finding(what="models", is_well=False, says=error.message, advice=error.hint)
        return
    for wrong in broken:
        advice = wrong.hint or "mend or remove this folder; until then it is left out"
        yield Finding(what="models", is_well=False, says=wrong.message, advice=advice)
    for package in packages:
        if package.name in wanted or package.is_configured:
            says = f"version {package.manifest.version}" if package.is_configured else "not configured"
            yield Finding(
                what=f"model {package.name}",
                is_well=package.is_configured,
                says=says,
                advice=f"{package.why_not} Until then its studies are kept and explained.",
                is_fatal=False,
            )
    yield from _versions(settings)
    yield from _rules(settings)


def _versions(settings: Settings) -> Iterator[Finding]:
    """What [[clinics.models]] names. A worker does not start without all of it."""
    registry = Registry(models_dir(settings))
    for clinic in settings.clinic_directory:
        troubles = list(troubles_of(registry, clinic))
        for trouble in troubles:
            yield Finding(what="model versions", is_well=False, says=trouble.message, advice=trouble.hint)
        if clinic.models and not troubles:
            named = ", ".join(f"{model.package} {' '.join(model.named_versions)}" for model in clinic.models)
            yield Finding(what="model versions", is_well=True, says=f"{clinic.name} has what it names: {named}")


def _rules(settings: Settings) -> Iterator[Finding]:
    """What [[routing.rules]] names. A worker does not start without all of it."""
    rules = settings.rulebook.rules
    troubles = list(troubles_of_rules(Registry(models_dir(settings)), settings.rulebook))
    for trouble in troubles:
        yield Finding(what="routing rules", is_well=False, says=trouble.message, advice=trouble.hint)
    if not troubles:
        yield Finding(what="routing rules", is_well=True, says=f"each of {len(rules)} names a model that is known here")


def _devices(settings: Settings) -> Iterator[Finding]:
    """Whether each GPU starts, and which configured models it serves; what it cannot serve, the CPU does."""
    devices = open_devices(settings)
    if devices is None:
        return
    try:
        packages = [package for package in Registry(models_dir(settings)).packages() if package.is_configured]
    except CollimatorError:
        return  # said above
    reports = devices.start(packages)
    devices.close()
    for report in reports:
        what = f"device {report.device}"
        yield Finding(
            what=what,
            is_well=not report.why_not,
            says=report.why_not or f"{report.title}, serves {_spoken_count(len(packages) - len(report.unserved))}",
            advice="the CPU serves meanwhile. A running worker owns its devices: then look for device_ready in its log",
            is_fatal=False,
        )
        for name, why in report.unserved.items():
            yield Finding(
                what=f"{what}, model {name}",
                is_well=False,
                says=f"is served by the CPU: {why}",
                advice="see docs/packages.md",
                is_fatal=False,
            )


def _spoken_count(models: int) -> str:
    return f"{models} model{'s' * (models != 1)}"


def _destination(settings: Settings, clinic: str, destination: Destination) -> Iterator[Finding]:
    to = address_of(destination, settings.receiver.tls_files)
    what = f"destination {destination.name} of {clinic}"
    try:
        echo(to, calling_ae_title=settings.node.ae_title, timeout_s=TIMEOUT_S)
    except Retry as error:
        advice = f"is it running there, and does it know AE {settings.node.ae_title} with this machine's address?"
        yield Finding(what=what, is_well=False, says=error.message, advice=error.hint or advice)
        return
    yield Finding(what=what, is_well=True, says="answers C-ECHO" + (" over TLS" if to.tls else ""))
    try:
        yield from _contexts(settings, what, to, destination)
    except Retry as error:
        advice = "it has just answered C-ECHO: does it allow one association after the other?"
        yield Finding(what=f"{what}, contexts", is_well=False, says=error.message, advice=advice)


def _contexts(settings: Settings, what: str, to: Address, destination: Destination) -> Iterator[Finding]:
    """What it takes of what it is to get.

    Raises:
        Retry: no association came about.
    """
    wanted = [context for form in destination.forms for context in contexts_of_profile(form.profile)]
    notes = contexts_of_rejection()
    not_taken = refused_contexts(
        to,
        list(dict.fromkeys((*wanted, *notes))),
        calling_ae_title=settings.node.ae_title,
        timeout_s=TIMEOUT_S,
    )
    refused = [context for context in not_taken if context in wanted]
    forms = " + ".join(form.profile for form in destination.forms)
    yield Finding(
        what=f"{what}, contexts",
        is_well=not refused,
        says=f"takes all of {forms}" if not refused else f"does not take {refused}",
        advice="allow these SOP classes there, or choose another profile or fewer extras for this destination",
    )
    if any(context in not_taken for context in notes):
        yield Finding(
            what=f"{what}, rejection notes",
            is_well=False,
            says="does not take a Key Object Selection, and so no rejection note",
            advice="allow it there, or know that results which are withdrawn have to be removed there by hand",
            is_fatal=False,
        )
    if destination.commitment:
        yield _commitment(settings, what, to)


def _commitment(settings: Settings, what: str, to: Address) -> Finding:
    wanted = [(STORAGE_COMMITMENT_PUSH_MODEL, syntax) for syntax in TRANSFER_SYNTAXES]
    refused = refused_contexts(to, wanted, calling_ae_title=settings.node.ae_title, timeout_s=TIMEOUT_S)
    is_taken = len(refused) < len(wanted)
    return Finding(
        what=f"{what}, commitment",
        is_well=is_taken,
        says="takes Storage Commitment" if is_taken else "does not take Storage Commitment (Push Model)",
        advice=f"allow it there for AE {settings.node.ae_title}, or set commitment = false for this destination",
    )


def _reachable(host: str) -> str:
    """Where to find a service of this machine that listens on every address."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
