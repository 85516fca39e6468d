"""Who looks at a page: an API key that was given once at /sign-in, behind a cookie from then on.

no session                  to /sign-in, and back from there
a form without its token    403: another site may have sent it (OWASP CSRF, synchroniser token)

The cookie is Secure: browsers keep it over HTTPS, and on the node's own machine. It is SameSite=Strict and HttpOnly.
"""

from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated
from urllib.parse import parse_qsl, quote

from fastapi import Depends, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from portal_api.parts import parts_of
from portal_api.permissions import Permission, may
from storage.api_keys import ApiKey
from storage.sessions import LONGEST, find_session

COOKIE = "__Host-collimator"  # a browser takes a cookie of this name only from its own host, over HTTPS (RFC 6265bis)
TOKEN_FIELD = "token"  # noqa: S105  # a name
MOST_FIELDS = 20
SAME_SITE = frozenset({"same-origin", "none"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Who has signed in. `form_token`: what every form of theirs brings along."""

    key: ApiKey
    form_token: str

    def may(self, permission: Permission) -> bool:
        return may(self.key.role, permission)


class SignInFirst(HTTPException):
    """Nobody has signed in: 303 to /sign-in."""

    def __init__(self, request: Request) -> None:
        where = quote(request.url.path, safe="/")
        super().__init__(303, "sign in first", headers={"Location": f"/sign-in?to={where}"})


def reader(request: Request) -> Reader:
    """Who looks at this page."""
    session_token = request.cookies.get(COOKIE, "")
    key = find_session(parts_of(request).database, session_token) if session_token else None
    if key is None:
        raise SignInFirst(request)
    return Reader(key=key, form_token=_form_token(session_token))


async def form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent. Of a field that came twice the last one counts.

    Raises:
        HTTPException: another site sent it, or it is no form.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in SAME_SITE:
        raise HTTPException(403, "another site has sent this form")
    body = await request.body()
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(422, "this is no form") from error


def own_form(
    reader: Annotated[Reader, Depends(reader)], fields: Annotated[dict[str, str], Depends(form)]
) -> dict[str, str]:
    """The fields of a form that this reader was shown."""
    if not compare_digest(fields.get(TOKEN_FIELD, "").encode(), reader.form_token.encode()):
        raise HTTPException(403, "the form is not of this session: go back, load the page anew and try again")
    return fields


def keep_session(response: Response, session_token: str) -> Response:
    response.set_cookie(
        COOKIE,
        session_token,
        max_age=int(LONGEST.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return response


def drop_session(response: Response) -> Response:
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


def see_other(where: str) -> RedirectResponse:
    """After a form: a page that can be loaded anew without sending it again (RFC 9110 15.4.4)."""
    return RedirectResponse(where, 303)


def _form_token(session_token: str) -> str:
    """Of the session, and of no use to find it out."""
    return sha256(f"form {session_token}".encode()).hexdigest()
