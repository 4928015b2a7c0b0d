"""An operator's seeds: tickets in the TXT records of one DNS name.

    seeds.example.org.  TXT  "helexa=helexaaear..."  "...the rest of a long ticket"

One record a cortex; its strings are joined, because a string holds 255 bytes.
Records that begin otherwise belong to others and are skipped. Nothing is looked
up unless the operator named it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from helexa.mesh.ticket import TICKET_CHARS_MAX, Ticket, TicketMalformed
from helexa.util.sockets import Address

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

TIMEOUT_S: Final = 5.0
SEEDS_MAX: Final = 64
"""More are cut off: a node needs one that answers."""
_KEY: Final = b"helexa="
_PORT: Final = 53


class SeedsUnknown(Exception):
    """The name gave no ticket. Says what was looked up and what came of it."""


async def seeds(
    name: str, *, timeout_s: float = TIMEOUT_S, nameserver: Address | None = None
) -> list[Ticket]:
    """The tickets behind `name`, at least one, at most SEEDS_MAX, one a node.

    Asks this machine's resolver unless a `nameserver` is given by its IP address.
    Raises SeedsUnknown within about `timeout_s` seconds.
    """
    # Four megabytes that only a node with such a name needs.
    import dns.asyncresolver
    import dns.exception
    import dns.resolver

    asked = f"the TXT records of {name}"
    try:
        # The library counts by the wall clock, which may be set back meanwhile.
        with anyio.fail_after(timeout_s):
            answer = await _resolver(nameserver).resolve(
                name, "TXT", lifetime=timeout_s, search=False, raise_on_no_answer=False
            )
    except dns.resolver.NXDOMAIN:
        raise SeedsUnknown(f"{asked}: there is no such name") from None
    except (TimeoutError, dns.exception.Timeout):
        raise SeedsUnknown(f"{asked}: no answer within {timeout_s:g} s") from None
    except (dns.exception.DNSException, OSError, ValueError) as error:
        # A resolver's report can be pages; its first line says it.
        reason = str(error).splitlines()[:1] or [type(error).__name__]
        raise SeedsUnknown(f"{asked}: {reason[0][:200]}") from error
    return _read(asked, [b"".join(record.strings) for record in answer.rrset or ()])


def _read(asked: str, texts: list[bytes]) -> list[Ticket]:
    found: dict[str, Ticket] = {}
    problem = ""
    for text in texts:
        if len(found) >= SEEDS_MAX or not text.startswith(_KEY):
            continue
        word = text[len(_KEY) : len(_KEY) + TICKET_CHARS_MAX + 1].decode("ascii", "replace")
        try:
            ticket = Ticket.parse(word)
        except TicketMalformed as error:
            problem = str(error)
        else:
            found.setdefault(ticket.node, ticket)
    if found:
        return list(found.values())
    if problem:
        raise SeedsUnknown(f"{asked}: no usable ticket; of the last one: {problem}")
    raise SeedsUnknown(f"{asked}: {len(texts)} records, none begins with {_KEY.decode()!r}")


def _resolver(nameserver: Address | None) -> Resolver:
    import dns.asyncresolver
    import dns.nameserver

    if nameserver is None:
        return dns.asyncresolver.Resolver()
    resolver = dns.asyncresolver.Resolver(configure=False)
    server = dns.nameserver.Do53Nameserver(nameserver.host, nameserver.port or _PORT)
    resolver.nameservers = [server]
    return resolver
