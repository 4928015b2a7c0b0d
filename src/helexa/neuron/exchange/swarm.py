"""One download among others of the same file: what is known, and how news change it; pure.

Nothing here waits, and no clock is read: times are given in seconds of the caller's clock.
What follows from all this - which piece to take next, and from whom - is in `choice.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.belief import Beliefs
from helexa.neuron.exchange.member import Member, blended
from helexa.neuron.exchange.ownership import owned
from helexa.neuron.exchange.tree import tree
from helexa.neuron.exchange.wire import CLAIM_MAX, MEMBERS_MAX, PieceMap, mark_of
from helexa.neuron.models.supply.piece import ORIGIN, Layout
from helexa.protocol.ids import NodeId

LANES_LEAST: Final = 2
JOIN_S: Final = 3.0
"""A neuron that was named and has not begun yet keeps its part for so long."""
CEDED_S: Final = 10.0
"""Until a piece that was handed over has to be seen on its way."""
SLOW_LEAST_S: Final = 15.0
"""Whoever takes longer for a piece is slow, where pieces do not take long here too."""
SLOW_FACTOR: Final = 4.0
"""As many times as long as a piece takes from the origin to here."""


@dataclass(slots=True)
class Take:
    giver: str
    since_s: float


class Swarm:
    """`origin_lanes` 0: this neuron has no origin for the file."""

    def __init__(
        self,
        me: NodeId,
        layout: Layout,
        *,
        have: int,
        origin_lanes: int,
        in_order: bool = False,
        now_s: float,
    ) -> None:
        self.me = me
        self.layout = layout
        self.all = bits.full(layout.count)
        self.have = have
        self.origin_lanes = min(origin_lanes, 1) if in_order else origin_lanes
        self.in_order = in_order
        self.origin_failure = ""
        self.began_s = self.moved_s = self.here_moved_s = now_s
        self.members: dict[NodeId, Member] = {}
        self.awaited: set[NodeId] = set()
        """Named, and not heard of yet, neither good nor bad."""
        self.beliefs = Beliefs(layout.count, guesses=not origin_lanes)
        self.takes: dict[int, list[Take]] = {}
        self.granted = 0
        """Pieces that others handed over to this neuron."""
        self.ceded: dict[int, tuple[NodeId, float]] = {}
        self.own_word = 0
        """Pieces that came from the origin to here."""
        self.doubted = 0
        """Missing pieces that only the origin can settle."""
        self.suspect = 0
        """Pieces that are here by the word of a liar alone."""
        self.piece_s = 0.0
        """How long pieces take from the origin; 0 while that is not known."""
        self.bytes_seen = 0

    # --- who takes part

    def told(self, nodes: Iterable[NodeId], now_s: float) -> None:
        """These are to be asked, and no others."""
        wanted = [node for node in nodes if node != self.me][:MEMBERS_MAX]
        for node in set(self.members) - set(wanted):
            member = self.members.pop(node)
            self.awaited.discard(node)
            if member.takes:
                self._lose_takes(node)
        for node in wanted:
            if node not in self.members:
                self.members[node] = Member(node, presumed_until_s=now_s + JOIN_S)
                self.awaited.add(node)

    def heard(self, node: NodeId, said: PieceMap, now_s: float, *, is_kin: bool = False) -> None:
        """A map arrived. One that makes no sense makes its sender a liar."""
        member = self.members.get(node)
        if member is None or member.liar:
            return
        self.awaited.discard(node)
        try:
            have, fetching, first_hand = self._sets(said)
        except ValueError as error:
            self.expose(node, f"its map is not one: {error}")
            return
        begins = fetching and not member.fetching
        if (
            begins
            or have & ~member.have
            or said.origin_bytes != member.origin_bytes
            or not member.has_file
        ):
            member.moved_s = self.moved_s = now_s
        honest = self.beliefs.hear(node, said.digests, first_hand & have, is_kin=is_kin)
        member.is_here = member.has_file = True
        # What it has without saying what that hashes to nobody can take.
        member.have = have & self.beliefs.known_by(node)
        member.fetching = fetching & ~have
        member.fetches, member.in_order = said.fetches, said.in_order
        member.verified, member.counts = said.verified, said.members
        member.origin_bytes = said.origin_bytes
        member.fetching_since = {
            index: member.fetching_since.get(index, now_s) for index in bits.each(member.fetching)
        }
        if not honest:
            self.expose(node, "it attests a digest that is proven wrong")
        elif said.verified:
            self._check_whole(node, said.tree, is_kin=is_kin)

    def _sets(self, said: PieceMap) -> tuple[int, int, int]:
        count = self.layout.count
        if said.size != self.layout.size or any(not 0 <= i < count for i in said.digests):
            raise ValueError("it is of another file")
        told = (said.have, said.fetching, said.first_hand)
        have, fetching, first_hand = (bits.from_bytes(one, count) if one else 0 for one in told)
        return have, fetching, first_hand

    def begins_anew(self, node: NodeId) -> None:
        """Its versions have another epoch, so that it says everything again."""
        self.beliefs.forget(node)

    def absent(self, node: NodeId) -> None:
        """It answers, and does not know the file, or does not give it."""
        self.awaited.discard(node)
        if (member := self.members.get(node)) is not None:
            member.is_here, member.has_file = True, False
            self._forget_plans(member)

    def lost(self, node: NodeId) -> None:
        """It does not answer."""
        self.awaited.discard(node)
        if (member := self.members.get(node)) is not None:
            if member.has_file:
                # It was one of us and is gone: what it was to fetch is free at once.
                member.presumed_until_s = self.began_s
            member.is_here = False
            self._forget_plans(member)

    def expose(self, node: NodeId, reason: str) -> None:
        """Nothing is taken from it any more, and its word counts for nothing."""
        member = self.members.get(node)
        if member is None or member.liar:
            return
        member.liar = reason
        self._forget_plans(member)
        said = [(index, self.beliefs.says(node, index)) for index in range(self.layout.count)]
        self.beliefs.forget(node)
        for index, digest in said:
            on_its_word = digest is not None and self.have & ~self.own_word & 1 << index
            if on_its_word and digest and not self.beliefs.attesters(index, digest):
                self.suspect |= 1 << index

    def _check_whole(self, node: NodeId, root: bytes, *, is_kin: bool) -> None:
        digests = self.beliefs.whole_word(node)
        if digests is None:
            return
        if tree(self.layout, digests) != root:
            self.expose(node, "the digests of its pieces are not those of its whole")
        elif is_kin:
            for index, digest in enumerate(digests):
                self._prove(index, digest)

    def _prove(self, index: int, digest: bytes) -> None:
        for node in self.beliefs.prove(index, digest):
            self.expose(node, f"it attests another digest of piece {index} than is right")

    @staticmethod
    def _forget_plans(member: Member) -> None:
        member.fetching, member.fetches = 0, False
        member.fetching_since = {}

    def _lose_takes(self, node: NodeId) -> None:
        for takes in self.takes.values():
            for take in takes:
                if take.giver == node:
                    take.since_s = self.began_s

    # --- pieces

    def gained(self, index: int, digest: bytes, giver: str, now_s: float) -> None:
        bit = 1 << index
        self.have |= bit
        self.granted &= ~bit
        self.doubted &= ~bit
        self.ceded.pop(index, None)
        self.moved_s = self.here_moved_s = now_s
        if giver == ORIGIN:
            self.own_word |= bit
            self._prove(index, digest)

    def dropped(self, index: int) -> None:
        bit = 1 << index
        self.have &= ~bit
        self.own_word &= ~bit
        self.suspect &= ~bit

    def began(self, index: int, giver: str, now_s: float) -> None:
        self.takes.setdefault(index, []).append(Take(giver, now_s))
        if (member := self.members.get(NodeId(giver))) is not None:
            member.takes += 1

    def ended(self, index: int, giver: str) -> float:
        """A take is over, however it went. Returns since when it was under way."""
        takes = self.takes[index]
        take = next(one for one in takes if one.giver == giver)
        takes.remove(take)
        if not takes:
            del self.takes[index]
        if (member := self.members.get(NodeId(giver))) is not None:
            member.takes = max(0, member.takes - 1)
        return take.since_s

    def took_s(self, seconds: float) -> None:
        """So long a piece took from the origin."""
        self.piece_s = blended(self.piece_s, seconds)

    def origin_failed(self, reason: str) -> None:
        """It gives nothing more; from now on the others have to do."""
        self.origin_failure = reason
        self.doubted = 0
        self.beliefs.guess()

    def saw(self, bytes_seen: int, now_s: float) -> None:
        """Of all pieces on their way to here, whole or not."""
        if bytes_seen > self.bytes_seen:
            self.bytes_seen = bytes_seen
            self.moved_s = self.here_moved_s = now_s

    # --- what follows

    @property
    def missing(self) -> int:
        return self.all & ~self.have

    @property
    def taken(self) -> int:
        return bits.of(self.takes)

    @property
    def has_origin(self) -> bool:
        return bool(self.origin_lanes) and not self.origin_failure

    def lanes_free(self, now_s: float) -> int:
        """Of those to the origin. Many who fetch at once each take fewer pieces at a time: what is
        whole sooner is passed on sooner.
        """
        many = max(LANES_LEAST, -(-2 * self.origin_lanes // max(1, len(self.owners(now_s)))))
        return max(0, min(self.origin_lanes, many) - self.fetching.bit_count())

    @property
    def fetching(self) -> int:
        """On their way from the origin to here."""
        return bits.of(
            index
            for index, takes in self.takes.items()
            if any(take.giver == ORIGIN for take in takes)
        )

    def live(self) -> Iterator[Member]:
        return (member for member in self.members.values() if member.is_live())

    def available(self, now_s: float) -> int:
        """What others would give, as far as it is believed."""
        found = 0
        for member in self.live():
            if not member.is_given_up(now_s):
                found |= member.have
        return found & ~(self.doubted | self.beliefs.unsettled)

    def slow_after_s(self) -> float:
        return max(SLOW_LEAST_S, SLOW_FACTOR * self.piece_s)

    def coming(self, now_s: float) -> int:
        """What is on its way from the origin to others."""
        found = 0
        for member in self.live():
            if not member.is_stalled(now_s):
                found |= member.fetching
        return found

    def owners(self, now_s: float) -> frozenset[NodeId]:
        found = {node for node, member in self.members.items() if member.owns(now_s)}
        return frozenset(found | {self.me} if self.has_origin else found)

    def mine(self, now_s: float) -> int:
        """Pieces that this neuron is to take from the origin, if anybody is."""
        owners = self.owners(now_s)
        if self.me not in owners:
            return 0
        found = self._owned(owners)[self.me]
        others = owners - {self.me}
        before = self._owned(others)
        mark = mark_of(self.me)
        for node in others:
            member = self.members[node]
            if member.is_live() and mark not in member.counts:
                # It does not reckon with this neuron yet, and may be about to take them.
                found &= ~before[node]
        return (found | self.granted) & ~self._kept_by_others(now_s)

    def overdue(self, now_s: float) -> int:
        """Pieces that slow neurons alone have or are about to have, and that this one is to take
        from the origin instead, if it has nothing better to do.
        """
        limit_s = self.slow_after_s()
        slow = {member.node for member in self.live() if self._gives_slowly(member, limit_s, now_s)}
        late = prompt = 0
        for member in self.live():
            if member.node in slow:
                late |= member.have
            elif not member.is_given_up(now_s):
                prompt |= member.have
            too_slow = bits.of(
                index for index, since in member.fetching_since.items() if now_s - since > limit_s
            )
            if too_slow:
                slow.add(member.node)
            late |= too_slow
            prompt |= member.fetching & ~too_slow
        late &= self.missing & ~prompt
        if not late or not self.has_origin:
            return 0
        return late & self._owned((self.owners(now_s) - slow) | {self.me})[self.me]

    def _gives_slowly(self, member: Member, limit_s: float, now_s: float) -> bool:
        since = [
            take.since_s
            for takes in self.takes.values()
            for take in takes
            if take.giver == member.node
        ]
        return member.piece_s > limit_s or now_s - min(since, default=now_s) > limit_s

    def _kept_by_others(self, now_s: float) -> int:
        found = 0
        for index, (node, since_s) in self.ceded.items():
            member = self.members.get(node)
            if member is not None and member.is_live() and not member.is_stalled(now_s):
                began = (member.fetching | member.have) >> index & 1
                if began or now_s - since_s < CEDED_S:
                    found |= 1 << index
        return found

    def _owned(self, owners: frozenset[NodeId]) -> dict[NodeId, int]:
        in_order = self.in_order or any(
            self.members[node].in_order for node in owners if node != self.me
        )
        return dict(owned(self.layout.key, self.layout.count, owners, as_one=in_order))

    def not_begun(self, node: NodeId, now_s: float) -> int:
        """What another one owns and has not begun to take, so far as is known."""
        share = self._owned(self.owners(now_s)).get(node, 0)
        begun = self.available(now_s) | self.coming(now_s) | self.members[node].have
        return share & self.missing & ~begun & ~self.taken

    # --- handing over

    def handed(self, pieces: Iterable[int]) -> None:
        """An owner left these to this neuron."""
        self.granted |= bits.of(index for index in pieces if 0 <= index < self.layout.count)

    def hand_over(self, node: NodeId, wanted: int, now_s: float) -> tuple[int, ...]:
        """Of what this neuron would take later from the origin: now `node` takes it.

        At most half, from the end, and nothing that a free lane here would begin at once. Who let
        something lie gets nothing more.
        """
        member = self.members.get(node)
        if member is None or member.liar or self.in_order or self._let_lie(member, now_s):
            return ()
        begun = self.available(now_s) | self.coming(now_s) | self.taken
        waiting = self.mine(now_s) & self.missing & ~begun
        spare = waiting.bit_count() - self.lanes_free(now_s)
        found: list[int] = []
        for _ in range(max(0, min(wanted, CLAIM_MAX, (spare + 1) // 2))):
            index = bits.highest(waiting)
            waiting ^= 1 << index
            self.ceded[index] = (node, now_s)
            self.granted &= ~(1 << index)
            found.append(index)
        return tuple(found)

    def _let_lie(self, member: Member, now_s: float) -> bool:
        begun = member.fetching | member.have
        return any(
            node == member.node and now_s - since_s >= CEDED_S and not begun >> index & 1
            for index, (node, since_s) in self.ceded.items()
        )
