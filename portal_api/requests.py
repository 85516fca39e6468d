"""One log event a request: which route, which status, how long. Never the path or the query, which hold identifiers."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()


class RequestLog:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.monotonic(), 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            if scope["type"] == "http":
                where = getattr(scope.get("route"), "path", "") or scope.get("root_path") or "no route"
                log.info("request", where=where, status=status, seconds=round(time.monotonic() - started, 3))
