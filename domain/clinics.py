"""Who takes part: the clinic that pays, the callers that may send for it, the destinations that get its results."""

from dataclasses import dataclass, field

from domain.billing import BillingTerms
from domain.plans import Tier
from domain.versions import ClinicModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """An AE that may send for a clinic: its Calling AE Title, and the address it must come from (empty: any).

    certificate_subject: what the subject of its TLS certificate must be (RFC 4514); empty: any, or none.
    commitment_port: where it listens for the outcome of storage commitment; 0: it cannot ask for one.
    stat: what it sends goes before everything else.
    """

    ae_title: str
    host: str = ""
    certificate_subject: str = ""
    commitment_port: int = 0
    stat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """An AE that gets a clinic's results. `profile` names the set of result objects it takes.

    commitment: it is asked to commit to what it stored (domain/confirmation.py).
    """

    name: str
    ae_title: str
    host: str
    port: int
    profile: str = "standard"
    commitment: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Clinic:
    """The tenant that pays. `sends_notes`: its PACS gets a note for a study that was kept but not analysed.

    models: the packages of which it does not simply use the newest version.
    billing: who pays, and for which periods.
    """

    name: str
    tier: Tier
    sends_notes: bool
    callers: tuple[Caller, ...]
    destinations: tuple[Destination, ...]
    models: tuple[ClinicModel, ...] = ()
    billing: BillingTerms = field(default_factory=BillingTerms)

    def model(self, package: str) -> ClinicModel:
        """How it uses this package."""
        return next((model for model in self.models if model.package == package), ClinicModel(package=package))
