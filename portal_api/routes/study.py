"""GET /api/v1/studies/{study_instance_uid}: all that was done to a study, and why."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel

from portal_api.asking import ClinicQuery, Problem, StudyUid
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey
from storage.overview import StudyFilter, StudyHistory, read_history

router = APIRouter(tags=["studies"])


class StudyAnswer(BaseModel):
    """Each time the study was closed, the first generation first."""

    study_instance_uid: str
    generations: list[StudyHistory]


@router.get(
    "/api/v1/studies/{study_instance_uid}",
    summary="All that was done to one study, and why",
    responses={404: {"model": Problem, "description": "no such study"}},
)
def study(
    request: Request,
    key: Annotated[ApiKey, Depends(requires(Permission.STUDIES))],
    study_instance_uid: StudyUid,
    clinic: ClinicQuery = None,
) -> StudyAnswer:
    """What came, how it was routed, what the models said, where the results went, and whether it was charged."""
    wanted = StudyFilter(clinics=visible_clinics(key, clinic), study_instance_uid=study_instance_uid)
    generations = read_history(parts_of(request).database, wanted)
    if not generations:
        raise HTTPException(404, f"there is no study {study_instance_uid}")
    return StudyAnswer(study_instance_uid=study_instance_uid, generations=generations)
