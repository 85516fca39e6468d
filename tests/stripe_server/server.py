"""A stand-in for Stripe on a loopback port, for the real `stripe` client: `StripeClient(key, base_addresses=…)`.

    request  ->  a misfortune?  ->  the key  ->  Idempotency-Key  ->  the resource  ->  answer  ->  a misfortune?

It keeps a journal of all that reached it, so that tests can look for what must never reach it.
"""

import json
import re
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.stripe_server import catalogue, clock, customers, disputes, invoices, meters, sessions, subscriptions
from tests.stripe_server.account import Account
from tests.stripe_server.form import decode
from tests.stripe_server.idempotency import Answer, Remembered
from tests.stripe_server.misfortunes import IS_DONE, Misfortune, Script
from tests.stripe_server.problems import Json, Problem
from tests.stripe_server.webhooks import Webhooks

LOOPBACK = "127.0.0.1"
SECRET_KEY = "sk_test_standin"
PARTS = (customers, catalogue, meters, subscriptions, invoices, disputes, sessions, clock)
ROUTES = [
    (method, re.compile(pattern), function) for part in PARTS for (method, pattern), function in part.ROUTES.items()
]


class StripeServer:
    """Its account, its webhooks and what goes wrong with it; to be used as a context."""

    def __init__(self, account: Account | None = None) -> None:
        self.account = account or Account()
        self.script = Script()
        self.webhooks = Webhooks(self.account)
        self.journal: list[str] = []
        self._remembered = Remembered()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _Handler)
        self._server.daemon_threads = True
        self._server.stand_in = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.script.let_go.set()
        self._server.shutdown()
        self._server.server_close()

    def advance_to(self, moment: float) -> None:
        """What `POST /v1/test_helpers/test_clocks/{id}/advance` does, without asking for a clock before."""
        with self.account.lock:
            clock.advance_to(self.account, moment)

    def answer(self, method: str, target: str, headers: dict[str, str], body: str) -> Answer | None:
        """The answer; None: the connection ends without one."""
        path, misfortune = urlsplit(target).path, self.script.choose(method, urlsplit(target).path)
        self.journal.append(f"{method} {target} {sorted(headers.items())} {body}")
        if misfortune is Misfortune.CUT_BEFORE:
            return None
        if misfortune is Misfortune.RATE_LIMITED:
            limited = Problem("Too many requests.", status=429, code="rate_limit")
            return Answer(status=limited.status, body=limited.body)
        answer = self._carry_out(method, target, path, headers, body, misfortune)
        if misfortune is Misfortune.HANG:
            self.script.let_go.wait()
        return None if misfortune in (Misfortune.LOST_ANSWER, Misfortune.HANG) else answer

    def _carry_out(
        self, method: str, target: str, path: str, headers: dict[str, str], body: str, misfortune: Misfortune | None
    ) -> Answer:
        key, request = headers.get("idempotency-key", ""), f"{method} {path} {body}"
        broken = Answer(status=500, body=Problem("An unknown error occurred", status=500, kind="api_error").body)
        with self.account.lock:
            clock.catch_up(self.account)
            try:
                _check_key(headers)
                known = self._remembered.answer(key, request, self.account.now) if method == "POST" and key else None
                if known is not None:
                    return known
                params = decode(urlsplit(target).query if method in ("GET", "DELETE") else body)
                happened = misfortune is None or misfortune in IS_DONE
                answer = Answer(status=200, body=_dispatch(self.account, method, path, params)) if happened else broken
            except Problem as problem:
                return Answer(status=problem.status, body=problem.body)
            if misfortune is Misfortune.ERROR_AFTER:
                answer = broken
            if method == "POST" and key:
                self._remembered.keep(key, request, self.account.now, answer)
            return answer


def _check_key(headers: dict[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or key != SECRET_KEY:
        raise Problem("Invalid API Key provided", status=401)


def _dispatch(account: Account, method: str, path: str, params: Json) -> Json:
    for verb, pattern, function in ROUTES:
        found = pattern.fullmatch(path)
        if verb == method and found:
            answer: Any = function(account, params, *found.groups())
            told: Json = _told(json.loads(json.dumps(answer)))
            return told
    raise Problem(f"Unrecognized request URL ({method}: {path}).", status=404)


def _told(answer: Any) -> Any:
    """Without what the stand-in keeps for itself."""
    if isinstance(answer, list):
        return [_told(one) for one in answer]
    if isinstance(answer, dict):
        return {name: _told(value) for name, value in answer.items() if not name.startswith("_")}
    return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        stand_in: StripeServer = self.server.stand_in  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = stand_in.answer(self.command, self.path, headers, body)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = json.dumps(answer.body).encode()
        head = (
            f"HTTP/1.1 {answer.status} -\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
            f"Request-Id: req_{len(stand_in.journal)}\r\n\r\n"
        )
        self.wfile.write(head.encode() + content)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815

    def handle(self) -> None:
        """A client that was killed is no news."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_args: object) -> None:
        """The journal has it."""
