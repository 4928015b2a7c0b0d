"""A swarm in virtual time: the real decisions on a network of arithmetic, from one seed.

Every source shares its rate among the transfers that it carries; maps and answers take a
latency. A neuron may be slow, lie, or be gone at some time.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.choice import Ask, Drop, Fetch, Hopeless, decide
from helexa.neuron.exchange.swarm import Swarm
from helexa.neuron.exchange.tree import tree
from helexa.neuron.exchange.wire import PieceMap, mark_of
from helexa.neuron.models.supply.piece import ORIGIN, PIECE_BYTES, Layout, content_key
from helexa.protocol.ids import NodeId

STEP_S = 0.05
LANES = 8
ORIGIN_LANES = 4


def right(index: int) -> bytes:
    return hashlib.sha256(b"right %d" % index).digest()


def wrong(index: int) -> bytes:
    return hashlib.sha256(b"wrong %d" % index).digest()


@dataclass
class Transfer:
    giver: str
    index: int
    left: float
    digest: bytes
    expected: bytes | None
    from_s: float
    """Its first byte arrives then."""


@dataclass(kw_only=True)
class Neuron:
    node: NodeId
    upload: float = 50e6
    from_origin: float = float("inf")
    """Its own rate to the origin."""
    begins_s: float = 0.0
    dies_s: float = float("inf")
    whole: bool = False
    has_origin: bool = True
    attests_wrong: frozenset[int] = frozenset()
    """And gives what it attests."""
    gives_wrong: bool = False
    """But attests what is right."""
    hangs: bool = False
    """Takes its part from the origin, and never gets it."""
    pieces: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    swarm: Swarm | None = None
    origin_bytes: int = 0
    seen: float = 0.0
    version: int = 0
    checked: bool = False
    failure: str = ""
    rounds: int = 0
    heard: dict[NodeId, int] = field(default_factory=dict)
    changed: bool = True
    looked_s: float = -1.0

    @property
    def lies(self) -> bool:
        return bool(self.attests_wrong) or self.gives_wrong

    def is_on(self, now_s: float) -> bool:
        return self.begins_s <= now_s < self.dies_s

    @property
    def is_done(self) -> bool:
        return self.checked or bool(self.failure)


class World:
    def __init__(
        self, neurons: list[Neuron], *, pieces: int, origin: float, seed: int, latency_s: float
    ) -> None:
        self.layout = Layout(key=content_key(f"{seed:064x}"), size=pieces * PIECE_BYTES - 1000)
        self.neurons = {one.node: one for one in neurons}
        self.origin = origin
        self.origin_sent = 0.0
        self.random = random.Random(seed)
        self.latency_s = latency_s
        self.now_s = 0.0
        self.mail: list[tuple[float, NodeId, NodeId, PieceMap | None]] = []
        for one in neurons:
            if one.whole:
                one.pieces = {index: (right(index), ORIGIN) for index in range(pieces)}
                one.checked = True

    def run(self, within_s: float) -> None:
        honest = [one for one in self.neurons.values() if not one.lies and not one.hangs]
        while self.now_s < within_s:
            on = [one for one in honest if one.dies_s > within_s]
            if all(one.is_done for one in on):
                return
            self._step()
        raise AssertionError(f"not done after {within_s} s: {self._standing()}")

    def _standing(self) -> str:
        return str({one.node[:4]: len(one.pieces) for one in self.neurons.values()})

    # --- one step

    def _step(self) -> None:
        self.now_s += STEP_S
        for one in self.neurons.values():
            if one.is_on(self.now_s) and one.swarm is None and not one.checked:
                self._begin(one)
        self._send_maps()
        self._deliver()
        self._carry()
        for one in self.neurons.values():
            if one.is_on(self.now_s) and one.swarm is not None and not one.is_done:
                self._work(one)

    def _begin(self, one: Neuron) -> None:
        one.swarm = Swarm(
            one.node,
            self.layout,
            have=bits.of(one.pieces),
            origin_lanes=ORIGIN_LANES if one.has_origin else 0,
            now_s=self.now_s,
        )
        one.swarm.told([node for node in self.neurons if node != one.node], self.now_s)
        one.heard = {}
        one.version += 1
        one.changed = True

    def _send_maps(self) -> None:
        for one in self.neurons.values():
            if not one.is_on(self.now_s) or one.swarm is None or one.is_done:
                continue
            for other in self.neurons.values():
                if other.node == one.node:
                    continue
                known = other.is_on(self.now_s)
                has = known and (other.swarm is not None or other.checked)
                version = other.version if has else (-1 if known else -2)
                # A stall shows because maps come also where nothing changed.
                beat = int(self.now_s / 5) if version >= 0 else 0
                tag = version * 1_000_000 + beat
                if one.heard.get(other.node) != tag:
                    one.heard[other.node] = tag
                    said = self._map(other) if has else None
                    due = self.now_s + self.latency_s
                    self.mail.append((due, other.node, one.node, said))

    def _map(self, one: Neuron) -> PieceMap:
        count = self.layout.count
        swarm = one.swarm
        digests = {
            index: wrong(index) if index in one.attests_wrong else digest
            for index, (digest, _) in one.pieces.items()
        }
        first = bits.of(i for i, (_, giver) in one.pieces.items() if giver == ORIGIN)
        working = swarm is not None and not one.checked
        return PieceMap(
            epoch=1,
            version=one.version,
            size=self.layout.size,
            have=bits.to_bytes(bits.of(digests), count),
            fetching=bits.to_bytes(swarm.fetching, count) if swarm and working else b"",
            first_hand=bits.to_bytes(bits.full(count) if one.checked else first, count),
            digests=digests,
            fetches=bool(swarm and working and swarm.has_origin),
            origin_bytes=one.origin_bytes,
            members=frozenset(mark_of(node) for node in swarm.owners(self.now_s))
            if swarm
            else frozenset(),
            verified=one.checked,
            tree=tree(self.layout, [digests[i] for i in range(count)]) if one.checked else b"",
        )

    def _deliver(self) -> None:
        due = [one for one in self.mail if one[0] <= self.now_s]
        self.mail = [one for one in self.mail if one[0] > self.now_s]
        for _, sender, receiver, said in due:
            one, other = self.neurons[receiver], self.neurons[sender]
            if one.swarm is None or not one.is_on(self.now_s):
                continue
            one.changed = True
            if said is not None:
                one.swarm.heard(sender, said, self.now_s)
            elif other.is_on(self.now_s):
                one.swarm.absent(sender)
            else:
                one.swarm.lost(sender)

    def _carry(self) -> None:
        on = [one for one in self.neurons.values() if one.is_on(self.now_s)]
        by_giver: dict[str, list[tuple[Neuron, Transfer]]] = {}
        for one in on:
            for transfer in one.transfers:
                if transfer.from_s > self.now_s:
                    continue
                by_giver.setdefault(transfer.giver, []).append((one, transfer))
        for giver, carried in by_giver.items():
            if giver != ORIGIN and not self.neurons[NodeId(giver)].is_on(self.now_s):
                for one, transfer in carried:
                    self._end(one, transfer, "lost")
                continue
            rate = self.origin if giver == ORIGIN else self.neurons[NodeId(giver)].upload
            each = rate * STEP_S / len(carried)
            for one, transfer in carried:
                if transfer not in one.transfers:
                    continue
                amount = each
                if giver == ORIGIN:
                    lanes = sum(each.giver == ORIGIN for each in one.transfers)
                    amount = min(each, one.from_origin * STEP_S / lanes)
                    amount = 0.0 if one.hangs else amount
                    amount = min(amount, transfer.left)
                    self.origin_sent += amount
                    one.origin_bytes += int(amount)
                transfer.left -= amount
                one.seen += amount
                if transfer.left <= 0:
                    self._end(one, transfer, "")
        for one in on:
            if one.swarm is not None:
                one.swarm.saw(int(one.seen), self.now_s)

    def _end(self, one: Neuron, transfer: Transfer, failure: str) -> None:
        swarm = one.swarm
        assert swarm is not None
        one.transfers.remove(transfer)
        since_s = swarm.ended(transfer.index, transfer.giver)
        one.changed = True
        one.version += 1
        if failure:
            swarm.members[NodeId(transfer.giver)].failed(self.now_s)
            return
        giver = swarm.members.get(NodeId(transfer.giver))
        if giver is None:
            swarm.took_s(self.now_s - since_s)
        elif transfer.expected != transfer.digest:
            swarm.expose(giver.node, "it gives other bytes than it says")
            return
        else:
            giver.gave(self.now_s - since_s)
        if transfer.index in one.pieces:
            return
        one.pieces[transfer.index] = transfer.digest, transfer.giver
        swarm.gained(transfer.index, transfer.digest, transfer.giver, self.now_s)
        if len(one.pieces) == self.layout.count:
            self._finish(one)

    def _finish(self, one: Neuron) -> None:
        """As `download` does it."""
        if one.attests_wrong or all(d == right(i) for i, (d, _) in one.pieces.items()):
            one.checked = True
            one.transfers.clear()
            one.version += 1
            return
        assert one.swarm is not None
        one.rounds += 1
        if one.rounds > 1 or not one.has_origin:
            one.failure = "the whole is wrong"
            return
        for index in [i for i, (_, giver) in one.pieces.items() if giver != ORIGIN]:
            del one.pieces[index]
            one.swarm.dropped(index)
            one.swarm.doubted |= 1 << index

    def _work(self, one: Neuron) -> None:
        swarm = one.swarm
        assert swarm is not None
        if not one.changed and self.now_s - one.looked_s < 0.5:
            return
        one.changed, one.looked_s = False, self.now_s
        while len(one.transfers) < LANES:
            choice = decide(swarm, self.now_s, self.random.random)
            match choice:
                case Fetch(index, giver):
                    self._fetch(one, index, giver)
                case Ask(node, wanted):
                    swarm.members[node].asked_s = self.now_s
                    other = self.neurons[node]
                    if other.is_on(self.now_s) and other.swarm and not other.checked:
                        handed = other.swarm.hand_over(one.node, wanted, self.now_s)
                        swarm.handed(handed)
                        other.version += 1
                case Drop(index):
                    one.pieces.pop(index, None)
                    swarm.dropped(index)
                    one.version += 1
                case Hopeless(reason):
                    one.failure = reason
                    return
                case _:
                    return

    def _fetch(self, one: Neuron, index: int, giver: str) -> None:
        swarm = one.swarm
        assert swarm is not None
        swarm.began(index, giver, self.now_s)
        digest = right(index)
        if giver != ORIGIN:
            other = self.neurons[NodeId(giver)]
            if index not in other.pieces:
                swarm.ended(index, giver)
                swarm.members[NodeId(giver)].failed(self.now_s)
                return
            digest = other.pieces[index][0]
            if other.gives_wrong or index in other.attests_wrong:
                digest = wrong(index)
        size = self.layout.span(index)[1]
        from_s = self.now_s + 2 * self.latency_s
        expected = swarm.beliefs.expected(index)
        one.transfers.append(Transfer(giver, index, size, digest, expected, from_s))
        one.version += 1
