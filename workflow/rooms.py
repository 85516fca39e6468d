"""Everything that a job may use, built once by the command line and handed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.billing import Payer
from domain.clinics import Clinic, Destination
from domain.errors import Misconfigured
from domain.queueing import StatRules
from domain.routing import RuleBook
from domain.tls import TlsFiles
from inference.analyst import Analyst
from inference.registry import Registry
from metering.billing import Billing
from reports.request import NodeIdentity
from storage.database import Database, utc_now
from storage.instances import ResultFolder, Spool
from storage.jobs import JobQueue


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRules:
    """How long a destination may be away, and how the attempts are spread over that time.

    commitment_wait_s: how long after it was asked it may report that it commits to what it stored.
    """

    first_retry_s: float
    longest_retry_s: float
    give_up_after_s: float
    timeout_s: float
    commitment_wait_s: float = 3600.0

    def is_over(self, since: datetime) -> bool:
        """Whether what has waited since then has waited for too long."""
        return (utc_now() - since).total_seconds() > self.give_up_after_s

    def delay_s(self, attempt: int, *, chance: float) -> float:
        """The wait before attempt `attempt + 1`, doubling from `first_retry_s`.

        chance: from 0 to 1; it spreads the wait by a fifth to either side, so that what failed together does not come
        back together.
        """
        delay_s = min(self.first_retry_s * 2 ** min(attempt - 1, 32), self.longest_retry_s)
        return float(delay_s * (0.8 + 0.4 * chance))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rooms:
    """`stand_ins` names a package that may answer for one that is not configured; only `collimator demo` sets it.

    shadow_analyst: for versions that only watch; its child stands back behind that of `analyst`.
    pixel_retention: how long received instances stay once their study's results are delivered; None: for good.
    job_retention: how long the engine remembers a job that has ended; None: for good.
    run_retention: how long what each version said is kept to be compared; None: for good.
    payers: whoever collects the money, by the way in which a clinic pays.
    tls_files: what the node shows to destinations over TLS.
    """

    database: Database
    spool: Spool
    results: ResultFolder
    jobs: JobQueue
    registry: Registry
    analyst: Analyst
    shadow_analyst: Analyst
    rulebook: RuleBook
    clinics: tuple[Clinic, ...]
    node: NodeIdentity
    ae_title: str
    delivery: DeliveryRules
    stat: StatRules = field(default_factory=StatRules)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    pixel_retention: timedelta | None = None
    job_retention: timedelta | None = None
    run_retention: timedelta | None = None
    payers: Mapping[Payer, Billing] = field(default_factory=dict)
    tls_files: TlsFiles | None = None

    def clinic(self, name: str) -> Clinic:
        for clinic in self.clinics:
            if clinic.name == name:
                return clinic
        raise Misconfigured(
            f"clinic {name!r} is no longer in the configuration", hint="put it back, even without callers"
        )

    def destination(self, clinic: str, name: str) -> Destination | None:
        return next((d for d in self.clinic(clinic).destinations if d.name == name), None)

    def asks_commitment(self, clinic: str, destination: str) -> bool:
        """Whether the destination is to commit to what it stored; not one that is no longer in the configuration."""
        return any(
            one.commitment
            for known in self.clinics
            for one in known.destinations
            if (known.name, one.name) == (clinic, destination)
        )
