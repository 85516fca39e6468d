"""POST /api/v1/stripe/webhook: what Stripe tells. Its signature is its key; no one else has a use for it."""

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from domain.errors import Refuse
from portal_api.parts import parts_of

router = APIRouter(include_in_schema=False)

SIGNATURE = "Stripe-Signature"


@router.post("/api/v1/stripe/webhook")
async def webhook(request: Request) -> dict[str, bool]:
    """200 once it is kept, 400 with the reason for what is not Stripe's, or not ours, 404 without a key for Stripe."""
    body = await request.body()
    payments = await run_in_threadpool(parts_of(request).open_payments)
    if payments is None:
        raise HTTPException(404, "this node does not bill by Stripe")
    try:
        await run_in_threadpool(payments.receive, body, request.headers.get(SIGNATURE, ""))
    except Refuse as error:
        raise HTTPException(400, error.message) from error
    return {"received": True}
