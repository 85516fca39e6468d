"""Modality Performed Procedure Steps (PS3.4 Annex F): what a modality says that it does, and what it has made.

N-CREATE -> IN PROGRESS ──N-SET──> COMPLETED | DISCONTINUED, which is final
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcedureStep:
    """One step as its modality last described it. Nothing of the patient is kept.

    performed: the SOP Instance UIDs in Performed Series Sequence (0040,0340).
    updated_at: later with every change, so that the newest of several copies is known.
    """

    clinic: str
    sop_instance_uid: str
    study_instance_uid: str
    status: StepStatus
    performed: tuple[str, ...]
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySteps:
    """What all steps of a study say together, beside what has come.

    in_progress_at: when a step that is still in progress was last heard of; None: no step is.
    listed: how many instances the steps list; missing: how many of those are not here.
    unlisted: how many came, in the study's open generation, that no step lists.
    """

    in_progress_at: datetime | None = None
    listed: int = 0
    missing: int = 0
    unlisted: int = 0


NO_STEPS = StudySteps()


def summarize(
    steps: Iterable[ProcedureStep], *, present: Collection[str], of_this_generation: Collection[str]
) -> StudySteps:
    """`present`: SOP Instance UIDs that are here, of all generations; those `of_this_generation` are among them."""
    steps = list(steps)
    listed = {uid for step in steps for uid in step.performed}
    in_progress = [step.updated_at for step in steps if step.status is StepStatus.IN_PROGRESS]
    return StudySteps(
        in_progress_at=max(in_progress, default=None),
        listed=len(listed),
        missing=len(listed.difference(present)),
        unlisted=len(set(of_this_generation) - listed),
    )
