"""What a cortex says of itself on its LAN: the content of its ticket, as a DNS-SD service.

Version 1, service `_REALM._udp.local.` (REALM is `helexa` unless an operator
says otherwise), one instance a node:

    PTR   _helexa._udp.local.      the instance: first 32 digits of the node id
    SRV   HELEXA-INSTANCE.local.   and the port of the first transport
    TXT   txtvers=1                another number: not for this build, ignored
          id=64 digits             the node's key
          role=cortex
          port-NAME=4433           one for each transport, best first
          name=...                 optional, for people
          op=64 digits             optional, the operator's key
    A     AAAA                     where the node listens

A string of a TXT record holds at most 255 bytes, which is why the ticket is not
in there as one word. The addresses are the records' own, because the node may
be bound to a wildcard. Keys that this build does not know are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from helexa.mesh.discovery.interfaces import Interface, reachable
from helexa.mesh.statements.plain_text import NAME_CHARS_MAX, plain
from helexa.mesh.ticket import TRANSPORTS_MAX, Ticket
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.util.sockets import Address

REALM: Final = "helexa"
VERSION: Final = b"1"
TXT_BYTES_MAX: Final = 1_300
"""What is left of one packet, which is all that an advert gets."""
INSTANCE_DIGITS: Final = 32

_REALM: Final = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_TRANSPORT: Final = re.compile(r"[a-z][a-z0-9_]{0,15}\Z")
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}\Z")
_ROLES: Final = frozenset({"cortex", "neuron"})


class AdvertMalformed(Exception):
    """Heard on the LAN and of no use here. Says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """`ports` by transport name, best first. Without `hosts`: every address of the interfaces."""

    node: NodeId
    ports: Mapping[str, int]
    role: str = "cortex"
    name: str = ""
    operator: OperatorId | None = None
    hosts: tuple[str, ...] = ()

    @property
    def instance(self) -> str:
        """The service's label: a part of the id, since a label holds 63 characters."""
        return self.node[:INSTANCE_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Somebody's advert, read. Nothing in it is proven."""

    ticket: Ticket
    role: str
    name: str = ""
    operator: OperatorId | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """An advert as it came. `gone` is its sender's goodbye."""

    instance: str
    txt: bytes = b""
    hosts: tuple[str, ...] = ()
    gone: bool = False


def service_of(realm: str) -> str:
    """`helexa` -> `_helexa._udp.local.`. Raises ValueError naming what a realm may be."""
    if _REALM.match(realm) is None:
        raise ValueError(
            f"{realm!r} is not a realm: 1 to 15 small letters, digits and inner hyphens, "
            "at least one of them a letter"
        )
    return f"_{realm}._udp.local."


def advert_of(
    node: NodeId,
    bound: Mapping[str, Address],
    *,
    name: str = "",
    operator: OperatorId | None = None,
    loopback: bool = False,
) -> Advert | None:
    """What a node says whose transports listen on `bound`; None when nobody else could reach it.

    A transport that listens on loopback alone is left out unless `loopback`.
    """
    heard = {each: at for each, at in bound.items() if loopback or not at.is_loopback}
    if not heard:
        return None
    everywhere = any(at.host in ("0.0.0.0", "::", "") for at in heard.values())
    return Advert(
        node=node,
        ports={each: at.port for each, at in heard.items()},
        name=name,
        operator=operator,
        hosts=() if everywhere else tuple(dict.fromkeys(at.host for at in heard.values())),
    )


def write_txt(advert: Advert) -> bytes:
    """The TXT record's data."""
    strings = [b"txtvers=" + VERSION, f"id={advert.node}".encode(), f"role={advert.role}".encode()]
    strings += [f"port-{each}={port}".encode() for each, port in advert.ports.items()]
    if name := advert.name[:NAME_CHARS_MAX]:
        # Four bytes a character at most, but the string as a whole has 255.
        strings.append(b"name=" + name.encode()[:200].decode("utf-8", "ignore").encode())
    if advert.operator:
        strings.append(f"op={advert.operator}".encode())
    return b"".join(bytes((len(string),)) + string for string in strings)


def read(heard: Heard, here: Sequence[Interface]) -> Found:
    """Raises AdvertMalformed; also for a node that cannot be reached from `here`."""
    pairs = _pairs(heard.txt)
    if pairs.get("txtvers") != VERSION:
        raise AdvertMalformed(f"of version {pairs.get('txtvers', b'none')!r}")
    node = pairs.get("id", b"").decode("ascii", "replace")
    if not is_node_id(node) or not heard.instance.startswith(node[:INSTANCE_DIGITS]):
        raise AdvertMalformed("the id is no node's, or not the one that the service is named for")
    role = pairs.get("role", b"").decode("ascii", "replace")
    if role not in _ROLES:
        raise AdvertMalformed(f"of a role {role[:20]!r}")
    operator = pairs.get("op", b"").decode("ascii", "replace")
    if operator and not is_node_id(operator):
        raise AdvertMalformed("the operator is not a key")
    ports = _ports(pairs)
    hosts = reachable(heard.hosts, here)
    if not hosts:
        raise AdvertMalformed("none of its addresses is of this LAN")
    addresses = {
        each: tuple(str(Address(host, port)) for host in hosts) for each, port in ports.items()
    }
    return Found(
        ticket=Ticket(node=NodeId(node), addresses=addresses),
        role=role,
        name=plain(pairs.get("name", b"").decode("utf-8", "replace"), NAME_CHARS_MAX),
        operator=OperatorId(operator) if operator else None,
    )


def _pairs(txt: bytes) -> dict[str, bytes]:
    """In the order of the text; of equal keys the first counts."""
    if len(txt) > TXT_BYTES_MAX:
        raise AdvertMalformed(f"{len(txt)} bytes of text")
    pairs: dict[str, bytes] = {}
    at = 0
    while at < len(txt):
        end = at + 1 + txt[at]
        if end > len(txt):
            raise AdvertMalformed("the text ends inside a string")
        key, _, value = txt[at + 1 : end].partition(b"=")
        pairs.setdefault(key.decode("ascii", "replace").lower(), value)
        at = end
    return pairs


def _ports(pairs: Mapping[str, bytes]) -> dict[str, int]:
    ports: dict[str, int] = {}
    for key, value in pairs.items():
        transport = key.removeprefix("port-")
        if transport == key or _TRANSPORT.match(transport) is None:
            continue
        if _PORT.match(value) is None or int(value) > 65_535:
            raise AdvertMalformed(f"the port of {transport!r} is {value[:10]!r}")
        ports[transport] = int(value)
    if not 0 < len(ports) <= TRANSPORTS_MAX:
        raise AdvertMalformed(f"{len(ports)} transports")
    return ports
