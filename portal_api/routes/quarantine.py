"""GET /api/v1/quarantine: what came and cannot be used as it is, the newest first."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from portal_api.asking import TOTAL_COUNT, ClinicQuery, Limit, Offset, ReasonQuery
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey
from storage.overview import QuarantineLine, list_quarantine

router = APIRouter(tags=["quarantine"])


@router.get("/api/v1/quarantine", summary="What came and cannot be used")
def quarantine(
    request: Request,
    response: Response,
    key: Annotated[ApiKey, Depends(requires(Permission.QUARANTINE))],
    clinic: ClinicQuery = None,
    reason: ReasonQuery = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[QuarantineLine]:
    """The header X-Total-Count says how many there are in all."""
    lines, total = list_quarantine(
        parts_of(request).database,
        clinics=visible_clinics(key, clinic),
        reason=reason,
        limit=limit,
        offset=offset,
    )
    response.headers[TOTAL_COUNT] = str(total)
    return lines
