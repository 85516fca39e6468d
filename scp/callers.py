"""Who may send: a Calling AE Title, the address it comes from, and (with TLS) the subject of its certificate."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from domain.clinics import Clinic
from domain.errors import Misconfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCaller:
    """`networks` empty: any address. `certificate_subject` empty: any, or none."""

    clinic: str
    ae_title: str
    networks: tuple[Network, ...] = ()
    certificate_subject: str = ""

    def is_met_by(self, calling_ae_title: str, address: Address, subject: str | None) -> bool:
        return (
            self.ae_title == calling_ae_title
            and (not self.networks or any(address in network for network in self.networks))
            and (not self.certificate_subject or _is_subject(self.certificate_subject, subject))
        )

    @property
    def strictness(self) -> tuple[bool, int]:
        """The caller that asks for more goes first: a certificate, then the longest network prefix."""
        longest = max((network.prefixlen + 1 for network in self.networks), default=0)
        return bool(self.certificate_subject), longest


class Callers:
    """The configured callers of all clinics. `takes_unknown`: a peer that none of them knows may send all the same;
    it belongs to no clinic, and what it sends is quarantined.
    """

    def __init__(self, clinics: Iterable[Clinic], *, takes_unknown: bool = False) -> None:
        self._takes_unknown = takes_unknown
        self._known = sorted(
            (
                KnownCaller(
                    clinic=clinic.name,
                    ae_title=caller.ae_title,
                    networks=_networks(caller.host),
                    certificate_subject=caller.certificate_subject,
                )
                for clinic in clinics
                for caller in clinic.callers
            ),
            key=lambda caller: caller.strictness,
            reverse=True,
        )

    def caller_of(
        self, *, calling_ae_title: str, peer_address: str, certificate_subject: str | None = None
    ) -> KnownCaller | None:
        """The caller that this peer is, or None when it is unknown.

        certificate_subject: an RFC 4514 string; None on a connection without TLS.
        """
        address = _plain_address(peer_address)
        for caller in self._known:
            if caller.is_met_by(calling_ae_title, address, certificate_subject):
                return caller
        return KnownCaller(clinic="", ae_title=calling_ae_title) if self._takes_unknown else None


def _plain_address(text: str) -> Address:
    """Without a zone, and an IPv4 address as such: a socket for both families shows it as ::ffff:10.0.0.1."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_subject(wanted: str, subject: str | None) -> bool:
    """Whether every attribute that is wanted (CN=…,O=…) is in the subject, in whatever order and case of its type."""
    return subject is not None and _attributes(wanted) <= _attributes(subject)


def _attributes(subject: str) -> frozenset[tuple[str, str]]:
    """RFC 4514, 2.1 to 2.4: attributes separated by commas, of which a backslash takes the meaning."""
    parts = subject.replace("\\,", "\0").split(",")
    pairs = (part.partition("=") for part in parts if part.strip())
    return frozenset((name.strip().upper(), value.strip().replace("\0", ",")) for name, _, value in pairs)


def _networks(host: str) -> tuple[Network, ...]:
    """An address, a network such as 10.1.0.0/16, or a host name, which is looked up once at the start."""
    if not host:
        return ()
    try:
        return (ipaddress.ip_network(host, strict=False),)
    except ValueError:
        pass
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise Misconfigured(
            f"clinics.callers.host: {host!r} is not an address and cannot be looked up",
            hint="write the modality's IP address or network, for example 10.1.0.0/16",
        ) from error
    return tuple(ipaddress.ip_network(address) for address in found)
