"""DICOM over TLS (PS3.15 B.12, after BCP 195: RFC 8996 and RFC 9325): TLS 1.2 with AEAD and forward secrecy, TLS 1.3,
both sides with a certificate. The handshake happens in the connection's own thread: a slow one delays nobody else.

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

log = structlog.get_logger()

# AEAD with an ephemeral key exchange on elliptic curves (RFC 9325 4.2); TLS 1.3 has nothing else. Level 2 asks for keys
# of 2048 bits (RSA) or 224 (curves) at least, and no SHA-1, in every certificate of the chain (RFC 9325 4.5).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# What OpenSSL calls those attributes that RFC 4514 has no short name for, and that modalities' certificates have.
ATTRIBUTE_NAMES = {NameOID.EMAIL_ADDRESS: "emailAddress", NameOID.SERIAL_NUMBER: "serialNumber"}
# What OpenSSL says of a certificate and a key that it cannot use: which of the files it is, and what is wrong with it.
NOT_USABLE = {
    "KEY_VALUES_MISMATCH": ("tls_key_file", "the key does not belong to the certificate"),
    "KEY_TYPE_MISMATCH": ("tls_key_file", "the key does not belong to the certificate"),
    "NO_CERTIFICATE_ASSIGNED": ("tls_key_file", "the key does not belong to the certificate"),
    "EE_KEY_TOO_SMALL": ("tls_certificate_file", "the certificate's key is too short"),
    "CA_KEY_TOO_SMALL": ("tls_certificate_file", "the key of an authority in the chain is too short"),
    "CA_MD_TOO_WEAK": ("tls_certificate_file", "a certificate is signed by way of SHA-1 or MD5"),
}


class TlsIdentity:
    """The node's certificate and key, and the authorities whose peers may come in.

    The files are looked at for each connection, so that a renewed certificate is used without a restart. A renewal that
    is only half there, or wrong, is told in the log, and the files that were read before stay in use.
    """

    def __init__(self, *, certificate_file: Path, key_file: Path, ca_file: Path) -> None:
        """Raises:
        Misconfigured: a file cannot be used; the message names its key.
        """
        self._files = (certificate_file, key_file, ca_file)
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
        context = server_context(*self._files)
        try:
            check_dates(certificate_of(self._files[0]))
        except Misconfigured as error:
            log.error("tls_certificate_not_valid", error=error.message)
        return context

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when any of the files is written or replaced."""
        try:
            states = [file.stat() for file in self._files]
        except OSError:
            return ()
        return tuple((state.st_mtime_ns, state.st_ino, state.st_size) for state in states)


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
    # Each connection shows its certificate anew. Without tickets a peer can take up a session of TLS 1.2 only while the
    # connection that it was made for is still open, for we close without a word, and OpenSSL then forgets it.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    _load_identity(context, certificate_file, key_file)
    _load_authorities(context, ca_file)
    return context


def certificate_of(certificate_file: Path) -> x509.Certificate:
    """The node's own certificate, the first in its file.

    Raises:
        Misconfigured: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(_content(certificate_file, "tls_certificate_file"))[0]
    except ValueError as error:
        raise Misconfigured(
            f"receiver.tls_certificate_file: there is no certificate in {certificate_file}",
            hint="a PEM file: the node's certificate, then those between it and its authority",
        ) from error


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


def _load_identity(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    certificate_of(certificate_file)
    if b"ENCRYPTED" in _content(key_file, "tls_key_file"):
        raise Misconfigured(
            "receiver.tls_key_file: the key has a password, and nobody is there to type it",
            hint="remove it with `openssl pkey -in FILE -out FILE`, and let only the node's user read the file",
        )
    try:
        context.load_cert_chain(certificate_file, key_file, password="")  # so that OpenSSL never asks on a terminal
    except OSError as error:
        key, says = NOT_USABLE.get(_reason(error), ("tls_key_file", f"there is no key in {key_file}"))
        raise Misconfigured(
            f"receiver.{key}: {says} ({_reason(error)})",
            hint="PEM files: the node's certificate with its chain (RSA of 2048 bits, or P-256, or more), and its key",
        ) from error


def _load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    _content(ca_file, "tls_ca_file")
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise Misconfigured(
            f"receiver.tls_ca_file: there is no certificate in {ca_file} ({_reason(error)})",
            hint="a PEM file: the authorities that sign your modalities' certificates",
        ) from error
    if context.cert_store_stats()["crl"]:  # then each authority there has to have one that is still valid
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _content(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"receiver.{key}: {file} cannot be read: {error.strerror}",
            hint="check its path, and the rights of the node's user",
        ) from error


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
