"""DICOM over TLS as the node speaks it in both directions (PS3.15 B.12, after BCP 195: RFC 8996 and RFC 9325).

TLS 1.2 with AEAD and forward secrecy, TLS 1.3, both sides with a certificate.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from domain.errors import Misconfigured

# AEAD with an ephemeral key exchange on elliptic curves (RFC 9325 4.2); TLS 1.3 has nothing else. Level 2 asks for keys
# of 2048 bits (RSA) or 224 (curves) at least, and no SHA-1, in every certificate of the chain (RFC 9325 4.5).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# What OpenSSL says of a certificate and a key that it cannot use: which of the files it is, and what is wrong with it.
NOT_USABLE = {
    "KEY_VALUES_MISMATCH": ("tls_key_file", "the key does not belong to the certificate"),
    "KEY_TYPE_MISMATCH": ("tls_key_file", "the key does not belong to the certificate"),
    "NO_CERTIFICATE_ASSIGNED": ("tls_key_file", "the key does not belong to the certificate"),
    "EE_KEY_TOO_SMALL": ("tls_certificate_file", "the certificate's key is too short"),
    "CA_KEY_TOO_SMALL": ("tls_certificate_file", "the key of an authority in the chain is too short"),
    "CA_MD_TOO_WEAK": ("tls_certificate_file", "a certificate is signed by way of SHA-1 or MD5"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """The node's certificate with its chain, its key, and the authorities whose certificates it trusts: PEM."""

    certificate_file: Path
    key_file: Path
    ca_file: Path


def furnish(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Set what both directions have in common.

    Raises:
        Misconfigured: a file cannot be used; the message names its key.
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    _load_identity(context, files.certificate_file, files.key_file)
    _load_authorities(context, files.ca_file)


def content_of(file: Path, key: str) -> bytes:
    """Raises:
    Misconfigured: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"receiver.{key}: {file} cannot be read: {error.strerror}",
            hint="check its path, and the rights of the node's user",
        ) from error


def no_certificate_in(certificate_file: Path) -> Misconfigured:
    return Misconfigured(
        f"receiver.tls_certificate_file: there is no certificate in {certificate_file}",
        hint="a PEM file: the node's certificate, then those between it and its authority",
    )


def reason_of(error: OSError) -> str:
    """What OpenSSL calls it, where it comes from there."""
    return str(getattr(error, "reason", None) or error.strerror or error)


def _load_identity(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    _check_certificate(certificate_file)
    if b"ENCRYPTED" in content_of(key_file, "tls_key_file"):
        raise Misconfigured(
            "receiver.tls_key_file: the key has a password, and nobody is there to type it",
            hint="remove it with `openssl pkey -in FILE -out FILE`, and let only the node's user read the file",
        )
    try:
        context.load_cert_chain(certificate_file, key_file, password="")  # so that OpenSSL never asks on a terminal
    except OSError as error:
        key, says = NOT_USABLE.get(reason_of(error), ("tls_key_file", f"there is no key in {key_file}"))
        raise Misconfigured(
            f"receiver.{key}: {says} ({reason_of(error)})",
            hint="PEM files: the node's certificate with its chain (RSA of 2048 bits, or P-256, or more), and its key",
        ) from error


def _check_certificate(certificate_file: Path) -> None:
    content_of(certificate_file, "tls_certificate_file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate_file)
    except OSError as error:
        raise no_certificate_in(certificate_file) from error


def _load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    content_of(ca_file, "tls_ca_file")
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise Misconfigured(
            f"receiver.tls_ca_file: there is no certificate in {ca_file} ({reason_of(error)})",
            hint="a PEM file: the authorities that sign your modalities' and archives' certificates",
        ) from error
    if context.cert_store_stats()["crl"]:  # then each authority there has to have one that is still valid
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
