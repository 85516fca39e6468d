"""The listening side: takes connections, gives each a thread, and shuts down without a loss.

port, TLS port  ->  Admission  ->  fast.Connection  ->  store.py | services  ->  Status
"""

import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable

import structlog
from pydicom.uid import UID

from domain.hosts import plain_address
from scp.admission import Admission
from scp.callers import Callers
from scp.contexts import VERIFICATION, supported_syntaxes
from scp.echo import handle_echo
from scp.fast import Connection, Desk
from scp.limits import Limits
from scp.message import MessageMemory
from scp.requests import CommandField, Services, reported_to_us
from scp.store import StoreHandler
from scp.tls import TlsPort

log = structlog.get_logger()

BACKLOG = 512
POLL_S = 0.02
STACK_BYTES = 512 * 1024  # a connection's thread is not deep


class Receiver:
    """One listening port, and one for TLS where it is configured.

    services: what is served besides Verification and storage.
    on_released, on_closed: get the name of each association that its peer released, and of each that is over.
    reuse_port: several processes listen on the same port (SO_REUSEPORT).
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        callers: Callers,
        store: StoreHandler,
        on_released: Callable[[str], None],
        on_closed: Callable[[str], None] = lambda association: None,
        services: Services | None = None,
        limits: Limits | None = None,
        tls: TlsPort | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._ae_title = ae_title
        self._host = host
        self._port = port
        self._tls = tls
        self._reuse_port = reuse_port
        limits = limits or Limits()
        services = {(CommandField.C_ECHO_RQ, VERIFICATION): handle_echo, **(services or {})}
        self._association_timeout_s = limits.association_timeout_s
        self._admission = Admission(limits)
        self._desk = Desk(
            ae_title=ae_title,
            callers=callers,
            store=store,
            services=services,
            supported=supported_syntaxes(UID(sop_class) for _, sop_class in services),
            limits=limits,
            admission=self._admission,
            on_released=on_released,
            on_closed=on_closed,
            reported_to_us=reported_to_us(services),
            memory=MessageMemory(limits.maximum_memory_for_messages),
        )
        self._stop_listening = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._accepts = True
        self.tls_port = 0

    def start(self) -> int:
        """Listen, and return the port (the one that the system chose, when 0 was asked for).

        Raises:
            OSError: a port cannot be had; `filename` says which.
        """
        listening, listening_tls = self._listen(self._port), None
        if self._tls is not None:
            try:
                listening_tls = self._listen(self._tls.port)
            except OSError:
                listening.close()
                raise
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ, None)
        if self._tls is not None and listening_tls is not None:
            self.tls_port = int(listening_tls.getsockname()[1])
            self._selector.register(listening_tls, selectors.EVENT_READ, self._tls.identity.wrap)
        self._selector.register(self._stop_listening, selectors.EVENT_READ, None)
        threading.stack_size(STACK_BYTES)
        self._thread = threading.Thread(target=self._accept_all, name="listener", daemon=True)
        self._thread.start()
        port = int(listening.getsockname()[1])
        log.info("receiver_listening", ae_title=self._ae_title, port=port, tls_port=self.tls_port or None)
        return port

    def stop(self, *, grace_s: float) -> None:
        """Stop listening, let associations end by themselves for `grace_s`, then abort those that are left.

        An association in the middle of an object is never cut: its object is stored and answered first. A peer that
        stalls there is given up when any other silent peer would be.
        """
        os.eventfd_write(self._stop_listening, 1)
        self._thread.join()
        self._wait_until_empty(grace_s)
        self._desk.closing.set()
        self._wait_until_empty(self._association_timeout_s)
        for guest in self._admission.all():
            guest.drop()
        self._wait_until_empty(1.0)
        os.close(self._stop_listening)
        log.info("receiver_stopped")

    def _wait_until_empty(self, at_most_s: float) -> None:
        until = time.monotonic() + at_most_s
        while self._admission.associated() and time.monotonic() < until:
            time.sleep(POLL_S)

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server(
                (self._host, port),
                family=family,
                backlog=BACKLOG,
                reuse_port=self._reuse_port,
                dualstack_ipv6=self._host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            error.filename = f"{self._host}:{port}"
            raise

    def _accept_all(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._stop_listening:
                    self._close()
                    return
                self._accept(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self, listening: socket.socket, wrap: Callable[[socket.socket], ssl.SSLSocket] | None) -> None:
        try:
            sock, address = listening.accept()
        except OSError as error:  # the peer was gone already, or there is no descriptor left
            self._cannot_accept(error.strerror or type(error).__name__)
            time.sleep(POLL_S)
            return
        peer_address = str(plain_address(address[0]))
        connection = Connection(self._desk, sock, peer_address)
        self._admission.wait(connection, address=peer_address)
        try:
            threading.Thread(target=connection.run, args=(wrap,), daemon=True).start()
        except RuntimeError:
            self._cannot_accept("there is no thread to be had")
            self._admission.leave(connection)
            sock.close()
        else:
            self._accepts = True

    def _cannot_accept(self, error: str) -> None:
        """It is tried fifty times a second, and told once."""
        if self._accepts:
            log.warning("accept_failed", error=error)
        self._accepts = False

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
