"""GET /api/v1/invoices: what clinics were asked to pay, with the files as they went out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from domain.invoice import Invoice
from metering.invoices import InvoiceLine, list_invoices, read_invoice
from portal_api.asking import ClinicQuery, Problem
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from portal_api.routes.usage import as_csv
from storage.api_keys import ApiKey

router = APIRouter(tags=["usage"])

INVOICE = "/api/v1/invoices/{number}"
UsageKey = Annotated[ApiKey, Depends(requires(Permission.USAGE))]
InvoiceNumber = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,32}$", description="INV-000001")]
NONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "no such invoice"}}


@router.get("/api/v1/invoices", summary="Invoices and credit notes")
def invoices(request: Request, key: UsageKey, clinic: ClinicQuery = None) -> list[InvoiceLine]:
    """In the order of their numbers. A total below 0 is a credit note's."""
    return list_invoices(parts_of(request).database, clinics=visible_clinics(key, clinic))


@router.get(INVOICE, summary="One invoice, line by line", responses=NONE)
def invoice(request: Request, key: UsageKey, number: InvoiceNumber) -> Invoice:
    document, _, _ = read_invoice(parts_of(request).database, number, clinics=visible_clinics(key))
    return document


@router.get(
    f"{INVOICE}/pdf",
    summary="One invoice to read",
    response_class=Response,
    responses={**NONE, 200: {"content": {"application/pdf": {}}}},
)
def pdf(request: Request, key: UsageKey, number: InvoiceNumber) -> Response:
    _, content, _ = read_invoice(parts_of(request).database, number, clinics=visible_clinics(key))
    headers = {"Content-Disposition": f'attachment; filename="{number}.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)


@router.get(
    f"{INVOICE}/csv",
    summary="Each study that an invoice is for",
    response_class=Response,
    responses={**NONE, 200: {"content": {"text/csv": {}}}},
)
def csv(request: Request, key: UsageKey, number: InvoiceNumber) -> Response:
    _, _, content = read_invoice(parts_of(request).database, number, clinics=visible_clinics(key))
    return as_csv(content, f"{number}.csv")
