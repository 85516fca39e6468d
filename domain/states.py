"""The states of a study and of a delivery, and the words that say why a study was not analysed.

    receiving ──complete──> queued ──analysed──> delivering ──all destinations have it──> done (1)
        │                     │                      └──a destination refused it──> failed
        │                     ├──refused──> held       kept and explained; analysed when what it lacks is there
        │                     ├──error────> failed     kept; a person has to look
        └──────cancelled──────┴───────────> cancelled  kept, with what still comes; analysed when a person says so

    delivering, done, ... ──a person takes the results back──> withdrawn  more images open a generation, as of one done

    (1)  and those that are asked to commit to what they stored have done so

A held study that gets a note passes through none of the other states: the note is delivered beside it.
What a person may ask for a study, which leads back, is in domain/care.py.
"""

from enum import StrEnum


class StudyState(StrEnum):
    RECEIVING = "receiving"
    QUEUED = "queued"
    DELIVERING = "delivering"
    DONE = "done"
    HELD = "held"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


class DeliveryState(StrEnum):
    """What became of one result at one destination.

        pending ──stored──> delivered                                 where nobody asks for more
           ^  └────stored──> stored ──committed──> committed          where the destination is asked to commit
           │                   │ └──not in all the time there is──> uncommitted
           └─ it has lost it ──┘

    REPLACED: the destination does not take its SOP class, and another form of the same result stands for it.
    WITHDRAWN: it was taken back before the destination had it.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    STORED = "stored"
    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"
    REFUSED = "refused"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


class Reason(StrEnum):
    """Why a study is held, failed or cancelled. Notes go to the PACS only for the reasons in NOTED."""

    NO_IMAGE = "no_image"
    UNROUTABLE = "unroutable"
    NOT_IN_PLAN = "not_in_plan"
    NOT_CONFIGURED = "not_configured"
    OUTSIDE_POPULATION = "outside_population"
    OVER_QUOTA = "over_quota"
    NO_SUBSCRIPTION = "no_subscription"
    UNREADABLE_PIXELS = "unreadable_pixels"
    INVALID_RESULT = "invalid_result"
    NOT_MEASURABLE = "not_measurable"
    KEEPS_FAILING = "keeps_failing"
    NOT_DELIVERED = "not_delivered"
    NOT_COMMITTED = "not_committed"
    ERASED = "erased"
    CANCELLED = "cancelled"


NOTED = frozenset(
    {
        Reason.NOT_IN_PLAN,
        Reason.NOT_CONFIGURED,
        Reason.OUTSIDE_POPULATION,
        Reason.OVER_QUOTA,
        Reason.NO_SUBSCRIPTION,
        Reason.UNREADABLE_PIXELS,
        Reason.NOT_MEASURABLE,
    }
)

# Refusals that a person or another period can lift; the others are failures.
HELD = frozenset(
    {
        Reason.NO_IMAGE,
        Reason.UNROUTABLE,
        Reason.NOT_IN_PLAN,
        Reason.NOT_CONFIGURED,
        Reason.OUTSIDE_POPULATION,
        Reason.OVER_QUOTA,
        Reason.NO_SUBSCRIPTION,
    }
)

# Of these, what time alone lifts: they are analysed by themselves. What is not in the plan comes to them when it grows.
WAITS_FOR_QUOTA = frozenset({Reason.OVER_QUOTA, Reason.NO_SUBSCRIPTION})
