"""The numbers of membership for three kinds of network, each with its reason.

What they buy: a node that dies is probed within half a second by one of the
about eight that watch it, is publicly suspected after the private rounds, and is
held dead when the suspicion's time is up: about 7 s on a WAN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Defaults are the WAN's. Times are seconds, rates are per second."""

    name: str
    period_s: float = 1.0
    """The protocol period: heads of new records are gathered this long before they go out.
    A message costs about 100 bytes whatever it says, a head 18."""
    urgent_s: float = 0.1
    """The same for suspicions and their answers, where a second is a tenth of the whole."""
    probe_every_s: float = 0.5
    """One partner each time. A node has about 8 partners, so each of the 8 that watch it comes
    every 4 s, and the first of them on average 0.45 s after it died."""
    direct_s: float = 0.5
    """Until a probe counts as unanswered. A far round trip takes 0.3 s; a busy host adds."""
    direct_tries: int = 2
    """At 5% loss one probe of ten fails, two in a row one of a hundred: asking the target again
    costs 200 bytes, asking helpers costs each of them a dial."""
    indirect_s: float = 1.0
    """A round through helpers: two hops each way and often a dial."""
    helpers: int = 3
    """In each of the two private rounds; at 10% loss one helper fails one time of three."""
    suspicion_min_s: float = 3.0
    """From the first public suspicion, with enough accusers: news needs about 1 s to reach
    everyone of a thousand, the target's answer another, and one is for bad luck."""
    suspicion_max_s: float = 9.0
    """With one accuser alone: time for volunteers to look for themselves."""
    stall_s: float = 1.0
    """A tick that comes this late says that this host slept; nobody else is blamed for it."""
    sync_every_s: float = 30.0
    """Sums are compared with a random partner this often: 1 KB, and repairs whatever was lost."""
    retry_gone_s: float = 10.0
    """One dead member is tried again this often: two halves of 500 that met a partition find
    each other within a minute, and a node pays one dial in ten seconds at most."""
    stroll_every_s: float = 30.0
    """Anybody at all is probed this often. Members are watched by their partners; this finds those
    whose partners vanished with them, at one dial in half a minute."""
    want_s: float = 2.0
    """Until another is asked for a record that was announced."""
    chosen: int = 4
    """Neighbours that a node picks; as many pick it, on average. A random graph of degree 8 stays
    in one piece when a third of its nodes vanish, and spans thousands in five hops."""
    of_one_operator: int = 2
    """Of the chosen: one operator's outage or malice leaves half of the view."""
    choosers_max: int = 12
    """Neighbours that picked this node. The average is 4; more than 12 is one in 4,000."""
    volunteers: float = 8.0
    """On average, over the whole mesh, who look for themselves at a suspect or a newcomer."""
    publish_min_s: float = 5.0
    """Between two records of one node, on average, in a mesh so small that bytes do not count."""
    spread_bytes_per_s: float = 1_500.0
    """What records may cost each node. With the bytes of a record this sets how often each may
    publish as the mesh grows: at 1,000 members every 9 minutes, at 5,000 every 45."""
    refresh_s: float = 1_800.0
    """A record is signed anew this often at least, if the above allows."""


WAN: Final = Preset(name="wan")

LAN: Final = replace(
    WAN,
    name="lan",
    period_s=0.5,
    urgent_s=0.05,
    # Round trips are under a millisecond; what takes time is a host that pauses.
    direct_s=0.4,
    indirect_s=0.6,
    suspicion_min_s=1.5,
    suspicion_max_s=5.0,
    sync_every_s=15.0,
    retry_gone_s=5.0,
    stroll_every_s=15.0,
    want_s=1.0,
    publish_min_s=2.0,
    # A switched network carries this without noticing.
    spread_bytes_per_s=8_000.0,
)

LOOPBACK: Final = replace(
    LAN,
    name="loopback",
    period_s=0.2,
    # All nodes share the cores of one machine: the scheduler, not the network, is what is slow,
    # and a verdict must not depend on who got the processor.
    direct_s=0.5,
    indirect_s=0.7,
    stall_s=0.5,
    sync_every_s=5.0,
    retry_gone_s=2.0,
    stroll_every_s=5.0,
    publish_min_s=0.5,
)

PRESETS: Final = {preset.name: preset for preset in (WAN, LAN, LOOPBACK)}
