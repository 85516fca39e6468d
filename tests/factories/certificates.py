"""Certificates for tests: an authority, the node, modalities, and those who must not come in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from domain.tls import TlsFiles

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files. `subject`: as RFC 4514 writes it."""

    certificate: Path
    key: Path
    subject: str


def files_of(identity: Identity, authority: "Authority") -> TlsFiles:
    """That a node is `identity`, and trusts `authority`."""
    return TlsFiles(certificate_file=identity.certificate, key_file=identity.key, ca_file=authority.file)


class Authority:
    """Signs certificates that lie in one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = p256()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = self._signed(self._name, self._key, begins=-60, days=365, is_authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def identity(
        self,
        name: str,
        *,
        organization: str = "St. Mary",
        begins: int = -60,
        days: int = 30,
        password: bytes = b"",
        key: PrivateKey | None = None,
    ) -> Identity:
        """A certificate for the loopback address, valid from `begins` to `days`, counted in days from now."""
        key = key or p256()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key", subject.rfc4514_string())
        certificate = self._signed(subject, key, begins=begins, days=days, is_authority=False)
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        identity.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        identity.key.chmod(0o600)
        return identity

    def revoke(self, identity: Identity, *, days: int = 7) -> None:
        """Puts a revocation list, valid until in so many days, behind the authority's certificate in its file."""
        now = datetime.now(UTC)
        revoked = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(now).build()
        listed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now + timedelta(days=-60))
            .next_update(now + timedelta(days=days))
            .add_revoked_certificate(entry)
            .sign(self._key, hashes.SHA256())
        )
        with self.file.open("ab") as file:
            file.write(listed.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, subject: x509.Name, key: PrivateKey, *, begins: int, days: int, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)
