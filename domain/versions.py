"""Which version of a package answers for a study, and which others look at it without being heard.

    active    answers
    canary    answers instead of it, for a share of the clinic's studies
    shadow    runs afterwards on the same images; what it says never leaves the node and is never charged

Which studies are the canary's is drawn from their Study Instance UID, so that a study that comes again or is analysed
anew meets the same version, on whatever machine. A larger share keeps the studies of a smaller one.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b


class Role(StrEnum):
    ACTIVE = "active"
    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClinicModel:
    """How one clinic uses one package. `active` "": the version that the package's name alone means.

    canary_share: of the clinic's studies, [0, 1].
    """

    package: str
    active: str = ""
    shadow: tuple[str, ...] = ()
    canary: str = ""
    canary_share: float = 0.0

    @property
    def named_versions(self) -> tuple[str, ...]:
        """All that have to be installed."""
        return tuple(dict.fromkeys(version for version in (self.active, self.canary, *self.shadow) if version))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The version that answers for a study. `version` "": the one that the package's name alone means by then."""

    package: str
    version: str = ""
    role: Role = Role.ACTIVE
    why: str = ""


def choose(model: ClinicModel, *, clinic: str, study_instance_uid: str, default: str) -> Choice:
    """Decide which version answers. `default`: what the package's name alone means now."""
    active = model.active or default
    drawn = draw(clinic=clinic, package=model.package, canary=model.canary, study_instance_uid=study_instance_uid)
    if model.canary and drawn < model.canary_share:
        why = f"version {model.canary} as canary: drawn {drawn:.4f}, below its share of {model.canary_share:g}"
        return Choice(package=model.package, version=model.canary, role=Role.CANARY, why=why)
    why = f"version {active}, {'the active one of this clinic' if model.active else 'the newest installed'}"
    if model.canary:
        why += f": drawn {drawn:.4f}, not below the share {model.canary_share:g} of canary {model.canary}"
    return Choice(package=model.package, version=active, role=Role.ACTIVE, why=why)


def draw(*, clinic: str, package: str, canary: str, study_instance_uid: str) -> float:
    """A number in [0, 1) that is the study's for good. Each clinic, package and canary shuffles anew: otherwise the
    same studies would try whatever is new.
    """
    key = blake2b(f"{clinic}\x1f{package}\x1f{canary}".encode(), digest_size=32).digest()
    digest = blake2b(study_instance_uid.encode(), key=key, digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def shadows_of(model: ClinicModel, *, answered: str) -> tuple[str, ...]:
    """The versions that look at a study after `answered` has spoken: also the active one, where it is named among them
    and a canary has answered, so that the two can be compared there as well.
    """
    return tuple(version for version in dict.fromkeys(model.shadow) if version != answered)
