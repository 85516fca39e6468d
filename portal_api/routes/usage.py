"""GET /api/v1/usage: what each clinic used of its plan in a billing period, and what became of each study."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from metering.statement import StatementLine, read_statement
from metering.statement_csv import statement_csv
from metering.usage import Usage, period_of, read_usage
from portal_api.asking import TOTAL_COUNT, ClinicQuery, Limit, Offset, PeriodQuery
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey

router = APIRouter(tags=["usage"])
UsageKey = Annotated[ApiKey, Depends(requires(Permission.USAGE))]
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


@router.get("/api/v1/usage", summary="What was used of each plan")
def usage(request: Request, key: UsageKey, clinic: ClinicQuery = None, period: PeriodQuery = None) -> list[Usage]:
    """Charged and reserved studies against what the plan includes, in each clinic's own billing period."""
    visible = visible_clinics(key, clinic)
    usages = read_usage(parts_of(request).database, period=period)
    return [one for one in usages if visible is None or one.clinic in visible]


@router.get("/api/v1/usage/studies", summary="Each study of a period: charged and why, or free and why")
def studies(
    request: Request,
    response: Response,
    key: UsageKey,
    clinic: ClinicQuery = None,
    period: PeriodQuery = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[StatementLine]:
    """The newest first."""
    lines = lines_of(request, key, clinic, period)[::-1]
    response.headers[TOTAL_COUNT] = str(len(lines))
    return lines[offset : offset + limit]


@router.get("/api/v1/usage/studies.csv", summary="The same as CSV, all of it", response_class=Response, responses=CSV)
def studies_csv(request: Request, key: UsageKey, clinic: ClinicQuery = None, period: PeriodQuery = None) -> Response:
    return as_csv(statement_csv(lines_of(request, key, clinic, period)), "studies.csv")


def lines_of(request: Request, key: ApiKey, clinic: str | None, period: str | None) -> list[StatementLine]:
    """Of every clinic that the key may see, in its own period."""
    database = parts_of(request).database
    lines = []
    for one in usage(request, key, clinic, period):
        its_period = period_of(database, clinic=one.clinic, name=one.period)
        if its_period is not None:
            lines += read_statement(database, clinic=one.clinic, period=its_period)
    return lines


def as_csv(content: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)
