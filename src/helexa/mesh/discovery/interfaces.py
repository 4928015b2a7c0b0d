"""Which of this machine's network interfaces a search of the LAN goes out on, and what is near.

An advert names every address of the machine that sent it, also those of its
container bridges and tunnels. Which of them this machine could reach is for the
reader to judge, so that judgement is here too.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Host: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Inside: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

INTERFACES_MAX: Final = 16
"""Each costs two sockets. A machine with more hosts containers; the first are its own."""
HOSTS_MAX: Final = 8
"""Of one advert. Each is an address that will be dialled."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One that is up. Its addresses exclude IPv6 link-local ones, which no ticket can carry."""

    name: str
    index: int
    addresses: tuple[Inside, ...]
    is_loopback: bool = False


def interfaces(*, loopback: bool = False) -> tuple[Interface, ...]:
    """Those with an address, without loopback unless it is asked for or there is nothing else."""
    import psutil  # A megabyte that a node off the LAN need not hold.

    stats = psutil.net_if_stats()
    found = []
    for name, entries in psutil.net_if_addrs().items():
        addresses = tuple(
            address for entry in entries if (address := _address(entry.address, entry.netmask))
        )
        state = stats.get(name)
        # Up as the operator put it. psutil's `isup` also waits for the carrier,
        # which comes a moment later when a machine starts.
        if addresses and state is not None and (state.isup or "up" in state.flags.split(",")):
            is_loopback = all(address.ip.is_loopback for address in addresses)
            found.append(Interface(name, _index(name), addresses, is_loopback))
    others = [one for one in found if not one.is_loopback]
    chosen = found if loopback or not others else others
    return tuple(chosen[:INTERFACES_MAX])


def hosts_of(some: Iterable[Interface]) -> tuple[str, ...]:
    """What an advert says when nobody chose: IPv4 first, loopback last."""
    every = {address.ip for one in some for address in one.addresses}
    return tuple(str(ip) for ip in sorted(every, key=lambda ip: (ip.is_loopback, ip.version, ip)))


def reachable(hosts: Iterable[str], here: Sequence[Interface]) -> tuple[str, ...]:
    """The hosts of an advert that are worth dialling from `here`, best first, at most HOSTS_MAX.

    Those on a network that this machine stands in come before other private
    ones, and addresses that this machine has itself come last: they are of
    another process here, or of a container bridge that every machine numbers
    alike. An address that is neither private nor on such a network is left out,
    so that an advert cannot send a LAN's nodes to knock at a stranger's door.
    """
    mine = [address for one in here for address in one.addresses]
    own = {address.ip for address in mine}
    loops = any(one.is_loopback for one in here)
    ranked: dict[Host, tuple[bool, bool, int]] = {}
    for text in hosts:
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            continue
        on_link = any(ip in address.network for address in mine)
        if _is_usable(ip, loops=loops) and (on_link or ip.is_private):
            ranked[ip] = (ip in own, not on_link, ip.version)
    best = sorted(ranked, key=lambda ip: (ranked[ip], ip))
    return tuple(str(ip) for ip in best[:HOSTS_MAX])


def _is_usable(ip: Host, *, loops: bool) -> bool:
    if ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local):
        return False
    return loops or not ip.is_loopback


def _address(text: str, mask: str | None) -> Inside | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
        # psutil spells an IPv6 mask as an address; a tunnel may have none at all.
        bits = int(ipaddress.ip_address(mask)).bit_count() if mask else ip.max_prefixlen
    except ValueError:
        return None  # A hardware address.
    usable = _is_usable(ip, loops=True)
    return ipaddress.ip_interface((ip, bits)) if usable else None


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0  # Gone since it was listed; opening its socket fails and is tried again.
