"""Which network a request comes from: the sender's address, or what a trusted proxy says it is, cut to its prefix."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPV4_PREFIX, IPV6_PREFIX = 24, 48
"""How much of an address tells networks apart: what one household, office or provider's customer gets."""

UNKNOWN = "unknown"
"""The network of whoever has no address, such as a program on the other end of a local socket."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def network_of(peer: str | None, forwarded_for: str | None, *, trusted: Sequence[Network]) -> str:
    """Return the network prefix of a request's sender, such as `192.0.2.0/24`.

    `X-Forwarded-For` is read from its end, where the nearest proxy wrote, and believed only as long
    as the one who wrote is a trusted proxy. What is no address ends the reading.
    """
    address = _address(peer or "")
    if address is None:
        return UNKNOWN
    hops = (forwarded_for or "").split(",") if trusted else []
    while hops and _is_in(address, trusted):
        nearer = _address(hops.pop().strip())
        if nearer is None:
            break
        address = nearer
    prefix = IPV4_PREFIX if address.version == 4 else IPV6_PREFIX
    return str(ip_network((address, prefix), strict=False))


def is_within(peer: str | None, networks: Sequence[Network]) -> bool:
    """Say whether an address lies in one of some networks."""
    address = _address(peer or "")
    return address is not None and _is_in(address, networks)


def _address(text: str) -> Address | None:
    """Read an address; one of IPv4 within IPv6 is one of IPv4. A port, as some proxies write it, is left out."""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
