"""Who may send: a Calling AE Title, and the address it comes from, known for one of the clinics."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from domain.clinics import Clinic
from domain.errors import Misconfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCaller:
    """`networks` empty: any address."""

    clinic: str
    ae_title: str
    networks: tuple[Network, ...]


class Callers:
    """The configured callers of all clinics."""

    def __init__(self, clinics: Iterable[Clinic]) -> None:
        self._known = [
            KnownCaller(clinic=clinic.name, ae_title=caller.ae_title, networks=_networks(caller.host))
            for clinic in clinics
            for caller in clinic.callers
        ]

    def clinic_of(self, *, calling_ae_title: str, peer_address: str) -> str | None:
        """The clinic that this peer sends for, or None when it is unknown. A caller with an address goes first."""
        address = ipaddress.ip_address(peer_address.partition("%")[0])
        for caller in sorted(self._known, key=lambda caller: not caller.networks):
            from_there = not caller.networks or any(address in network for network in caller.networks)
            if caller.ae_title == calling_ae_title and from_there:
                return caller.clinic
        return None


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
