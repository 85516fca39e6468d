"""Turns what went wrong into an answer of one sentence, which repeats nothing that the request brought."""

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from portal_api.headers import SECURITY_HEADERS
from portal_api.parts import parts_of

log = structlog.get_logger()

RETRY_AFTER_S = 5


def bad_parameters(_request: Request, error: Exception) -> JSONResponse:
    """422: which parameter, and what was expected of it."""
    assert isinstance(error, RequestValidationError)
    complaints = [f"{detail['loc'][-1]}: {detail['msg']}" for detail in error.errors()]
    return JSONResponse({"detail": "; ".join(complaints)}, 422)


def bug(request: Request, error: Exception) -> JSONResponse:
    """503 while the database is away, otherwise 500. The log has the rest."""
    route = getattr(request.scope.get("route"), "path", "")
    if not parts_of(request).database.is_reachable():
        log.warning("database_away", where=route, error=type(error).__name__)
        retry = {"Retry-After": str(RETRY_AFTER_S)}
        return JSONResponse({"detail": "the database does not answer"}, 503, headers={**SECURITY_HEADERS, **retry})
    log.error("request_failed", where=route, error=type(error).__name__)
    return JSONResponse({"detail": "an unexpected error; see the portal's log"}, 500, headers=SECURITY_HEADERS)
