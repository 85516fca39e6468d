"""GET /api/v1/billing: how it stands with Stripe; POST /api/v1/billing/checkout|portal: links to its pages."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from domain.errors import Retry
from domain.plans import Tier, tier_named
from metering.billing_status import BillingStatus, read_status
from portal_api.asking import CLINIC_PATTERN, ClinicQuery, Problem
from portal_api.auth import requires, visible_clinics
from portal_api.parts import Payments, parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey
from storage.audit import keeping_refusals
from storage.database import utc_now

router = APIRouter(tags=["usage"])

PaymentsKey = Annotated[ApiKey, Depends(requires(Permission.PAYMENTS))]
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "no such clinic that the key may see, or no key for Stripe"},
    409: {"model": Problem, "description": "the clinic has a subscription already, or pays in another way"},
    503: {"model": Problem, "description": "Stripe does not answer"},
}


class WantedPortal(BaseModel):
    """`clinic` may be left out with a key that is bound to one."""

    model_config = ConfigDict(extra="forbid")

    clinic: Annotated[str, Field(pattern=CLINIC_PATTERN)] | None = None


class WantedCheckout(WantedPortal):
    """`tier` left out: the configured one."""

    tier: Annotated[str, Field(max_length=64, json_schema_extra={"enum": list(Tier)})] | None = None


class Link(BaseModel):
    """A page of Stripe's, for a person's browser; it is not open for long."""

    url: str


@router.get("/api/v1/billing", summary="How it stands with Stripe")
def billing(
    request: Request, key: Annotated[ApiKey, Depends(requires(Permission.USAGE))], clinic: ClinicQuery = None
) -> list[BillingStatus]:
    """Of clinics that pay there: what Stripe said last, and what of the ledger it does not know yet."""
    return read_status(parts_of(request).database, now=utc_now(), clinics=visible_clinics(key, clinic))


@router.post("/api/v1/billing/checkout", summary="Where a clinic subscribes", responses=REFUSALS)
def checkout(request: Request, key: PaymentsKey, wanted: WantedCheckout) -> Link:
    """Stripe's page on which a clinic subscribes with a card. It is open for a day."""
    clinic, return_url = _clinic(request, key, wanted.clinic), parts_of(request).return_url

    def ask(payments: Payments) -> str:
        tier = None if wanted.tier is None else tier_named(wanted.tier)
        return payments.checkout(clinic, tier=tier, return_url=return_url)

    with _keeping_refusals(request, key, clinic, "checkout"):
        return _link(request, ask)


@router.post("/api/v1/billing/portal", summary="Where a clinic looks after its subscription", responses=REFUSALS)
def portal(request: Request, key: PaymentsKey, wanted: WantedPortal) -> Link:
    """Stripe's page for cards, invoices and cancelling. It is open for some minutes."""
    clinic, return_url = _clinic(request, key, wanted.clinic), parts_of(request).return_url
    with _keeping_refusals(request, key, clinic, "portal"):
        return _link(request, lambda payments: payments.portal(clinic, return_url=return_url))


def _keeping_refusals(request: Request, key: ApiKey, clinic: str, act: str) -> AbstractContextManager[None]:
    return keeping_refusals(parts_of(request).database, who=key.name, act=act, clinic=clinic)


def _link(request: Request, ask: Callable[[Payments], str]) -> Link:
    payments = parts_of(request).open_payments()
    if payments is None:
        raise HTTPException(404, "this node does not bill by Stripe")
    try:
        return Link(url=ask(payments))
    except Retry as error:
        raise HTTPException(503, error.message) from error


def _clinic(request: Request, key: ApiKey, asked_for: str | None) -> str:
    """Another clinic's is as if it were not there."""
    name = asked_for or key.clinic
    visible = visible_clinics(key, name)
    known = {clinic.name for clinic in parts_of(request).clinics}
    if name is None or name not in known or (visible is not None and name not in visible):
        raise HTTPException(404, "no such clinic")
    return name
