"""DICOM over TLS (PS3.15 B.12 and B.13, after BCP 195): TLS 1.2 with AEAD and forward secrecy, TLS 1.3, both sides
with a certificate. The handshake happens in the connection's own thread, so that a slow one delays nobody else.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from domain.errors import Misconfigured

# The AEAD suites with an ephemeral key exchange; TLS 1.3 has no others (RFC 9325 4.2, PS3.15 B.12).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
COMMA = "\\,"
SHORT_NAMES = {
    "commonName": "CN", "countryName": "C", "localityName": "L", "organizationName": "O",
    "organizationalUnitName": "OU", "stateOrProvinceName": "ST", "domainComponent": "DC",
}  # fmt: skip


class TlsIdentity:
    """The node's certificate and key, and the authorities whose peers may come in.

    The files are looked at for each connection, so that a renewed certificate is used without a restart.
    """

    def __init__(self, *, certificate_file: Path, key_file: Path, ca_file: Path) -> None:
        """Raises:
        Misconfigured: a file cannot be used; the message names its key.
        """
        self._certificate_file, self._key_file, self._ca_file = certificate_file, key_file, ca_file
        self._seen = self._changed()
        self._context = server_context(certificate_file, key_file, ca_file)

    def wrap(self, sock: socket) -> ssl.SSLSocket:
        """Shake hands as server, within the socket's timeout."""
        return self._current().wrap_socket(sock, server_side=True)

    def _current(self) -> ssl.SSLContext:
        changed = self._changed()
        if changed != self._seen:
            try:
                self._context = server_context(self._certificate_file, self._key_file, self._ca_file)
                self._seen = changed
            except Misconfigured:
                pass  # half of a renewal is there; the next connection looks again
        return self._context

    def _changed(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in (self._certificate_file, self._key_file, self._ca_file))
        except OSError:
            return ()


@dataclass(frozen=True, slots=True)
class TlsPort:
    """Where TLS is spoken; 0: the system chooses the port."""

    port: int
    identity: TlsIdentity


def server_context(certificate_file: Path, key_file: Path, ca_file: Path) -> ssl.SSLContext:
    """What the node agrees to.

    Raises:
        Misconfigured: a file cannot be used; the message names its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_TICKET  # a resumed session would not show whether its certificate still holds
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # Asked for only when the key is encrypted, which nobody is there to unlock.
        context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"receiver.tls_certificate_file and receiver.tls_key_file cannot be used together: {_reason(error)}",
            hint="both are PEM files; the key belongs to the certificate and has no password",
        ) from error
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"receiver.tls_ca_file cannot be used: {_reason(error)}",
            hint="a PEM file with the authorities that sign your modalities' certificates",
        ) from error
    return context


def subject_of(sock: ssl.SSLSocket) -> str:
    """The subject of the peer's certificate, which was verified, as RFC 4514 writes it: CN=ct1,O=St. Mary."""
    certificate: dict[str, Any] = dict(sock.getpeercert() or {})
    names = [attribute for group in certificate.get("subject", ()) for attribute in group]
    return ",".join(f"{SHORT_NAMES.get(name, name)}={value.replace(',', COMMA)}" for name, value in reversed(names))


def _no_password() -> str:
    raise OSError("the key is encrypted")


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
