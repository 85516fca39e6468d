"""Is every version that a clinic's configuration names installed here, with its weights?"""

from collections.abc import Iterator, Sequence

from domain.clinics import Clinic
from domain.errors import Misconfigured
from domain.versions import ClinicModel
from inference.registry import Registry


def check_clinic_models(registry: Registry, clinics: Sequence[Clinic]) -> None:
    """
    Raises:
        Misconfigured: a package or version is not there, has no weights, or is its own canary; for all of them.
    """
    wrong = [trouble for clinic in clinics for trouble in troubles_of(registry, clinic)]
    if wrong:
        hints = dict.fromkeys(trouble.hint for trouble in wrong if trouble.hint)
        raise Misconfigured("; ".join(trouble.message for trouble in wrong), hint=" ".join(hints))


def troubles_of(registry: Registry, clinic: Clinic) -> Iterator[Misconfigured]:
    """What is wrong with a clinic's [[clinics.models]], one error after the other."""
    for model in clinic.models:
        where = f"clinics.{clinic.name}.models, {model.package}"
        try:
            _check(registry, model)
        except Misconfigured as error:
            yield Misconfigured(f"{where}: {error.message}", hint=error.hint)


def _check(registry: Registry, model: ClinicModel) -> None:
    active = registry.get(model.package, model.active).manifest.version
    for version in model.named_versions:
        package = registry.get(model.package, version)
        if not package.is_configured:
            raise Misconfigured(f"version {version} is not configured", hint=package.why_not)
    if model.canary == active:
        raise Misconfigured(
            f"the canary {model.canary} is the active version as well",
            hint="name the version that it is tried against as `active`",
        )
