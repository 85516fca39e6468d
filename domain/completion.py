"""When is a study complete? DICOM has no such message, so the node watches for silence.

the callers' associations were released, and a short time passed    -> "released"
nothing new came for the quiet time                                 -> "quiet"
it has been open for the maximum age                                -> "maximum age" (processed all the same)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionRules:
    after_release_s: float = 2.0
    quiet_s: float = 30.0
    max_age_s: float = 5400.0


def completion_reason(
    rules: CompletionRules,
    *,
    opened_at: datetime,
    last_received_at: datetime,
    released_at: datetime | None,
    now: datetime,
) -> str | None:
    """Why the study counts as complete at `now`, or None while more may come.

    `released_at` is None while an association that brought instances of the study is still open.
    """
    if released_at is not None and now - released_at >= timedelta(seconds=rules.after_release_s):
        return "released"
    if now - last_received_at >= timedelta(seconds=rules.quiet_s):
        return "quiet"
    if now - opened_at >= timedelta(seconds=rules.max_age_s):
        return "maximum age"
    return None
