"""When a study counts as complete: after release 2 s, or 30 s of quiet, or open for 90 minutes; MPPS knows better."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.completion import CompletionRules, completion_reason, next_moment
from domain.procedure_step import NO_STEPS, ProcedureStep, StepStatus, StudySteps, summarize

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def before(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


IN_PROGRESS = StudySteps(in_progress_at=before(10), listed=2, unlisted=1)
LEFT_IN_PROGRESS = StudySteps(in_progress_at=before(5400))
ALL_HERE = StudySteps(listed=2)
ONE_MISSING = StudySteps(listed=2, missing=1)
ONE_UNLISTED = StudySteps(listed=2, unlisted=1)
NOTHING_LISTED = StudySteps(unlisted=2)


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
    assert reason == completed(NO_STEPS, open_for_s, quiet_for_s, released_for_s)


@pytest.mark.parametrize(
    ("steps", "open_for_s", "quiet_for_s", "released_for_s", "reason"),
    [
        (IN_PROGRESS, 60, 60, 60, None),
        (IN_PROGRESS, 5399, 60, 60, None),
        (IN_PROGRESS, 5400, 60, 60, "maximum age"),
        (LEFT_IN_PROGRESS, 60, 29, None, None),
        (LEFT_IN_PROGRESS, 60, 30, None, "quiet"),
        (LEFT_IN_PROGRESS, 60, 5, 2, "released"),
        (ALL_HERE, 1, 0, None, "mpps"),
        (ALL_HERE, 60, 60, 60, "mpps"),
        (ONE_MISSING, 20, 20, 20, None),
        (ONE_MISSING, 30, 30, 30, "quiet"),
        (ONE_UNLISTED, 1, 0, None, None),
        (ONE_UNLISTED, 5, 5, 2, "released"),
        (NOTHING_LISTED, 1, 0, None, None),
        (NOTHING_LISTED, 5, 5, 2, "released"),
        (NOTHING_LISTED, 30, 30, None, "quiet"),
    ],
)
def test_a_study_with_procedure_steps_is_complete(
    steps: StudySteps, open_for_s: float, quiet_for_s: float, released_for_s: float | None, reason: str | None
) -> None:
    assert reason == completed(steps, open_for_s, quiet_for_s, released_for_s)


def completed(steps: StudySteps, open_for_s: float, quiet_for_s: float, released_for_s: float | None) -> str | None:
    return completion_reason(
        CompletionRules(),
        opened_at=before(open_for_s),
        last_received_at=before(quiet_for_s),
        released_at=None if released_for_s is None else before(released_for_s),
        now=NOON,
        steps=steps,
    )


def step(status: str, *performed: str, seconds_ago: float = 10) -> ProcedureStep:
    return ProcedureStep(
        clinic="st-mary",
        sop_instance_uid="2.25.1",
        study_instance_uid="1.2.3",
        status=StepStatus(status),
        performed=performed,
        updated_at=before(seconds_ago),
    )


@pytest.mark.parametrize(
    ("steps", "present", "of_this_generation", "summary"),
    [
        ([step("COMPLETED", "1", "2")], "12", "12", ALL_HERE),
        ([step("COMPLETED", "1"), step("DISCONTINUED", "2")], "12", "12", ALL_HERE),
        ([step("COMPLETED", "1"), step("COMPLETED", "1", "2")], "1", "1", ONE_MISSING),
        ([step("COMPLETED", "1", "2")], "123", "123", ONE_UNLISTED),
        ([step("COMPLETED", "1", "2")], "123", "3", ONE_UNLISTED),
        ([step("COMPLETED", "1", "2")], "123", "2", ALL_HERE),
        ([step("DISCONTINUED")], "12", "12", NOTHING_LISTED),
        (
            [step("IN PROGRESS", seconds_ago=50), step("IN PROGRESS", seconds_ago=10), step("COMPLETED", "1", "2")],
            "123",
            "123",
            IN_PROGRESS,
        ),
    ],
)
def test_all_steps_of_a_study_say_together(
    steps: list[ProcedureStep], present: str, of_this_generation: str, summary: StudySteps
) -> None:
    assert summarize(steps, present=set(present), of_this_generation=set(of_this_generation)) == summary


@pytest.mark.parametrize(
    ("open_for_s", "quiet_for_s", "released_for_s", "in_s"),
    [
        (5, 5, 0.5, 1.5),
        (5, 5, None, 25),
        (5, 29.5, 1, 0.5),
        (5399, 1, None, 1),
        (5, 5, 3, 25),
        (5400, 30, 2, None),
    ],
)
def test_it_is_known_when_time_alone_may_complete_a_study(
    open_for_s: float, quiet_for_s: float, released_for_s: float | None, in_s: float | None
) -> None:
    moment = next_moment(
        CompletionRules(),
        opened_at=before(open_for_s),
        last_received_at=before(quiet_for_s),
        released_at=None if released_for_s is None else before(released_for_s),
        now=NOON,
    )
    assert moment == (None if in_s is None else before(-in_s))
