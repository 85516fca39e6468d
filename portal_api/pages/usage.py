"""/usage: what a clinic has used of its plan in a billing period, each study with what it cost and why; as CSV, too."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from domain.invoice import dollars
from domain.periods import Period
from metering.invoices import list_invoices, read_invoice
from metering.statement import StatementLine, read_statement
from metering.statement_csv import statement_csv
from metering.subscriptions import calendar_of
from metering.usage import Usage, period_of, read_usage
from portal_api.asking import ClinicQuery, PeriodQuery
from portal_api.auth import visible_clinics
from portal_api.pages.rendering import page
from portal_api.pages.session import Reader, reader
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from portal_api.routes.invoices import InvoiceNumber
from portal_api.routes.usage import as_csv

router = APIRouter(include_in_schema=False)

NEWEST = 200


def who_may(who: Annotated[Reader, Depends(reader)]) -> Reader:
    if not who.may(Permission.USAGE):
        raise HTTPException(403, f"a key with the role {who.key.role} may not see what was used")
    return who


Payer = Annotated[Reader, Depends(who_may)]


@router.get("/usage")
def usage(request: Request, reader: Payer, clinic: ClinicQuery = None, period: PeriodQuery = None) -> HTMLResponse:
    """One clinic in full; where several may be seen and none is named, a line for each."""
    usages = _usages(request, reader, clinic, period)
    if len(usages) != 1:
        return page("usages.html", reader=reader, usages=usages, dollars=dollars)
    one = usages[0]
    lines, its_period = _lines(request, one)
    database = parts_of(request).database
    with database.read() as connection:
        calendar = calendar_of(connection, clinic=one.clinic)
    return page(
        "usage.html",
        reader=reader,
        usage=one,
        lines=lines[::-1][:NEWEST],
        charged=sum(line.is_charged for line in lines),
        total=len(lines),
        before=calendar.period_at(its_period.begins_at - (its_period.ends_at - its_period.begins_at) / 2).key,
        after=calendar.period_after(its_period).key,
        time_zone=calendar.rule_at(its_period.begins_at).time_zone,
        invoices=list_invoices(database, clinics=[one.clinic])[::-1],
        share=_share(one),
        dollars=dollars,
    )


@router.get("/usage.csv")
def usage_csv(request: Request, reader: Payer, clinic: ClinicQuery = None, period: PeriodQuery = None) -> Response:
    usages = _usages(request, reader, clinic, period)
    lines = [line for one in usages for line in _lines(request, one)[0]]
    return as_csv(statement_csv(lines), f"usage-{usages[0].period}.csv" if len(usages) == 1 else "usage.csv")


@router.get("/invoices/{number}.pdf")
def invoice(request: Request, reader: Payer, number: InvoiceNumber) -> Response:
    _, content, _ = read_invoice(parts_of(request).database, number, clinics=visible_clinics(reader.key))
    headers = {"Content-Disposition": f'attachment; filename="{number}.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)


def _usages(request: Request, reader: Reader, clinic: str | None, period: str | None) -> list[Usage]:
    visible = visible_clinics(reader.key, clinic)
    usages = read_usage(parts_of(request).database, period=period)
    return [one for one in usages if visible is None or one.clinic in visible]


def _lines(request: Request, usage: Usage) -> tuple[list[StatementLine], Period]:
    database = parts_of(request).database
    period = period_of(database, clinic=usage.clinic, name=usage.period)
    assert period is not None
    return read_statement(database, clinic=usage.clinic, period=period), period


def _share(usage: Usage) -> float:
    """Of the included studies, [0, 1]."""
    return 0.0 if usage.included is None else min(1.0, usage.used / max(1, usage.included))
