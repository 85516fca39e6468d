"""Who takes part: the clinic that pays, the callers that may send for it, the destinations that get its results."""

from dataclasses import dataclass, field

from domain.billing import BillingTerms
from domain.plans import Tier
from domain.versions import ClinicModel

ENGLISH = "en"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """An AE that may send for a clinic: its Calling AE Title, and the address it must come from (empty: any).

    certificate_subject: what the subject of its TLS certificate must be (RFC 4514); empty: any, or none.
    commitment_port: where it listens for the outcome of storage commitment; 0: it cannot ask for one.
    commitment_tls: the outcome is sent over TLS.
    commitment_tls_name: the name or address that its certificate is made out to, where it is not the one it asked from.
    stat: what it sends goes before everything else.
    """

    ae_title: str
    host: str = ""
    certificate_subject: str = ""
    commitment_port: int = 0
    commitment_tls: bool = False
    commitment_tls_name: str = ""
    stat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultForm:
    """What results are written in for all destinations that take the same.

    profile: or an extra.
    """

    profile: str
    language: str = ENGLISH

    @property
    def name(self) -> str:
        """`standard`, or `standard/de`: what the database knows the form by."""
        return self.profile if self.language == ENGLISH else f"{self.profile}/{self.language}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """An AE that gets a clinic's results. `profile` names the set of result objects it takes.

    extras: kinds of result that it gets besides.
    commitment: it is asked to commit to what it stored (domain/confirmation.py).
    language: that of what its people read ("en", "de").
    compression: how pictures travel where it takes them so ("none", "rle"); without loss.
    tls: it is spoken to over TLS.
    tls_name: the name or address that its certificate is made out to, where that is not `host`.
    """

    name: str
    ae_title: str
    host: str
    port: int
    profile: str = "standard"
    extras: tuple[str, ...] = ()
    commitment: bool = False
    language: str = ENGLISH
    compression: str = "none"
    tls: bool = False
    tls_name: str = ""

    @property
    def forms(self) -> tuple[ResultForm, ...]:
        """That of its profile, and one for each of its extras."""
        return tuple(ResultForm(profile=profile, language=self.language) for profile in (self.profile, *self.extras))


@dataclass(frozen=True, kw_only=True, slots=True)
class Clinic:
    """The tenant that pays. `sends_notes`: its PACS gets a note for a study that was kept but not analysed.

    draws_notes: as a picture as well as in words, where a destination takes both.
    models: the packages of which it does not simply use the newest version.
    billing: who pays, and for which periods.
    """

    name: str
    tier: Tier
    sends_notes: bool
    callers: tuple[Caller, ...]
    destinations: tuple[Destination, ...]
    models: tuple[ClinicModel, ...] = ()
    draws_notes: bool = False
    billing: BillingTerms = field(default_factory=BillingTerms)

    def model(self, package: str) -> ClinicModel:
        """How it uses this package."""
        return next((model for model in self.models if model.package == package), ClinicModel(package=package))
