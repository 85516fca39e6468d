"""Who may send: a Calling AE Title, the address it comes from, and (with TLS) the subject of its certificate.

A destination that is asked to commit to what it stored may come in, too, to report; it may send nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from domain.clinics import Caller, Clinic, Destination
from domain.errors import Misconfigured
from domain.hosts import Address, Network, is_host, network_of, plain_address
from domain.subjects import Attribute, attributes_of, is_subject
from scp.names import Names

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCaller:
    """`identity`: what its associations are counted by. `only_reports`: it is a destination, and comes to report what
    it commits to. `is_stranger`: nobody knows it, and what it sends is quarantined.
    """

    clinic: str
    ae_title: str
    identity: tuple[str, ...]
    only_reports: bool = False
    is_stranger: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Configured:
    """A caller of the configuration. `subject`: attributes that its certificate must have; empty, it need not have one.

    host: where it comes from; empty: from anywhere. network: None where that is empty, or a name.
    """

    known: KnownCaller
    host: str
    network: Network | None
    subject: frozenset[Attribute]

    def strictness(
        self, calling_ae_title: str, address: Address, subject: frozenset[Attribute], names: Names
    ) -> tuple[int, int] | None:
        """How much it asks for of this peer: attributes of the subject, then the longest network prefix that has its
        address; None where it is not met.
        """
        if self.known.ae_title != calling_ae_title or not self.subject <= subject:
            return None
        if not self.host:
            return len(self.subject), -1
        networks = names.networks(self.host) if self.network is None else (self.network,)
        prefixes = [network.prefixlen for network in networks if address in network]
        return (len(self.subject), max(prefixes)) if prefixes else None


class Callers:
    """The configured callers of all clinics. `takes_unknown`: a peer that none of them knows may send all the same;
    it belongs to no clinic, and what it sends is quarantined.
    """

    def __init__(self, clinics: Iterable[Clinic], *, takes_unknown: bool = False) -> None:
        """Raises:
        Misconfigured: a host or a subject is none.
        """
        clinics = tuple(clinics)
        self._takes_unknown = takes_unknown
        self._destinations = [one for clinic in clinics for one in clinic.destinations if one.commitment]
        self._configured = [_configured(clinic, caller) for clinic in clinics for caller in clinic.callers]
        self._names = Names(dict.fromkeys(one.host for one in self._configured if one.host and one.network is None))
        hosts = dict.fromkeys(one.host for one in self._destinations if network_of(one.host) is None)
        self._names_of_destinations = Names(hosts, of="destination")

    @property
    def unresolved(self) -> list[str]:
        """Host names that stand for nothing now: their callers are met by nobody."""
        return self._names.unresolved

    def networks_of_destination(self, host: str) -> tuple[Network, ...]:
        """What the host of a destination that is asked for commitment stands for now; nobody is asked."""
        return self._names_of_destinations.networks(host)

    def caller_of(
        self, *, calling_ae_title: str, peer_address: str, certificate_subject: str | None = None
    ) -> KnownCaller | None:
        """The caller that this peer is, or None when it is unknown. Of several, the one that asks for most.

        certificate_subject: an RFC 4514 string; None on a connection without TLS.
        """
        peer = (calling_ae_title, plain_address(peer_address), attributes_of(certificate_subject or ""))
        met = [
            (strictness, one.known)
            for one in self._configured
            if (strictness := one.strictness(*peer, self._names)) is not None
        ]
        most = max((strictness for strictness, _ in met), default=None)
        strictest = [known for strictness, known in met if strictness == most]
        if len({known.clinic for known in strictest}) == 1:
            return strictest[0]
        if strictest:  # an image in the wrong clinic is worse than one that has to be sent again
            clinics = ", ".join(sorted({known.clinic for known in strictest}))
            log.warning("caller_ambiguous", clinic=clinics, calling_ae=calling_ae_title, peer_address=peer_address)
        unknown = (calling_ae_title, peer_address)
        if self._takes_unknown:
            return KnownCaller(clinic="", ae_title=calling_ae_title, identity=unknown, is_stranger=True)
        networks = self.networks_of_destination
        if any(is_destination(one, calling_ae_title, peer_address, networks) for one in self._destinations):
            return KnownCaller(clinic="", ae_title=calling_ae_title, identity=unknown, only_reports=True)
        return None


def is_destination(
    destination: Destination,
    calling_ae_title: str,
    peer_address: str,
    networks: Callable[[str], Iterable[Network]],
) -> bool:
    """Whether this peer is the destination: its AE title, at the address to which results are sent.

    peer_address: or the host that the node itself reached it at.
    networks: what a host stands for; OSError where that cannot be found out.
    """
    if calling_ae_title != destination.ae_title:
        return False
    if peer_address == destination.host:
        return True
    try:
        address = plain_address(peer_address)
        return any(address in network for network in networks(destination.host))
    except (OSError, ValueError):  # ValueError: it is another host, by its name
        return False


def _configured(clinic: Clinic, caller: Caller) -> _Configured:
    """Raises:
    Misconfigured: its host or its subject is none.
    """
    if not is_host(caller.host):
        raise Misconfigured(
            f"clinics.callers.host: {caller.host!r} is neither an address, nor a network, nor a host name",
            hint="write the modality's IP address or network, for example 10.1.0.0/16",
        )
    if caller.certificate_subject and not is_subject(caller.certificate_subject):
        raise Misconfigured(
            f"clinics.callers.certificate_subject: {caller.certificate_subject!r} is not written as RFC 4514 does",
            hint='name and value of each attribute, for example "CN=ct1,O=St. Mary"; inside a value \\ before a comma',
        )
    identity = (clinic.name, caller.ae_title, caller.host, caller.certificate_subject)
    return _Configured(
        known=KnownCaller(clinic=clinic.name, ae_title=caller.ae_title, identity=identity),
        host=caller.host,
        network=network_of(caller.host),
        subject=attributes_of(caller.certificate_subject),
    )
