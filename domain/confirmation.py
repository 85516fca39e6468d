"""Storage commitment, asked for by the node (PS3.4 Annex J, as SCU): will a destination answer for what it stored?

    asked ──the destination reported──> reported ──its deliveries know──> ended
      │  ^                                 └── some are not in the report ──┐
      │  └──────────────────────────────────────────────────────────────────┘
      └──refused, away, or silent for too long──> ended; what it asked for is asked for anew

The other way round, where modalities ask the node to keep what they sent, is domain/commitment.py.
"""

from dataclasses import dataclass
from enum import StrEnum

from domain.commitment import Reference

# PS3.3 C.14.1.1
FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class/instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate Transaction UID",
    0x0213: "resource limitation",
}


class ConfirmationState(StrEnum):
    ASKED = "asked"
    REPORTED = "reported"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """One item of Failed SOP Sequence (0008,1198); `reason`: Failure Reason (0008,1197), 0 where there is none."""

    reference: Reference
    reason: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a destination's N-EVENT-REPORT says (PS3.4 J.3.3)."""

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: tuple[Failed, ...] = ()

    def has_committed(self, reference: Reference) -> bool:
        """Not where the report says both: whoever doubts keeps the result."""
        return reference in self.committed and self.failure(reference.sop_instance_uid) is None

    def failure(self, sop_instance_uid: str) -> str | None:
        """Why the destination does not answer for this instance; None: it does not say so."""
        for failed in self.failed:
            if failed.reference.sop_instance_uid == sop_instance_uid:
                meaning = FAILURE_REASONS.get(failed.reason, "no reason that the standard knows")
                return f"0x{failed.reason:04X} {meaning}"
        return None
