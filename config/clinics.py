"""The section of each clinic: who sends for it, who gets its results, and which versions of models it uses."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from config.billing import ClinicBillingSettings
from config.section import Section
from config.values import AETitle, Host, Name, Port, Seconds, Subject
from domain.clinics import Caller, Clinic, Destination
from domain.hosts import network_of, plain_text
from domain.plans import Tier
from domain.subjects import attributes_of
from domain.versions import ClinicModel


class CallerCompletionSettings(Section):
    """What is None is as in [completion]."""

    quiet_s: Seconds | None = None
    after_release_s: Seconds | None = None
    max_age_s: Seconds | None = None


class CallerSettings(Section):
    ae_title: AETitle
    host: Host = ""
    certificate_subject: Subject = ""
    commitment_port: Port = 0
    commitment_tls: bool = False
    commitment_tls_name: Host = ""
    stat: bool = False
    completion: CallerCompletionSettings = CallerCompletionSettings()

    @model_validator(mode="after")
    def _commitment_keys_are_looked_at(self) -> "CallerSettings":
        if self.commitment_tls and not self.commitment_port:
            raise ValueError("commitment_port is 0, so commitment_tls would be for nothing")
        if self.commitment_tls_name and not self.commitment_tls:
            raise ValueError("commitment_tls is false, so commitment_tls_name would be for nothing")
        return self


class DestinationSettings(Section):
    name: Name
    ae_title: AETitle
    host: Annotated[str, StringConstraints(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    profile: Literal["standard", "ohif", "air", "text", "sc_only"] = "standard"
    extras: tuple[Literal["kos", "gsps", "seg", "pdf"], ...] = ()
    language: Literal["en", "de"] = "en"
    compression: Literal["none", "rle"] = "none"
    commitment: bool = False
    tls: bool = False
    tls_name: Host = ""

    @model_validator(mode="after")
    def _tls_name_is_looked_at(self) -> "DestinationSettings":
        if self.tls_name and not self.tls:
            raise ValueError("tls is false, so tls_name would be for nothing: set tls, or leave tls_name out")
        return self

    @model_validator(mode="after")
    def _key_objects_are_there(self) -> "DestinationSettings":
        if "kos" in self.extras and self.profile == "text":
            raise ValueError(
                'extras has "kos", which names the overlays, and profile "text" sends none: choose another profile'
            )
        return self


class ModelSettings(Section):
    package: Name
    active: str = ""
    shadow: tuple[str, ...] = ()
    canary: str = ""
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _canary_has_a_share(self) -> "ModelSettings":
        if self.canary and "canary_share" not in self.model_fields_set:
            raise ValueError(f"canary is {self.canary!r}, so canary_share must say for which share of the studies")
        if self.canary_share and not self.canary:
            raise ValueError(f"canary_share is {self.canary_share:g}, so canary must name a version")
        if self.canary and self.canary == self.active:
            raise ValueError(f"active and canary are both {self.canary!r}; a canary is tried against another version")
        return self


class ClinicSettings(Section):
    name: Name
    tier: Tier
    notes: bool = True
    note_pictures: bool = False
    callers: tuple[CallerSettings, ...] = ()
    destinations: tuple[DestinationSettings, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    billing: ClinicBillingSettings = ClinicBillingSettings()

    @property
    def shown_a_certificate(self) -> list[str]:
        """To whom the node speaks over TLS, by the keys that say so."""
        return [
            *(f"clinics.destinations: {self.name}.{one.name} has tls" for one in self.destinations if one.tls),
            *(
                f"clinics.callers: {self.name}.{one.ae_title} has commitment_tls"
                for one in self.callers
                if one.commitment_tls
            ),
        ]

    @property
    def clinic(self) -> Clinic:
        return Clinic(
            name=self.name,
            tier=self.tier,
            sends_notes=self.notes,
            draws_notes=self.note_pictures,
            callers=tuple(Caller(**caller.model_dump(exclude={"completion"})) for caller in self.callers),
            destinations=tuple(Destination(**destination.model_dump()) for destination in self.destinations),
            models=tuple(ClinicModel(**model.model_dump()) for model in self.models),
            billing=self.billing.terms,
        )


def refuse_two_completions(clinic: ClinicSettings) -> None:
    """A study remembers its caller by the AE title alone."""
    completions: dict[str, CallerCompletionSettings] = {}
    for caller in clinic.callers:
        if completions.setdefault(caller.ae_title, caller.completion) != caller.completion:
            raise ValueError(
                f"clinics.{clinic.name}.callers: {caller.ae_title} is there more than once, and completion differs"
            )


def sender_of(caller: CallerSettings) -> str:
    """What tells a caller from every other, however it is written."""
    network = network_of(caller.host)
    host = caller.host.rstrip(".").lower() if network is None else plain_text(network)
    subject = ",".join(f"{kind}={value}" for kind, value in sorted(attributes_of(caller.certificate_subject)))
    return f"{caller.ae_title} at {host or 'any host'}" + (f" as {subject}" if subject else "")
