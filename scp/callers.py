"""Who may send: a Calling AE Title, the address it comes from, and (with TLS) the subject of its certificate.

A destination that is asked to commit to what it stored may come in, too, to report; it may send nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from domain.clinics import Clinic, Destination
from domain.errors import Misconfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Attribute = tuple[str, str]
# RFC 4514 2.1 to 2.4: a backslash takes the meaning from the character after it, or stands before two hex digits.
ATTRIBUTE = re.compile(r"(?:\\.|[^\\,+])+", re.DOTALL)
WRITTEN = r"\s*([A-Za-z][A-Za-z0-9-]*|\d+(\.\d+)+)\s*=\s*(\\[0-9A-Fa-f]{2}|\\[ \"#+,;<=>\\]|[^\\\"+,;<>\0])+"
SUBJECT = re.compile(rf"{WRITTEN}([,+]{WRITTEN})*")
ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCaller:
    """`networks`: empty, it may come from any address. `subject`: attributes that its certificate must have; empty, it
    need not have one. `only_reports`: it is a destination, and comes to report what it commits to.
    """

    clinic: str
    ae_title: str
    networks: tuple[Network, ...] = ()
    subject: frozenset[Attribute] = frozenset()
    only_reports: bool = False

    def is_met_by(self, calling_ae_title: str, address: Address, subject: frozenset[Attribute]) -> bool:
        return (
            self.ae_title == calling_ae_title
            and (not self.networks or any(address in network for network in self.networks))
            and self.subject <= subject
        )

    @property
    def strictness(self) -> tuple[int, int]:
        """The caller that asks for more goes first: attributes of the subject, then the longest network prefix."""
        longest = max((network.prefixlen + 1 for network in self.networks), default=0)
        return len(self.subject), longest


class Callers:
    """The configured callers of all clinics. `takes_unknown`: a peer that none of them knows may send all the same;
    it belongs to no clinic, and what it sends is quarantined.
    """

    def __init__(self, clinics: Iterable[Clinic], *, takes_unknown: bool = False) -> None:
        """Raises:
        Misconfigured: a host cannot be looked up, or a subject is none.
        """
        clinics = tuple(clinics)
        self._takes_unknown = takes_unknown
        self._destinations = [one for clinic in clinics for one in clinic.destinations if one.commitment]
        self._known = sorted(
            (
                KnownCaller(
                    clinic=clinic.name,
                    ae_title=caller.ae_title,
                    networks=_networks(caller.host),
                    subject=_wanted(caller.certificate_subject),
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
        address, subject = _plain_address(peer_address), _attributes(certificate_subject or "")
        for caller in self._known:
            if caller.is_met_by(calling_ae_title, address, subject):
                return caller
        if self._takes_unknown:
            return KnownCaller(clinic="", ae_title=calling_ae_title)
        if any(is_destination(one, calling_ae_title, peer_address) for one in self._destinations):
            return KnownCaller(clinic="", ae_title=calling_ae_title, only_reports=True)
        return None


def is_destination(destination: Destination, calling_ae_title: str, peer_address: str) -> bool:
    """Whether this peer is the destination: its AE title, at the address to which results are sent.

    A name is looked up now, not at the start: the node must come up while a PACS's name cannot be resolved.
    """
    if calling_ae_title != destination.ae_title:
        return False
    try:
        return any(_plain_address(peer_address) in network for network in _networks(destination.host))
    except Misconfigured:
        return False


def _plain_address(text: str) -> Address:
    """Without a zone, and an IPv4 address as such: a socket for both families shows it as ::ffff:10.0.0.1."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _wanted(certificate_subject: str) -> frozenset[Attribute]:
    attributes = _attributes(certificate_subject)
    is_subject = SUBJECT.fullmatch(certificate_subject) and all(value for _, value in attributes)
    if certificate_subject and not is_subject:
        raise Misconfigured(
            f"clinics.callers.certificate_subject: {certificate_subject!r} is not written as RFC 4514 does",
            hint='name and value of each attribute, for example "CN=ct1,O=St. Mary"; inside a value \\ before a comma',
        )
    return attributes


def _attributes(subject: str) -> frozenset[Attribute]:
    """Neither order counts, nor the case of a type, nor how much space there is (RFC 4518 2.6.1)."""
    pairs = (part.partition("=") for part in ATTRIBUTE.findall(subject) if part.strip())
    return frozenset((name.strip().upper(), " ".join(_unescaped(value).split())) for name, _, value in pairs)


def _unescaped(value: str) -> str:
    def plain(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if len(match[1]) == 2 else match[1]

    return ESCAPE.sub(plain, value.encode()).decode(errors="replace")


def _networks(host: str) -> tuple[Network, ...]:
    """An address, a network such as 10.1.0.0/16, or a host name, which is looked up once at the start."""
    if not host:
        return ()
    try:
        return (_plain_network(host),)
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise Misconfigured(
            f"clinics.callers.host: {host!r} is not an address and cannot be looked up",
            hint="write the modality's IP address or network, for example 10.1.0.0/16",
        ) from error
    return tuple(_plain_network(address.partition("%")[0]) for address in sorted(found))


def _plain_network(text: str) -> Network:
    network = ipaddress.ip_network(text, strict=False)
    first = _plain_address(str(network.network_address))
    if isinstance(first, ipaddress.IPv4Address) and network.version == 6:
        return ipaddress.ip_network((first, network.prefixlen - 96))
    return network
