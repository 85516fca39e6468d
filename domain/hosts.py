"""How `host` of a caller is written: an address, a network such as 10.1.0.0/16, a host name, or nothing, for any."""

import ipaddress
import re

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# RFC 1123 2.1, and underscores, which Windows gives. The last label has a letter: 10.1.2.300 is an address gone wrong.
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NAME = re.compile(rf"(?=.{{1,254}}\Z)({LABEL}\.)*(?![0-9]+\.?\Z){LABEL}\.?")


def plain_address(text: str) -> Address:
    """Without a zone, and an IPv4 address as such: a socket for both families shows it as ::ffff:10.0.0.1."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def plain_network(text: str) -> Network:
    """The network of an address, or of an address with the length of its network.

    Raises:
        ValueError: it is neither.
    """
    network = ipaddress.ip_network(text, strict=False)
    first = plain_address(str(network.network_address))
    if isinstance(first, ipaddress.IPv4Address) and network.version == 6:
        return ipaddress.ip_network((first, network.prefixlen - 96))
    return network


def network_of(host: str) -> Network | None:
    """None: it is a name, or empty."""
    try:
        return plain_network(host)
    except ValueError:
        return None


def plain_text(network: Network) -> str:
    """Always the same, however it was written; an address without its prefix length."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def is_host(host: str) -> bool:
    """Whether it can be one at all; whether there is such a name is another question."""
    return not host or network_of(host) is not None or NAME.fullmatch(host) is not None
