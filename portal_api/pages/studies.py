"""/studies: the newest studies, each with a link to its findings."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import Response

from portal_api.auth import visible_clinics
from portal_api.pages.rendering import page
from portal_api.pages.session import Reader, reader, see_other
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.overview import StudyFilter, list_studies

router = APIRouter(include_in_schema=False)

NEWEST = 100


@router.get("/studies")
def studies(request: Request, reader: Annotated[Reader, Depends(reader)]) -> Response:
    if not reader.may(Permission.STUDIES) and reader.may(Permission.USAGE):
        return see_other("/usage")
    if not reader.may(Permission.STUDIES):
        raise HTTPException(403, f"a key with the role {reader.key.role} may not see studies")
    wanted = StudyFilter(clinics=visible_clinics(reader.key))
    lines, total = list_studies(parts_of(request).database, wanted, limit=NEWEST)
    return page("studies.html", reader=reader, studies=lines, total=total)
