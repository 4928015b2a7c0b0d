"""Membership of one node: what it is told goes in, what it says comes out, nothing else happens.

No clock, no sockets, no tasks, no randomness of its own: the same calls with
the same seed give the same answers, which is how thousands of nodes are tried in
one process. The loop that feeds it from the world is `mesh/overlay.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final, assert_never

from helexa.mesh.membership.checks import Checks
from helexa.mesh.membership.clocks import Clocks
from helexa.mesh.membership.comparing import TELLING, Comparing
from helexa.mesh.membership.desk import Counters, Desk, tag_of
from helexa.mesh.membership.directory import Directory, Members
from helexa.mesh.membership.doubts import Doubt, Doubts
from helexa.mesh.membership.events import Member, Moment, Out, State
from helexa.mesh.membership.exchange import Exchange
from helexa.mesh.membership.heads import Short
from helexa.mesh.membership.hearsay import Hearsay
from helexa.mesh.membership.learning import Learning
from helexa.mesh.membership.notary import Entry, Notary
from helexa.mesh.membership.own import Own
from helexa.mesh.membership.partners import Partners
from helexa.mesh.membership.presets import Preset
from helexa.mesh.statements.records import SignedRecord
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import (
    Ack,
    Bucket,
    Digest,
    Gossip,
    News,
    Probe,
    Records,
    Relay,
    Want,
)
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Record

SWEEP_S: Final = 60.0


class Membership:
    """One owner calls it, in order; every call returns what is to be sent and what happened.

    `sends` may name any member, and whoever sent something: to a neighbour there
    is a link, to others the loop makes one. A message that cannot be sent is
    dropped; nothing here depends on any single one.
    """

    def __init__(
        self,
        me: NodeId,
        preset: Preset,
        *,
        notary: Notary,
        admit: Callable[[SignedRecord], Trust],
        random: random.Random,
        members_max: int,
    ) -> None:
        """`admit` says how far a proven record's node is trusted; DENIED keeps it out.

        `random` must not be predictable to others: it makes the salt that hides
        whom this node picks, and the nonces that prove an answer.
        """
        self._directory = Directory(members_max)
        self._desk = desk = Desk(me, preset, notary, self._directory, random)
        self._partners = Partners(desk)
        self._clocks = Clocks(desk)
        self._exchange = Exchange(desk)
        self._doubts = Doubts(desk, self._died, self._cleared)
        self._checks = Checks(desk, self._partners, self._nobody_reached)
        self._own = Own(desk, self._partners)
        self._members = Members(me, self._directory, self._doubts.since)
        self._learning = Learning(
            desk,
            admit,
            self._members,
            partners=self._partners,
            exchange=self._exchange,
            doubts=self._doubts,
            checks=self._checks,
            own=self._own,
            clocks=self._clocks,
        )
        self._hearsay = Hearsay(
            desk,
            self._members,
            partners=self._partners,
            doubts=self._doubts,
            checks=self._checks,
            own=self._own,
            learning=self._learning,
        )
        self._has_begun = False
        self._comparing = Comparing(
            desk,
            partners=self._partners,
            exchange=self._exchange,
            learning=self._learning,
            introduce=self._introduce,
        )
        self._has_entered = False

    # --- what is known

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """Everyone but this node, the dead and the left included while they are remembered."""
        return self._members

    @property
    def present(self) -> int:
        """How many members are alive or suspect, this node included once it published."""
        return self._directory.present

    @property
    def neighbours(self) -> frozenset[NodeId]:
        """Whom this node wants links with; others may want one with it."""
        return self._partners.neighbours

    @property
    def own(self) -> Entry | None:
        """What this node published last, sealed; None before the first time."""
        return self._own.entry

    @property
    def counters(self) -> Counters:
        """Since this core began."""
        return self._desk.counters

    @property
    def wake_s(self) -> float:
        """When `tick` is due, on the monotonic clock; infinity before anything began.

        Coming more than the preset's `stall_s` late means that this host slept.
        """
        return self._desk.timers.next_s

    # --- what it is told

    def publish(self, now: Moment, draft: Record) -> Out:
        """Say what `draft` says in this node's record. Node, sequence and times are set here.

        Signed now, or as soon as publishing again is fair to the others: a few in
        a row go out at once. The newest draft holds. Raises RecordRejected for a
        draft that no reader would accept.
        """
        self._enter(now)
        if not self._own.has_left:
            self._own.publish(draft)
        return self._exit()

    def recall(self, now: Moment, entries: Iterable[Entry]) -> Out:
        """Begin with members that an earlier run remembered; call it before everything else."""
        self._enter(now)
        self._learning.recall(entries)
        return self._exit()

    def tick(self, now: Moment) -> Out:
        """Do what is due. Call it at `wake_s`."""
        self._enter(now)
        self._desk.timers.run(now.monotonic_s)
        return self._exit()

    def receive(self, now: Moment, sender: NodeId, message: Gossip) -> Out:
        """A message of `sender`, whose key its link has proven."""
        self._enter(now)
        if not self._own.has_left and sender != self._desk.me:
            self._desk.counters.received[tag_of(message)] += 1
            entry = self._directory.find(sender)
            if entry is not None:
                self._hearsay.heard_from(entry)
                self._partners.meet(entry)
            self._receive(sender, message)
        return self._exit()

    def link_up(self, now: Moment, peer: NodeId) -> Out:
        """A link with `peer` stands. With one that is no member yet, this is how joining begins."""
        self._enter(now)
        entry = self._directory.find(peer)
        is_strange = entry is None or entry.short in self._directory.gone
        if (is_strange or not self._has_entered) and not self._own.has_left:
            self._has_entered = True
            self._comparing.enter(peer)
        return self._exit()

    def link_down(self, now: Moment, peer: NodeId) -> Out:
        """A link with `peer` ended. A hint: it is probed at once, and that decides."""
        self._enter(now)
        if peer in self._partners and not self._own.has_left:
            self._checks.start(peer)
        return self._exit()

    def reconsider(self, now: Moment) -> Out:
        """What `admit` says has changed: every member is asked about again."""
        self._enter(now)
        self._learning.reconsider()
        return self._exit()

    def leave(self, now: Moment) -> Out:
        """Say goodbye to the partners, who pass it on. Nothing is said or heard after that."""
        self._enter(now)
        if not self._own.has_left:
            blob = self._own.leave()
            for node in self._partners.nodes:
                self._desk.send(node, News(statements=(blob,)))
            self._desk.timers.clear()
        return self._exit()

    # --- messages

    def _receive(self, sender: NodeId, message: Gossip) -> None:
        match message:
            case Probe():
                self._probe(sender, message)
            case Ack():
                if message.clock_s:
                    self._clocks.note(sender, self._desk.now.unix_s - message.clock_s)
                self._checks.acked(sender, message)
                self._hear(sender, message.heads, message.statements)
            case Relay():
                self._checks.help(sender, message)
            case News():
                self._hear(sender, message.heads, message.statements)
            case Digest():
                self._comparing.answer(sender, message)
            case Bucket():
                self._comparing.settle(sender, message)
            case Want():
                self._exchange.serve(sender, message.shorts)
            case Records():
                self._learning.take(sender, message.records)
                self._hearsay.hear(sender, message.statements)
                self._comparing.turn_page(sender)
            case _:
                assert_never(message)

    def _hear(self, sender: NodeId, heads: bytes, statements: tuple[bytes, ...]) -> None:
        if heads:
            self._learning.consider(sender, heads)
        if statements:
            doubts = len(self._doubts.since)
            self._hearsay.hear(sender, statements)
            if len(self._doubts.since) - doubts >= TELLING:
                self._comparing.hurry()

    def _probe(self, sender: NodeId, probe: Probe) -> None:
        if probe.chosen:
            self._partners.was_chosen_by(sender)
        self._hear(sender, probe.heads, probe.statements)
        heads, statements = self._partners.take(sender)
        self._desk.send(
            sender,
            Ack(
                nonce=probe.nonce,
                clock_s=int(self._desk.now.unix_s),
                proof=self._checks.probed(sender, probe),
                heads=heads,
                statements=(*statements, *self._charges(sender)),
            ),
        )

    def _charges(self, node: NodeId) -> tuple[bytes, ...]:
        """What is held against that node, for it to object to."""
        entry = self._directory.find(node)
        if entry is None:
            return ()
        gone = self._directory.gone.get(entry.short)
        if gone is not None:
            return gone.evidence if gone.state is State.DEAD else ()
        doubt = self._doubts.about(entry.short)
        return tuple(doubt.accusers.values()) if doubt is not None else ()

    def _introduce(self, peer: NodeId) -> None:
        self._own.show(peer)
        self._desk.send(peer, self._knock(self._directory.find(peer)))

    def _knock(self, entry: Entry | None) -> Probe:
        charges = self._charges(entry.node) if entry is not None else ()
        return Probe(nonce=self._desk.random.getrandbits(62), statements=charges)

    # --- what the parts conclude, named here because they are made before who acts on it

    def _died(self, doubt: Doubt) -> None:
        self._hearsay.died(doubt)

    def _cleared(self, doubt: Doubt) -> None:
        self._hearsay.cleared(doubt)

    def _nobody_reached(self, node: NodeId) -> None:
        self._hearsay.nobody_reached(node)

    # --- what is done by the clock

    def _enter(self, now: Moment) -> None:
        desk = self._desk
        desk.now, desk.out = now, Out()
        if not self._has_begun:
            self._has_begun = True
            self._learning.begin()
            desk.after(desk.jittered(desk.preset.probe_every_s), self._probe_next)
            self._comparing.begin()
            desk.after(desk.jittered(desk.preset.retry_gone_s), self._retry_gone)
            desk.after(desk.jittered(desk.preset.stroll_every_s), self._stroll)
            desk.after(desk.jittered(SWEEP_S), self._sweep)
        late_s = now.monotonic_s - desk.timers.next_s
        if late_s > desk.preset.stall_s:
            self._checks.forget_all()
            self._doubts.postpone(late_s)

    def _exit(self) -> Out:
        self._exchange.flush()
        out = self._desk.out
        out.neighbours = self._partners.neighbours
        return out

    def _probe_next(self) -> None:
        self._desk.after(self._desk.jittered(self._desk.preset.probe_every_s), self._probe_next)
        node = self._partners.next()
        if node is not None:
            self._checks.start(node)
        for each in self._partners.trials:
            # One that this node failed to reach is being decided about already.
            if not self._members.is_suspect(each):
                self._checks.start(each)

    def _retry_gone(self) -> None:
        self._desk.after(self._desk.jittered(self._desk.preset.retry_gone_s), self._retry_gone)
        short = self._next_gone()
        if short is not None:
            entry = self._directory.entries[short]
            self._desk.send(entry.node, self._knock(entry))

    def _next_gone(self) -> Short | None:
        first, gone = self._learning.retry_first, self._directory.gone
        while first:
            short = next(iter(first))
            del first[short]
            if short in gone:
                return short
        dead = [short for short, each in gone.items() if each.state is State.DEAD]
        return self._desk.random.choice(dead) if dead else None

    def _stroll(self) -> None:
        self._desk.after(self._desk.jittered(self._desk.preset.stroll_every_s), self._stroll)
        node = self._learning.anybody()
        if node is not None and not self._members.is_suspect(node):
            self._checks.start(node)

    def _sweep(self) -> None:
        self._desk.after(self._desk.jittered(SWEEP_S), self._sweep)
        self._learning.sweep()
