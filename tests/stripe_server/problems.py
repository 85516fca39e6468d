"""What Stripe refuses, in its own shape: an HTTP status and {"error": {"type", "code", "param", "message"}}."""

from typing import Any

Json = dict[str, Any]


class Problem(Exception):
    """An answer that is not 200. Stripe's client raises the error class that fits the status and the type."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error", code: str = "", param: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"type": kind, "message": message}}
        if code:
            self.body["error"]["code"] = code
        if param:
            self.body["error"]["param"] = param


def missing(param: str) -> Problem:
    return Problem(f"Missing required param: {param}.", code="parameter_missing", param=param)


def unknown(param: str) -> Problem:
    return Problem(f"Received unknown parameter: {param}", code="parameter_unknown", param=param)


def no_such(kind: str, identifier: str, param: str = "id") -> Problem:
    return Problem(f"No such {kind}: '{identifier}'", status=404, code="resource_missing", param=param)


def invalid(param: str, message: str) -> Problem:
    return Problem(message, param=param)
