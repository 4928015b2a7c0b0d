"""What to try when a step of joining failed, in words for the person who ran it.

Transports say in text why a dial failed, each in its own words; the words that
decide are matched here, and a test dials into each trouble for real.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.util.sockets import Address
from helexa.util.units import format_seconds

NEW_TICKET: Final = "`helexa mesh ticket` over there prints a new one"
_CARRIERS: Final = {"tls": "TCP", "iroh": "UDP"}
_RANGES: Final = re.compile(r"(\d+)(?:\.\.(\d+))? is spoken here, (\d+)(?:\.\.(\d+))? there")


def is_wrong_key(detail: str) -> bool:
    """Whether somebody answered, who is not the node of the ticket."""
    return "another key" in detail


def on_wrong_key() -> str:
    """After a dial that `is_wrong_key`."""
    return (
        "the ticket is of another node than the one that is there now: its key was replaced, or "
        f"the address was given to another machine; {NEW_TICKET}"
    )


def on_unreached(transport: str, address: str, detail: str) -> str:
    """After a dial over `transport` to `address` that ended with `detail`."""
    try:
        where = Address.parse(address)
    except ValueError:
        return f"the ticket names no address that can be dialled; {NEW_TICKET}"
    if is_wrong_key(detail):
        return on_wrong_key()
    fix = _on_silence(transport, where, detail.lower())
    if where.is_loopback:
        return f"{fix}; a loopback address is good on the machine that made the ticket alone"
    return fix


def _on_silence(transport: str, where: Address, reason: str) -> str:
    if "refused" in reason:
        return (
            "nothing listens there: is that cortex running, and was the ticket made since it "
            f"last moved? {NEW_TICKET}"
        )
    if "unreachable" in reason or "no route" in reason:
        return f"this machine has no way to {where.host}: another network, a VPN, or no IPv6 here?"
    if "no answer within" in reason or "timed out" in reason or "timeout" in reason:
        carrier = _CARRIERS.get(transport, "TCP and UDP")
        return (
            f"a firewall or a NAT may be in between: let {carrier} port {where.port} through over "
            "there, or let that cortex join by a ticket of this one; or it is not running"
        )
    return f"what answers there may not be a cortex; {NEW_TICKET}"


def on_versions(detail: str) -> str:
    """After a handshake that ended in VersionMismatch with this text."""
    found = _RANGES.search(detail)
    if found is None:
        return "one of the two has to be updated"
    here, there = (int(found[2] or found[1]), int(found[4] or found[3]))
    if "the peer refused" in detail:
        # Its words: "here" is over there.
        here, there = there, here
    return "update helexa here" if here < there else "helexa over there has to be updated"


def on_pending(own: str) -> str:
    """While the other operator has to be asked about the node `own`."""
    return (
        f"its operator has to run: helexa mesh approve {own}; this node asks again by itself, "
        "and is in as soon as that is done"
    )


def on_denied() -> str:
    """After a denial, which says no more than that."""
    return (
        "ask its operator for a ticket with an invite (`helexa mesh ticket --invite` over there), "
        "or to let this node in by name"
    )


def on_clock(ahead_s: float) -> str:
    """`ahead_s` is this node's clock less the other's."""
    way = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"this machine's clock is {format_seconds(abs(ahead_s))} {way} the other's: set both by NTP"
    )


def on_close(detail: str) -> str:
    """After a link that was closed before it was of use, with this reason."""
    if "as many links as it takes" in detail:
        return "it is busy; try again in a minute"
    return (
        "it ended the link at once: its log says why; is it a cortex, and of a version that "
        "this one can talk to?"
    )


SILENT: Final = (
    "it took the link and says nothing: it may be stopped or overloaded, or something else "
    "listens on that port; restart it, or try another cortex"
)
NO_MEMBERS: Final = "it let this node in and tells nothing of the mesh; its log says why; try again"
