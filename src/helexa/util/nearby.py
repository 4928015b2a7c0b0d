"""Whether an address is of this machine or of a private network that it stands in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from helexa.util.sockets import Address


def networks() -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Of this machine: private and link-local networks whole, of others its own address."""
    import psutil  # A megabyte that a node on loopback alone need not hold.

    found = []
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if not one.netmask:
                continue
            try:
                host = ipaddress.ip_address(one.address.partition("%")[0])
                # psutil spells an IPv6 mask as an address.
                bits = int(ipaddress.ip_address(one.netmask)).bit_count()
            except ValueError:
                continue
            # A provider's public subnet is full of strangers' machines.
            if not (host.is_private or host.is_link_local):
                bits = host.max_prefixlen
            found.append(ipaddress.ip_network((host, bits), strict=False))
    return tuple(found)


def is_near(
    remote: str,
    around: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network] | None = None,
) -> bool:
    """Whether `remote`, as `HOST:PORT`, is loopback or in one of `around` (else `networks()`).

    An address that cannot be read, such as a relay's URL, is not near.
    """
    try:
        host = ipaddress.ip_address(Address.parse(remote).host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    if host.is_loopback:
        return True
    return any(host in one for one in (networks() if around is None else around))
