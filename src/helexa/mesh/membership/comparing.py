"""Two directories side by side: sums first, then the heads where they differ.

What pushing news missed is found here: all of it for a newcomer, a page at a
time, and the little that was lost for everybody else, now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.exchange import Exchange
from helexa.mesh.membership.heads import unpack
from helexa.mesh.membership.learning import Learning
from helexa.mesh.membership.partners import Partners
from helexa.protocol.gossip import BUCKETS, HEADS_MAX, Bucket, Digest, News
from helexa.protocol.ids import NodeId

PAGE_HEADS: Final = 512
"""In one answer to sums that differ."""
TELLING: Final = 3
"""So many newcomers, or suspects, in one message: this node is new or was out of touch, and
comparing soon again pays. From there the time between comparisons doubles up to the preset's."""
DOORS_MAX: Final = 4
"""Peers that this node began with, for while it knows nobody else."""


class Comparing:
    """`introduce` says to a peer who this node is."""

    def __init__(
        self,
        desk: Desk,
        *,
        partners: Partners,
        exchange: Exchange,
        learning: Learning,
        introduce: Callable[[NodeId], None],
    ) -> None:
        self._desk = desk
        self._partners = partners
        self._exchange = exchange
        self._learning = learning
        self._introduce = introduce
        self._every_s = desk.preset.period_s
        self._paging: NodeId | None = None
        self._doors: dict[NodeId, None] = {}

    def begin(self) -> None:
        """The node's first moment: compare now and then from here on."""
        self._desk.after(self._desk.jittered(self._every_s), self._now_and_then)

    def hurry(self) -> None:
        """Compare soon again, because this node was out of touch."""
        self._every_s = self._desk.preset.period_s

    def enter(self, door: NodeId) -> None:
        """Learn from that peer whom it knows."""
        self._doors[door] = None
        if len(self._doors) > DOORS_MAX:
            del self._doors[next(iter(self._doors))]
        self._knock(door)

    def answer(self, sender: NodeId, digest: Digest) -> None:
        """Say what is here in some of the buckets that differ."""
        desk, directory = self._desk, self._desk.directory
        differing = directory.sums.differing(digest.sums)
        if not differing or not desk.credit(sender).comparisons.take(desk.now_s):
            return
        desk.random.shuffle(differing)
        # About as many as fill a page, by their average; the next comparison sees the rest.
        each = max(1.0, directory.present / BUCKETS)
        numbers = differing[: max(1, int(PAGE_HEADS / each))]
        heads = list(directory.heads_in(frozenset(numbers)).values())[:HEADS_MAX]
        desk.send(sender, Bucket(numbers=bytes(numbers), heads=b"".join(heads)))

    def settle(self, sender: NodeId, bucket: Bucket) -> None:
        """Want what is newer there, and announce what is newer here."""
        desk, directory = self._desk, self._desk.directory
        if not desk.credit(sender).comparisons.take(desk.now_s):
            return
        theirs = {head.short: head.version for head in unpack(bucket.heads)}
        here = directory.heads_in(frozenset(bucket.numbers))
        offers = [
            head
            for short, head in here.items()
            if theirs.get(short, (-1, 0)) < directory.version(short)
        ]
        if offers:
            desk.send(sender, News(heads=b"".join(offers[:HEADS_MAX])))
        if sum(short not in directory.entries for short in theirs) >= TELLING:
            self.hurry()
        self._learning.consider(sender, bucket.heads)
        if any(self._exchange.is_wanted(short) for short in theirs):
            self._paging = sender

    def turn_page(self, sender: NodeId) -> None:
        """Records of that node came; go on with it when these were all that it owed."""
        if self._paging == sender and not self._exchange.pending_of(sender):
            self._paging = None
            self._compare_with(sender)

    def _now_and_then(self) -> None:
        self._desk.after(self._desk.jittered(self._every_s), self._now_and_then)
        self._every_s = min(2 * self._every_s, self._desk.preset.sync_every_s)
        for node in self._partners.some(1, besides=()):
            self._compare_with(node)
        if not self._partners:
            # What was said at the door may have been lost.
            for node in self._doors:
                self._knock(node)

    def _knock(self, door: NodeId) -> None:
        self._introduce(door)
        self._compare_with(door)

    def _compare_with(self, node: NodeId) -> None:
        self._desk.send(node, Digest(sums=self._desk.directory.sums.packed()))
