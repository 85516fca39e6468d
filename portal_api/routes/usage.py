"""GET /api/v1/usage: what each clinic used of its plan in a billing period."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from metering.usage import Usage, read_usage
from portal_api.asking import ClinicQuery, PeriodQuery
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey

router = APIRouter(tags=["usage"])


@router.get("/api/v1/usage", summary="What was used of each plan")
def usage(
    request: Request,
    key: Annotated[ApiKey, Depends(requires(Permission.USAGE))],
    clinic: ClinicQuery = None,
    period: PeriodQuery = None,
) -> list[Usage]:
    """Charged and reserved studies against what the plan includes, in each clinic's own billing period."""
    visible = visible_clinics(key, clinic)
    usages = read_usage(parts_of(request).database, period=period)
    return [one for one in usages if visible is None or one.clinic in visible]
