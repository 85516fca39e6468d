"""GET /api/v1/clinics: who may send, and where the results go, as configured."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from domain.clinics import Clinic
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey

router = APIRouter(tags=["clinics"])


@router.get("/api/v1/clinics", summary="Who may send, and where the results go")
def clinics(request: Request, key: Annotated[ApiKey, Depends(requires(Permission.CLINICS))]) -> list[Clinic]:
    """The configured clinics with their callers and destinations."""
    visible = visible_clinics(key)
    return [clinic for clinic in parts_of(request).clinics if visible is None or clinic.name in visible]
