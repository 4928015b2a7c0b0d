"""The clock, the nodes and what is known of them from outside.

A node here is the real core; what is simulated is everything around it: links
that take time to make, messages, processors that stall, machines that die. What
the outside knows and nodes have to find out, `disagreements` compares.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import Died, Event, Moment, Out, State
from helexa.mesh.membership.notary import Entry
from helexa.mesh.membership.presets import WAN, Preset
from helexa.mesh.statements.records import SignedRecord
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import Gossip
from helexa.protocol.ids import NodeId, OperatorId
from helexa.protocol.records import Record
from helexa.testing.simulation.identities import (
    BEGIN_UNIX_S,
    Register,
    SharedNotary,
    new_id,
    usual_draft,
)
from helexa.testing.simulation.network import Network

MESSAGE_OVERHEAD_BYTES: Final = 110
"""What a small message costs beyond its body: frame 10, TLS record 22, TCP and IP 52, and half of
the acknowledgement that the other side may have to send for it alone."""
DIAL_BYTES: Final = 2_500
"""What making a link costs each side: a TLS handshake with a raw key both ways, two Hellos."""
LINK_IDLE_S: Final = 30.0
"""How long a link that was made for one message is kept for the next."""
BACKLOG_MAX: Final = 10_000
"""Messages that wait for a stopped process: what its sockets would hold."""

_encoder: Final = msgspec.msgpack.Encoder()

OnEvent: TypeAlias = Callable[["Node", Event], None]


def everybody(_record: SignedRecord) -> Trust:
    return Trust.STRANGER


class Node:
    """One machine. `skew_s` is how far its clock is ahead."""

    __slots__ = (
        "backlog",
        "bytes_received",
        "bytes_sent",
        "dials",
        "entries_max",
        "id",
        "is_up",
        "links",
        "membership",
        "messages_sent",
        "neighbours",
        "number",
        "on_message",
        "operator",
        "runs",
        "skew_s",
        "stopped",
        "wake_s",
    )

    def __init__(self, number: int, node: NodeId, operator: OperatorId) -> None:
        self.number = number
        self.id = node
        self.operator = operator
        self.skew_s = 0.0
        self.is_up = False
        self.stopped = False
        self.runs = 0
        self.membership: Membership
        self.neighbours: frozenset[NodeId] = frozenset()
        self.links: dict[int, float] = {}
        self.backlog: list[tuple[int, Gossip]] = []
        self.wake_s = math.inf
        self.on_message: Callable[[Node, Gossip], None] | None = None
        """Set for a hostile member: sees what comes before its core does."""
        self.bytes_sent = self.bytes_received = self.messages_sent = self.dials = 0

    @property
    def is_healthy(self) -> bool:
        return self.is_up and not self.stopped


class World:
    """`now_s` is virtual. Everything random comes from `seed`."""

    def __init__(
        self,
        seed: int,
        *,
        network: Network | None = None,
        preset: Preset = WAN,
        members_max: int = 16_384,
        admit: Callable[[SignedRecord], Trust] = everybody,
        traced: bool = False,
    ) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.network = network or Network()
        self.preset = preset
        self.random = random.Random(seed)  # noqa: S311 - a simulation wants to be repeatable
        self.register = Register()
        self.nodes: list[Node] = []
        self.on_event: OnEvent | None = None
        self.false_deaths: list[tuple[float, int, int]] = []
        """When, who concluded it, about whom: both were well and could reach each other."""
        self.messages = 0
        self._by_id: dict[NodeId, Node] = {}
        self._twins: dict[NodeId, list[Node]] = {}
        self._members_max = members_max
        self._admit = admit
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._trace = hashlib.blake2b() if traced else None

    # --- who there is

    def add(self, count: int, *, operators: int | None = None) -> list[Node]:
        """New machines, not started; of `operators` operators in turn, or each its own."""
        owners = [OperatorId(new_id(self.random)) for _ in range(operators or count)]
        added = []
        for index in range(count):
            node = Node(len(self.nodes), new_id(self.random), owners[index % len(owners)])
            self.nodes.append(node)
            self._by_id[node.id] = node
            added.append(node)
        return added

    def add_twin(self, node: Node) -> Node:
        """Another machine with that node's key. Messages to the key reach either, by chance."""
        twin = Node(len(self.nodes), node.id, node.operator)
        self.nodes.append(twin)
        self._twins.setdefault(node.id, [node]).append(twin)
        return twin

    def node(self, node: NodeId) -> Node | None:
        return self._by_id.get(node)

    @property
    def trace(self) -> str:
        """A digest of everything that happened; for a world that is `traced`."""
        assert self._trace is not None
        return self._trace.hexdigest()

    # --- what is done to them

    def start(self, node: Node, *, by: Node | None = None) -> None:
        """Begin a run, as a new process would: it knows nobody, and dials `by`."""
        node.is_up, node.stopped = True, False
        node.runs += 1
        node.links.clear()
        node.backlog.clear()
        node.neighbours = frozenset()
        node.membership = Membership(
            node.id,
            self.preset,
            notary=SharedNotary(node.id, self.register),
            admit=self._admit,
            random=random.Random(self.random.getrandbits(64)),  # noqa: S311 - as above
            members_max=self._members_max,
        )
        self.publish(node)
        if by is not None:
            self.link(node, by)

    def join(self, nodes: Iterable[Node] | None = None, *, over_s: float = 1.0) -> None:
        """Start all of them within `over_s`, each with the first one as its bootstrap."""
        first, *others = self.nodes if nodes is None else list(nodes)
        self.start(first)
        for node in others:
            self.at(self.random.random() * over_s, self.start, node, by=first)

    def prime(
        self, nodes: Iterable[Node] | None = None, *, records: int = 1, age_s: float = 0.0
    ) -> None:
        """Start all of them knowing one another: a mesh that has stood for a while.

        Each began up to `age_s` ago, and has published `records` times since.
        """
        mesh = self.nodes if nodes is None else list(nodes)
        present_s = self.now_s
        for node in mesh:
            self.now_s = present_s - age_s * self.random.random()
            self.start(node)
            for _ in range(records - 1):
                self.publish(node)
        self.now_s = present_s
        entries: list[Entry] = []
        for node in mesh:
            assert node.membership.own is not None
            entries.append(node.membership.own)
        for node in mesh:
            self.do(node, node.membership.recall, entries)

    def publish(self, node: Node, draft: Record | None = None) -> None:
        instance = f"{node.number}-{node.runs}"
        draft = draft or usual_draft(node.id, node.operator, instance, self.random)
        self.do(node, node.membership.publish, draft)

    def kill(self, node: Node, *, is_noticed: bool = False) -> None:
        """Gone without a word. `is_noticed`: its peers' links break, as when a process dies."""
        node.is_up = False
        for number in list(node.links) if is_noticed else ():
            other = self.nodes[number]
            if other.is_healthy and node.number in other.links:
                del other.links[node.number]
                self.do(other, other.membership.link_down, node.id)

    def leave(self, node: Node) -> None:
        self.do(node, node.membership.leave)
        node.is_up = False

    def stop(self, node: Node) -> None:
        """As SIGSTOP: nothing runs, what comes waits."""
        node.stopped = True

    def resume(self, node: Node) -> None:
        node.stopped = False
        waiting, node.backlog = node.backlog, []
        for number, message in waiting:
            self.at(0.0, self._deliver, node, number, message)
        self._wake_at(node)

    def stall(self, node: Node, span_s: float) -> None:
        self.stop(node)
        self.at(span_s, self._end_stall, node)

    def split(self, side: Iterable[Node]) -> None:
        """Cut these off from everyone else, until `heal`."""
        self.network.sides = {node.number: 1 for node in side}

    def heal(self) -> None:
        self.network.sides = {}

    def link(self, node: Node, other: Node) -> None:
        """`node` dials `other`."""
        self._dial(node, other)
        self.at(3 * self.network.delay_s(self.random), self._linked, node, other)

    # --- the clock

    def at(self, delay_s: float, call: Callable[..., None], *args: object, **named: object) -> None:
        """Call it in `delay_s` of virtual time."""
        if named:
            whole = call
            call = lambda *given: whole(*given, **named)  # noqa: E731 - keeps the heap's entries alike
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._order), call, args))

    def run(self, span_s: float) -> None:
        """Let `span_s` of virtual time pass."""
        end_s = self.now_s + span_s
        heap = self._heap
        while heap and heap[0][0] <= end_s:
            self.now_s, _, call, args = heapq.heappop(heap)
            call(*args)
        self.now_s = end_s

    def run_until(
        self, holds: Callable[[], bool], *, at_most_s: float, look_s: float = 1.0
    ) -> float:
        """Let time pass until `holds()`; how long that took. AssertionError if it never did."""
        begun_s = self.now_s
        while not holds():
            if self.now_s - begun_s >= at_most_s:
                raise AssertionError(f"still not so after {at_most_s:g} s")
            self.run(look_s)
        return self.now_s - begun_s

    def moment(self, node: Node) -> Moment:
        return Moment(self.now_s, BEGIN_UNIX_S + self.now_s + node.skew_s)

    def do(self, node: Node, call: Callable[..., Out], *args: object) -> None:
        """Call a node's core and carry out what it says."""
        self._carry_out(node, call(self.moment(node), *args))

    def send(self, node: Node, target: NodeId, message: Gossip) -> None:
        """What a hostile member sends past its core."""
        self._send(node, target, message)

    # --- what became of them

    def disagreements(self, *, of: Iterable[Node] | None = None) -> list[str]:
        """In words, each living node's wrong beliefs about others; the first twenty."""
        mesh = self.nodes if of is None else list(of)
        well = [node for node in mesh if node.is_healthy]
        wrong = []
        for node in well:
            members = node.membership.members
            for other in mesh:
                if other is node:
                    continue
                member = members.get(other.id)
                if other.is_healthy:
                    if member is None or member.state is not State.ALIVE:
                        state = member.state.value if member else "nobody"
                        wrong.append(f"{node.number} holds {other.number}, alive, for {state}")
                    elif member.signed.sequence != _sequence(other):
                        wrong.append(f"{node.number} has an old record of {other.number}")
                elif not other.is_up and member is not None and member.is_present:
                    wrong.append(
                        f"{node.number} holds {other.number}, gone, for {member.state.value}"
                    )
            if len(wrong) >= 20:
                break
        return wrong[:20]

    def agrees(self) -> bool:
        return not self.disagreements()

    # --- inside

    def _carry_out(self, node: Node, out: Out) -> None:
        for target, message in out.sends:
            self._send(node, target, message)
        for event in out.events:
            if isinstance(event, Died):
                self._note_death(node, event)
            if self.on_event is not None:
                self.on_event(node, event)
        if out.neighbours is not node.neighbours:
            fresh = out.neighbours - node.neighbours
            node.neighbours = out.neighbours
            for other in sorted(fresh):
                if other in self._by_id:
                    self.link(node, self._by_id[other])
        self._wake_at(node)

    def _note_death(self, node: Node, event: Died) -> None:
        target = self._by_id.get(event.member.node)
        if target is not None and target.is_healthy and node.is_healthy:
            sides = self.network.sides
            if sides.get(node.number, 0) == sides.get(target.number, 0):
                self.false_deaths.append((self.now_s, node.number, target.number))

    def _send(self, node: Node, target: NodeId, message: Gossip) -> None:
        size = len(_encoder.encode(message)) + MESSAGE_OVERHEAD_BYTES
        node.bytes_sent += size
        node.messages_sent += 1
        self.messages += 1
        other = self._by_id.get(target)
        if other is None:
            return
        if target in self._twins:
            other = self.random.choice(self._twins[target])
        extra_s = 0.0
        used_s = node.links.get(other.number)
        if used_s is None or used_s < self.now_s:
            # A neighbour's link stands for good; one made for a message is kept for a while.
            self._dial(node, other)
            extra_s = 3 * self.network.delay_s(self.random)
        if node.links.get(other.number) != math.inf:
            node.links[other.number] = other.links[node.number] = self.now_s + LINK_IDLE_S
        for delay_s in self.network.fates_s(self.random, node.number, other.number):
            other.bytes_received += size
            self.at(extra_s + delay_s, self._deliver, other, node.number, message)

    def _dial(self, node: Node, other: Node) -> None:
        node.bytes_sent += DIAL_BYTES
        node.dials += 1
        if other.is_healthy:
            other.bytes_sent += DIAL_BYTES

    def _linked(self, node: Node, other: Node) -> None:
        sides = self.network.sides
        apart = bool(sides) and sides.get(node.number, 0) != sides.get(other.number, 0)
        if apart or not (node.is_healthy and other.is_healthy):
            return
        node.links[other.number] = other.links[node.number] = math.inf
        self.do(node, node.membership.link_up, other.id)
        self.do(other, other.membership.link_up, node.id)

    def _deliver(self, node: Node, number: int, message: Gossip) -> None:
        if not node.is_up:
            return
        if node.stopped:
            if len(node.backlog) < BACKLOG_MAX:
                node.backlog.append((number, message))
            return
        if self._trace is not None:
            self._note(node, number, message)
        if node.on_message is not None:
            node.on_message(self.nodes[number], message)
        self._carry_out(
            node, node.membership.receive(self.moment(node), self.nodes[number].id, message)
        )

    def _wake_at(self, node: Node) -> None:
        wake_s = max(node.membership.wake_s, self.now_s)
        if wake_s < node.wake_s or node.wake_s <= self.now_s:
            node.wake_s = wake_s
            heapq.heappush(self._heap, (wake_s, next(self._order), self._wake, (node, wake_s)))

    def _wake(self, node: Node, wake_s: float) -> None:
        if wake_s != node.wake_s or not node.is_healthy:
            return
        node.wake_s = math.inf
        self._carry_out(node, node.membership.tick(self.moment(node)))

    def _end_stall(self, node: Node) -> None:
        if node.is_up and node.stopped:
            self.resume(node)

    def _note(self, node: Node, number: int, message: Gossip) -> None:
        assert self._trace is not None
        line = f"{self.now_s:.9f} {number} {node.number} ".encode()
        self._trace.update(line + _encoder.encode(message))


def _sequence(node: Node) -> int:
    own = node.membership.own
    return own.sequence if own is not None else 0
