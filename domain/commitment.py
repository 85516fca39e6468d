"""Storage commitment (PS3.4 Annex J): what was asked for, what the node answers for, and when it says so.

waiting ──every instance is known, or the indexer had its time──> pending ──the caller took the report──> reported
                                                                     └──away for too long──> given_up

Whoever asks for the same transaction again, in whatever state it is, makes it waiting again.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from hashlib import sha256

from domain.clinics import Caller
from domain.hosts import plain_address, plain_network

LONGEST_RETRY_S = 600.0
# How long a transaction is remembered after its end, and its Transaction UID after it was last asked for. A modality
# that asks again does so within days; what was promised can be looked up for a quarter of a year.
REMEMBERED_FOR_DAYS = 90.0


class CommitmentState(StrEnum):
    WAITING = "waiting"
    PENDING = "pending"
    REPORTED = "reported"
    GIVEN_UP = "given_up"


class FailureReason(IntEnum):
    """Failure Reason (0008,1197), PS3.3 C.14.1.1: those that this node gives."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One item of Referenced SOP Sequence (0008,1199)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentRequest:
    """One N-ACTION that was answered with success: the node owes a report on every instance in `asked`."""

    clinic: str
    calling_ae_title: str
    peer_address: str
    transaction_uid: str
    asked: tuple[Reference, ...]
    requested_at: datetime

    @property
    def asked_sha256(self) -> str:
        """Equal for the same references in whatever order, so that a request that is repeated is known for one."""
        pairs = sorted(f"{one.sop_class_uid}={one.sop_instance_uid}" for one in self.asked)
        return sha256(" ".join(pairs).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """One item of Failed SOP Sequence (0008,1198)."""

    reference: Reference
    reason: FailureReason


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentReport:
    """What one N-EVENT-REPORT says (PS3.4 J.3.3)."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What the node holds under one SOP Instance UID.

    is_in_spool: its file is there. is_damaged: it is not what was received, or cannot be read.
    is_contested: other content came under the same UID and lies in quarantine.
    delivered_days: how long ago the last result of its study was delivered, from when retention counts; 0: not yet.
    """

    sop_class_uid: str
    is_in_spool: bool
    is_contested: bool
    is_damaged: bool = False
    delivered_days: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentRules:
    """How long pixels are kept, how long they must be for a commitment, and how a report is retried.

    pixel_retention_days: 0 keeps them for ever.
    """

    pixel_retention_days: float = 0.0
    minimum_retention_days: float = 30.0
    first_retry_s: float = 10.0
    give_up_after_s: float = 2 * 86400.0

    def keeps_long_enough(self, delivered_days: float = 0.0) -> bool:
        """Counted from now: what a study's age has used up of its retention is no longer promised to anybody."""
        left_days = self.pixel_retention_days - delivered_days
        return self.pixel_retention_days == 0 or left_days >= self.minimum_retention_days

    def delay_s(self, attempts: int) -> float:
        """The wait after that many attempts, doubling from `first_retry_s`."""
        return float(min(self.first_retry_s * 2 ** min(attempts - 1, 32), max(LONGEST_RETRY_S, self.first_retry_s)))


def failure_reason(asked: Reference, holding: Holding | None, rules: CommitmentRules) -> FailureReason | None:
    """Why the node does not commit to this instance, or None when it does.

    A contested UID is not committed to: whoever asks may mean the other content, and would delete it.
    """
    if not rules.keeps_long_enough():
        return FailureReason.PROCESSING_FAILURE
    if holding is None or not holding.is_in_spool:
        return FailureReason.NO_SUCH_OBJECT_INSTANCE
    if holding.sop_class_uid != asked.sop_class_uid:
        return FailureReason.CLASS_INSTANCE_CONFLICT
    if holding.is_damaged or holding.is_contested or not rules.keeps_long_enough(holding.delivered_days):
        return FailureReason.PROCESSING_FAILURE
    return None


def who_is_told(callers: tuple[Caller, ...], ae_title: str, address: str) -> Caller | None:
    """The caller that asked from `address`, and listens for reports; None: none is configured to.

    The report goes to the address that the request came from. Where several callers share an AE title, one that is
    configured for this address goes before one whose host is a name or empty, which cannot be told here.
    """
    asked_by = {
        matches: caller
        for caller in callers
        if caller.ae_title == ae_title and (matches := _is_at(caller.host, address)) is not False
    }
    caller = asked_by.get(True, asked_by.get(None))
    return caller if caller is not None and caller.commitment_port else None


def _is_at(host: str, address: str) -> bool | None:
    """None: `host` is a name, or empty."""
    try:
        return plain_address(address) in plain_network(host)
    except ValueError:
        return None
