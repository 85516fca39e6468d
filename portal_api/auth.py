"""Who is asking, by API key, and which clinics' rows that key may see.

no key, or not a valid one          401, with WWW-Authenticate (RFC 9110 11.6.1)
a valid key without the permission  403
another clinic's rows               as if they were not there: 404 or an empty list
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from portal_api.parts import parts_of
from portal_api.permissions import Permission, may
from storage.api_keys import ApiKey, find_key

bearer = HTTPBearer(auto_error=False, scheme_name="Bearer", description="An API key from `collimator keys create`.")
header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="X-API-Key", description="The same key.")

HOW = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


def authenticate(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    key_header: Annotated[str | None, Security(header)],
) -> ApiKey:
    """The valid key that came with the request."""
    key = credentials.credentials if credentials is not None else key_header
    if not key:
        raise _unauthorized(f"an API key is needed: {HOW}")
    found = find_key(parts_of(request).database, key)
    if found is None:
        raise _unauthorized("this API key is not valid")
    return found


def requires(permission: Permission) -> Callable[[ApiKey], ApiKey]:
    """A dependency that hands on the key of a caller who may."""

    def authorize(key: Annotated[ApiKey, Depends(authenticate)]) -> ApiKey:
        if not may(key.role, permission):
            raise HTTPException(403, f"a key with the role {key.role} may not: it lacks the permission {permission}")
        return key

    return authorize


def visible_clinics(key: ApiKey, asked_for: str | None = None) -> frozenset[str] | None:
    """The clinics whose rows answer this request; None: all of them.

    A clinic that the key may not see leaves none, so that asking does not even tell whether it exists.
    """
    if key.clinic is None:
        return None if asked_for is None else frozenset({asked_for})
    return frozenset({key.clinic}) if asked_for in (None, key.clinic) else frozenset()


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": 'Bearer realm="collimator"'})
