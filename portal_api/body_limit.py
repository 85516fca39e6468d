"""No request brings more than a form needs: what is longer is refused before it fills the memory (RFC 9110 15.5.14)."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_BODY = 64 * 1024
TOO_LONG = HTTPException(413, f"a request has at most {LONGEST_BODY} bytes")


class BodyLimit:
    """ASGI middleware. It counts what comes, whatever Content-Length says, and only where somebody reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        came = 0

        async def receive_counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > LONGEST_BODY:
                raise TOO_LONG
            return message

        await self._app(scope, receive_counted, send)
