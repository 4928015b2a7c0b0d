"""Where a node can be dialled, from what its sockets are bound to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import anyio

from helexa.util.sockets import Address, AddressTaken


def dialable(bound: Iterable[Address]) -> list[str]:
    """Those addresses, a wildcard as the addresses of this machine's interfaces.

    Asked anew each time: interfaces come and go, a laptop moves. Loopback comes
    last, for peers on this machine; others find it dead at once.
    """
    found = [each for address in bound for each in _behind(address)]
    return [str(each) for each in sorted(found, key=lambda each: each.is_loopback)]


def is_wildcard(address: Address) -> bool:
    return ipaddress.ip_address(address.host).is_unspecified


async def numeric(bind: Address, kind: socket.SocketKind) -> Address:
    """`bind` with its host name looked up. Raises AddressTaken for one that is nobody's."""
    try:
        ipaddress.ip_address(bind.host)
    except ValueError:
        try:
            found = await anyio.getaddrinfo(bind.host, bind.port, type=kind)
        except OSError as error:
            raise AddressTaken(f"cannot listen on {bind}: {error.strerror or error}") from error
        return Address(str(found[0][4][0]), bind.port)
    return bind


def _behind(bound: Address) -> list[Address]:
    """Link-local addresses stay out: they need a zone that no ticket can carry."""
    if not is_wildcard(bound):
        return [bound]
    import psutil  # A megabyte that a node bound to one address need not hold.

    family = socket.AF_INET6 if ":" in bound.host else socket.AF_INET
    return [
        Address(entry.address, bound.port)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == family and not ipaddress.ip_address(entry.address).is_link_local
    ]
