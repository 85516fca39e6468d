"""When is a study complete? C-STORE has no word for it, so the node listens to MPPS and watches for silence.

every step has ended, and what has come is what they list            -> "mpps"
the callers' associations were released, and a short time passed     -> "released"
nothing new came for the quiet time                                  -> "quiet"
it has been open for the maximum age                                 -> "maximum age" (processed all the same)

    procedure steps of the study (MPPS)            "mpps"   "released"   "quiet"   "maximum age"
    none                                              -         yes         yes         yes
    one is in progress                                -          -           -          yes
    all ended, something they list is missing         -          -          yes         yes
    all ended, something came that none lists         -         yes         yes         yes
    all ended, all is here and nothing else          yes        yes         yes         yes

A step that was not heard of for the maximum age counts as ended: modalities are switched off in the middle of one.

A caller may have times of its own: one that opens an association for each image, or that pauses between series. A study
follows those of the caller that sent its first instance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.procedure_step import NO_STEPS, StudySteps


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionRules:
    """`callers`: the rules of those that have some of their own, by clinic and Calling AE Title."""

    after_release_s: float = 2.0
    quiet_s: float = 30.0
    max_age_s: float = 5400.0
    callers: Mapping[tuple[str, str], "CompletionRules"] = field(default_factory=dict)

    def of(self, clinic: str, calling_ae_title: str) -> "CompletionRules":
        return self.callers.get((clinic, calling_ae_title), self)


def completion_reason(
    rules: CompletionRules,
    *,
    opened_at: datetime,
    last_received_at: datetime,
    released_at: datetime | None,
    now: datetime,
    steps: StudySteps = NO_STEPS,
) -> str | None:
    """Why the study counts as complete at `now`, or None while more may come.

    `released_at` is None while an association that brought instances of the study is still open.
    """

    def has_passed(since: datetime | None, seconds: float) -> bool:
        return since is not None and now - since >= timedelta(seconds=seconds)

    if steps.in_progress_at is None or has_passed(steps.in_progress_at, rules.max_age_s):
        if steps.listed and not steps.missing and not steps.unlisted:
            return "mpps"
        if not steps.missing and has_passed(released_at, rules.after_release_s):
            return "released"
        if has_passed(last_received_at, rules.quiet_s):
            return "quiet"
    return "maximum age" if has_passed(opened_at, rules.max_age_s) else None


def next_moment(
    rules: CompletionRules,
    *,
    opened_at: datetime,
    last_received_at: datetime,
    released_at: datetime | None,
    now: datetime,
) -> datetime | None:
    """After `now`, the first moment at which the study may be complete although nothing has happened to it."""
    waits = (
        (released_at, rules.after_release_s),
        (last_received_at, rules.quiet_s),
        (opened_at, rules.max_age_s),
    )
    moments = [since + timedelta(seconds=seconds) for since, seconds in waits if since is not None]
    return min((moment for moment in moments if moment > now), default=None)
