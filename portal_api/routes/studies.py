"""GET /api/v1/studies: the studies, the newest first."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from portal_api.asking import (
    TOTAL_COUNT,
    AccessionQuery,
    ClinicQuery,
    Limit,
    Offset,
    StateQuery,
    StudyUidQuery,
)
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey
from storage.overview import StudyFilter, StudyLine, list_studies

router = APIRouter(tags=["studies"])


@router.get("/api/v1/studies", summary="The studies, the newest first")
def studies(
    request: Request,
    response: Response,
    key: Annotated[ApiKey, Depends(requires(Permission.STUDIES))],
    clinic: ClinicQuery = None,
    state: StateQuery = None,
    study_instance_uid: StudyUidQuery = None,
    accession_number: AccessionQuery = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[StudyLine]:
    """One entry a generation; the header X-Total-Count says how many there are in all."""
    wanted = StudyFilter(
        clinics=visible_clinics(key, clinic),
        state=state,
        study_instance_uid=study_instance_uid,
        accession_number=accession_number,
    )
    lines, total = list_studies(parts_of(request).database, wanted, limit=limit, offset=offset)
    response.headers[TOTAL_COUNT] = str(total)
    return lines
