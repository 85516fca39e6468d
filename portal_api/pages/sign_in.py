"""/sign-in and /sign-out: an API key for a session, and back."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from portal_api.pages.rendering import page
from portal_api.pages.session import COOKIE, drop_session, form, keep_session, own_form, see_other
from portal_api.parts import parts_of
from storage.sessions import begin_session, end_session

router = APIRouter(include_in_schema=False)

FRONT = "/studies"
# Where somebody may be sent back to: a page of ours, and nothing else.
OURS = re.compile(r"/studies(/[0-9.]{1,64})?|/usage")
NOT_VALID = "This key is not valid. It may have been revoked."
NOT_KEPT = "Your browser did not keep the session. It does over HTTPS, or on the node's own machine."


@router.get("/sign-in")
def show(to: str = FRONT, after: str = "") -> HTMLResponse:
    """`after`: the browser comes from a key that was right, and has brought no cookie back."""
    return page("sign_in.html", to=_ours(to), trouble=NOT_KEPT if after else "")


@router.post("/sign-in")
def sign_in(request: Request, fields: Annotated[dict[str, str], Depends(form)]) -> Response:
    to = _ours(fields.get("to", ""))
    session_token = begin_session(parts_of(request).database, fields.get("key", "").strip())
    if session_token is None:
        return page("sign_in.html", 403, to=to, trouble=NOT_VALID)
    return keep_session(see_other(f"/signed-in?to={to}"), session_token)


@router.get("/signed-in")
def signed_in(request: Request, to: str = FRONT) -> Response:
    """Goes on to where the reader wanted to, if the browser has kept the cookie."""
    return see_other(_ours(to) if COOKIE in request.cookies else f"/sign-in?after=1&to={_ours(to)}")


@router.post("/sign-out", dependencies=[Depends(own_form)])
def sign_out(request: Request) -> Response:
    end_session(parts_of(request).database, request.cookies[COOKIE])
    return drop_session(see_other("/sign-in"))


def _ours(where: str) -> str:
    return where if OURS.fullmatch(where) else FRONT
