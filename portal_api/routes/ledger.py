"""GET /api/v1/ledger: every row that was written; POST /api/v1/credits: take a charge back."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from metering.ledger import LedgerRow, credit, read_ledger
from portal_api.asking import CLINIC_PATTERN, TOTAL_COUNT, UID_PATTERN, ClinicQuery, Limit, Offset, PeriodQuery, Problem
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey
from storage.audit import keeping_refusals
from storage.database import utc_now

router = APIRouter(tags=["usage"])

HIGHEST_AMOUNT = 10_000_000
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "the study was never charged"},
    409: {"model": Problem, "description": "its charge was taken back before; nothing was changed"},
}


class WantedCredit(BaseModel):
    """`amount_usd_cents` left out: what the study cost."""

    model_config = ConfigDict(extra="forbid")

    clinic: Annotated[str, Field(pattern=CLINIC_PATTERN)]
    study_instance_uid: Annotated[str, Field(pattern=UID_PATTERN)]
    why: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
    amount_usd_cents: Annotated[int, Field(ge=0, le=HIGHEST_AMOUNT)] | None = None


class GivenCredit(BaseModel):
    """The ledger row that it became."""

    id: int


@router.get("/api/v1/ledger", summary="What was charged, and what was taken back")
def ledger(
    request: Request,
    response: Response,
    key: Annotated[ApiKey, Depends(requires(Permission.USAGE))],
    clinic: ClinicQuery = None,
    period: PeriodQuery = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[LedgerRow]:
    """The newest first. Without a period: all there are."""
    visible = visible_clinics(key, clinic)
    rows = read_ledger(parts_of(request).database, clinic=clinic or key.clinic, period=period)[::-1]
    seen = [row for row in rows if visible is None or row.clinic in visible]
    response.headers[TOTAL_COUNT] = str(len(seen))
    return seen[offset : offset + limit]


@router.post("/api/v1/credits", status_code=201, summary="Take a charge back", responses=REFUSALS)
def give(
    request: Request, key: Annotated[ApiKey, Depends(requires(Permission.CREDIT))], wanted: WantedCredit
) -> GivenCredit:
    """Once for a charge; who asked and why stays in the ledger for good. Not with a key that is bound to a clinic:
    nobody takes back what they owe themselves.
    """
    if key.clinic is not None:
        raise HTTPException(403, "a key that is bound to a clinic may not give credits")
    database = parts_of(request).database
    with (
        keeping_refusals(database, who=key.name, act="credit", clinic=wanted.clinic),
        database.write() as connection,
    ):
        given = credit(
            connection,
            clinic=wanted.clinic,
            study_instance_uid=wanted.study_instance_uid,
            why=wanted.why,
            who=key.name,
            now=utc_now(),
            amount_usd_cents=wanted.amount_usd_cents,
        )
    return GivenCredit(id=given)
