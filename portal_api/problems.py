"""Turns what went wrong into an answer of one sentence (RFC 9457), which repeats nothing that the request brought."""

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from domain.errors import Refuse
from portal_api.headers import SECURITY_HEADERS
from portal_api.parts import parts_of

log = structlog.get_logger()

RETRY_AFTER_S = 5
# What is refused for these reasons is not there; the rest is there, and in another state.
NOT_FOUND = frozenset({"unknown_study", "unknown_finding", "nothing_to_compare", "unknown_charge", "unknown_invoice"})


class ProblemResponse(JSONResponse):
    """Its one member is `detail`; what else the standard knows is left out, and means "about:blank"."""

    media_type = "application/problem+json"


# Nor is this about what is there: it is no value that there is.
BAD_VALUES = frozenset({"unknown_tier"})


def no_answer(_request: Request, error: Exception) -> ProblemResponse:
    """What a route, or the lack of one, says by a status."""
    assert isinstance(error, HTTPException)
    return ProblemResponse({"detail": error.detail}, error.status_code, headers=error.headers)


def refused(_request: Request, error: Exception) -> ProblemResponse:
    """404, 409 or 422: what was asked for cannot be done, and why."""
    assert isinstance(error, Refuse)
    hint = f" ({error.hint})" if error.hint else ""
    status = 404 if error.reason in NOT_FOUND else 422 if error.reason in BAD_VALUES else 409
    return ProblemResponse({"detail": f"{error.message}{hint}"}, status)


def bad_parameters(_request: Request, error: Exception) -> ProblemResponse:
    """422: which parameter, and what was expected of it."""
    assert isinstance(error, RequestValidationError)
    complaints = [f"{detail['loc'][-1]}: {detail['msg']}" for detail in error.errors()]
    return ProblemResponse({"detail": "; ".join(complaints)}, 422)


def bug(request: Request, error: Exception) -> ProblemResponse:
    """503 while the database is away, otherwise 500. The log has the rest."""
    route = getattr(request.scope.get("route"), "path", "")
    if not parts_of(request).database.is_reachable():
        log.warning("database_away", where=route, error=type(error).__name__)
        retry = {"Retry-After": str(RETRY_AFTER_S)}
        return ProblemResponse({"detail": "the database does not answer"}, 503, headers={**SECURITY_HEADERS, **retry})
    log.error("request_failed", where=route, error=type(error).__name__)
    return ProblemResponse({"detail": "an unexpected error; see the portal's log"}, 500, headers=SECURITY_HEADERS)
