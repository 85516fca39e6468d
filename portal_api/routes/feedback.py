"""GET and POST /api/v1/studies/{study_instance_uid}/feedback: what readers say of a study's findings."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from domain.feedback import LONGEST_NOTE, Opinion, Verdict
from portal_api.asking import UID_PATTERN, ClinicQuery, Problem, StudyUid
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.answers.feedback import FeedbackLine, give_feedback, list_feedback
from storage.api_keys import ApiKey

router = APIRouter(tags=["feedback"])

FEEDBACK = "/api/v1/studies/{study_instance_uid}/feedback"
NO_STUDY = {"model": Problem, "description": "no such study"}


class Word(BaseModel):
    """`note` is kept with the study and erased with it. Do not write there who the patient is."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$", description="of the finding")
    verdict: Verdict
    note: str = Field(default="", max_length=LONGEST_NOTE, pattern=r"^[^\x00]*$")
    package: str = Field(default="", max_length=64, pattern=r"^[a-z0-9_]*$")
    sop_instance_uid: str = Field(default="", pattern=f"^$|{UID_PATTERN}")


@router.get(FEEDBACK, summary="What readers said of a study's findings", responses={404: NO_STUDY})
def feedback(
    request: Request,
    key: Annotated[ApiKey, Depends(requires(Permission.STUDIES))],
    study_instance_uid: StudyUid,
    clinic: ClinicQuery = None,
) -> list[FeedbackLine]:
    """Every word of everybody, the last one first; `is_last_word` marks those that count."""
    return list_feedback(parts_of(request).database, study_instance_uid, clinics=visible_clinics(key, clinic))


@router.post(
    FEEDBACK,
    summary="Agree or disagree with a finding",
    status_code=201,
    responses={
        404: {"model": Problem, "description": "no such study, or it has no such finding"},
        409: {"model": Problem, "description": "more than one finding has this label: say package and image as well"},
        413: {"model": Problem, "description": "too much was sent"},
    },
)
def say(
    request: Request,
    key: Annotated[ApiKey, Depends(requires(Permission.FEEDBACK))],
    study_instance_uid: StudyUid,
    word: Word,
    clinic: ClinicQuery = None,
) -> FeedbackLine:
    """It is kept under the name of the API key, with the model and its version. Saying something else later leaves what
    was said before as history.
    """
    return give_feedback(
        parts_of(request).database,
        study_instance_uid,
        Opinion(**word.model_dump()),
        clinics=visible_clinics(key, clinic),
        given_by=key.name,
    )
