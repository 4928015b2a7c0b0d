"""Which addresses are on the public internet, and so may be asked for a picture.

A list of what is allowed, and of the exceptions within it. Whatever carries an IPv4
address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) is out: it is not needed to
reach anything, and what it leads to depends on a translator that nobody here knows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC_4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network; many systems take it for loopback
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers; one cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's host agent, on an address that looks public
            "169.254.0.0/16",  # link-local; clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
"""All that is handed out to anybody; mapped addresses, NAT64, link-local and multicast are not."""
_NOT_PUBLIC_6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: Ip) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    # A scope names an interface of this machine.
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_6)


def is_within(address: Ip, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
