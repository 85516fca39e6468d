"""When a study counts as complete: after release 2 s, or 30 s of quiet, or open for 90 minutes."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.completion import CompletionRules, completion_reason

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("open_for_s", "quiet_for_s", "released_for_s", "reason"),
    [
        (0, 0, None, None),
        (29, 29, None, None),
        (30, 30, None, "quiet"),
        (5, 5, 0, None),
        (5, 5, 1.9, None),
        (5, 5, 2, "released"),
        (60, 60, 60, "released"),
        (5399, 1, None, None),
        (5400, 1, None, "maximum age"),
        (5400, 30, None, "quiet"),
        (5400, 3, 1, "maximum age"),
    ],
)
def test_a_study_is_complete(
    open_for_s: float, quiet_for_s: float, released_for_s: float | None, reason: str | None
) -> None:
    def before(seconds: float) -> datetime:
        return NOON - timedelta(seconds=seconds)

    assert reason == completion_reason(
        CompletionRules(),
        opened_at=before(open_for_s),
        last_received_at=before(quiet_for_s),
        released_at=None if released_for_s is None else before(released_for_s),
        now=NOON,
    )
