"""What the parts of the core share in one call: the moment, what is known, what goes out."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from helexa.mesh.membership.directory import Directory
from helexa.mesh.membership.events import Event, Moment, Out, Rejected
from helexa.mesh.membership.heads import Short, short_of
from helexa.mesh.membership.limits import Allowance, Recent
from helexa.mesh.membership.notary import Notary, SealBroken
from helexa.mesh.membership.presets import Preset
from helexa.mesh.membership.timers import Due, Timers
from helexa.protocol.gossip import Gossip, Statement
from helexa.protocol.ids import NodeId

PEERS_MAX: Final = 1_024
"""Senders whose use of this node is remembered."""


class Credit:
    """How much one sender may still ask of this node."""

    __slots__ = ("comparisons", "newcomers", "proofs", "relays", "served_bytes")

    def __init__(self, now_s: float) -> None:
        # A signature takes 0.3 ms to check: 3% of a core, and a joiner's first thousand at once.
        self.proofs = Allowance(2_000, 100, now_s)
        # Records of unknown nodes that are asked for. A joiner learns everybody from a few, and
        # made-up ids come from a few as well.
        self.newcomers = Allowance(1_024, 2, now_s)
        # Each looks at the whole directory; a joiner needs one for every 500 members.
        self.comparisons = Allowance(64, 1, now_s)
        # Each may cost a dial.
        self.relays = Allowance(20, 4, now_s)
        # The records of 5,000 members, twice.
        self.served_bytes = Allowance(8 << 20, 64 << 10, now_s)


@dataclass(slots=True)
class Counters:
    """What there is to count: all of it only grows."""

    rejected: Counter[str] = field(default_factory=Counter)
    """By reason: of `records.Reason`, and what else was not taken."""
    sent: Counter[str] = field(default_factory=Counter)
    """Messages by tag."""
    received: Counter[str] = field(default_factory=Counter)
    suspicions: int = 0
    """Made public by this node."""


class Desk:
    """One for a core; its parts write to it and read from it in turn."""

    def __init__(
        self,
        me: NodeId,
        preset: Preset,
        notary: Notary,
        directory: Directory,
        randomness: random.Random,
    ) -> None:
        self.me = me
        self.my_short: Short = short_of(me)
        self.preset = preset
        self.notary = notary
        self.directory = directory
        self.random = randomness
        self.timers = Timers()
        self.counters = Counters()
        self.now = Moment(0.0, 0.0)
        self.out = Out()
        self._credits: Recent[NodeId, Credit] = Recent(lambda: Credit(self.now_s), PEERS_MAX)

    @property
    def now_s(self) -> float:
        """On the monotonic clock."""
        return self.now.monotonic_s

    def send(self, node: NodeId, message: Gossip) -> None:
        self.counters.sent[tag_of(message)] += 1
        self.out.sends.append((node, message))

    def emit(self, event: Event) -> None:
        """Tell the host what happened."""
        self.out.events.append(event)

    def reject(self, reason: str, sender: NodeId) -> None:
        """Count something of `sender` that was not taken. `reason` is a label of few values."""
        self.counters.rejected[reason] += 1
        self.emit(Rejected(reason, sender))

    def after(self, delay_s: float, call: Due) -> None:
        """Call `call` in `delay_s` seconds, at the next tick that is due then."""
        self.timers.at(self.now_s + delay_s, call)

    def credit(self, sender: NodeId) -> Credit:
        """What that sender may still ask for."""
        return self._credits.of(sender)

    def is_proven(self, blob: bytes, statement: Statement, sender: NodeId) -> bool:
        """Whether a statement's signature holds; a sender pays for each look."""
        if not self.credit(sender).proofs.take(self.now_s):
            self.reject("flood", sender)
            return False
        try:
            self.notary.prove(blob, statement)
        except SealBroken:
            self.reject("signature", sender)
            return False
        return True

    def jittered(self, span_s: float) -> float:
        """Between 0.75 and 1.25 of it: nodes that began together drift apart."""
        return span_s * (0.75 + self.random.random() / 2)


def tag_of(message: Gossip) -> str:
    """The name under which a message is counted."""
    return str(message.__struct_config__.tag)
