"""The TLS port (PS3.15 B.12). The handshake happens in the connection's own thread: a slow one delays nobody else.

files  ->  server_context  ->  TlsIdentity.wrap  ->  shake_hands  ->  scp/callers.py
"""

import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import socket

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from domain.errors import Misconfigured
from domain.tls import TlsFiles, content_of, furnish, no_certificate_in

log = structlog.get_logger()

# What OpenSSL calls those attributes that RFC 4514 has no short name for, and that modalities' certificates have.
ATTRIBUTE_NAMES = {NameOID.EMAIL_ADDRESS: "emailAddress", NameOID.SERIAL_NUMBER: "serialNumber"}


class TlsIdentity:
    """The node's certificate and key, and the authorities whose peers may come in.

    The files are looked at for each connection, so that a renewed certificate is used without a restart. A renewal that
    is only half there, or wrong, is told in the log, and the files that were read before stay in use.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises:
        Misconfigured: a file cannot be used; the message names its key.
        """
        self._files = files
        self._lock = threading.Lock()
        self._read = self._stamp()
        self._context = self._load()

    def wrap(self, sock: socket) -> ssl.SSLSocket:
        """The TLS side of a socket, as server. Hands are not shaken yet: meanwhile another thread can shut it down."""
        return self._current().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _current(self) -> ssl.SSLContext:
        with self._lock:
            stamp = self._stamp()
            if stamp != self._read:
                self._read = stamp
                try:
                    self._context = self._load()
                    log.info("tls_files_renewed")
                except Misconfigured as error:
                    log.error("tls_files_not_usable", error=error.message)
            return self._context

    def _load(self) -> ssl.SSLContext:
        """A certificate whose time is over is used all the same: peers refuse it themselves, and the other port works
        on. A receiver that does not start would serve nobody.
        """
        context = server_context(self._files)
        try:
            check_dates(certificate_of(self._files.certificate_file))
        except Misconfigured as error:
            log.error("tls_certificate_not_valid", error=error.message)
        return context

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when any of the files is written or replaced."""
        files = self._files
        try:
            states = [file.stat() for file in (files.certificate_file, files.key_file, files.ca_file)]
        except OSError:
            return ()
        return tuple((state.st_mtime_ns, state.st_ino, state.st_size) for state in states)


@dataclass(frozen=True, slots=True)
class TlsPort:
    """Where TLS is spoken; 0: the system chooses the port."""

    port: int
    identity: TlsIdentity


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """What the node agrees to.

    Raises:
        Misconfigured: a file cannot be used; the message names its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    furnish(context, files)
    # Each connection shows its certificate anew. Without tickets a peer can take up a session of TLS 1.2 only while the
    # connection that it was made for is still open, for we close without a word, and OpenSSL then forgets it.
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def certificate_of(certificate_file: Path) -> x509.Certificate:
    """The node's own certificate, the first in its file.

    Raises:
        Misconfigured: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(content_of(certificate_file, "tls_certificate_file"))[0]
    except ValueError as error:
        raise no_certificate_in(certificate_file) from error


def check_dates(certificate: x509.Certificate) -> None:
    """Raises:
    Misconfigured: its time is over, or has not come.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if datetime.now(UTC) > ends:
        raise Misconfigured(
            f"receiver.tls_certificate_file: the certificate expired on {ends:%Y-%m-%d}",
            hint="have it renewed by your authority; the new files are used without a restart",
        )
    if datetime.now(UTC) < begins:
        raise Misconfigured(
            f"receiver.tls_certificate_file: the certificate is not valid before {begins:%Y-%m-%d}",
            hint="check this machine's clock",
        )


def shake_hands(sock: ssl.SSLSocket) -> str:
    """The handshake, and the subject of the peer's verified certificate as RFC 4514 writes it: CN=ct1,O=St. Mary.

    Raises:
        OSError: the peer does not agree, has no certificate, or takes longer for all of it than the socket's timeout.
        ValueError: its certificate has no subject that can be read.
    """
    sock.do_handshake()
    certificate = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"")
    return certificate.subject.rfc4514_string(ATTRIBUTE_NAMES)


def why_refused(error: Exception) -> str:
    """What a handshake ended with, in OpenSSL's words: CERTIFICATE_VERIFY_FAILED (certificate has expired)."""
    reason = getattr(error, "reason", None) or type(error).__name__
    says = getattr(error, "verify_message", "")
    return f"{reason} ({says})" if says else str(reason)
