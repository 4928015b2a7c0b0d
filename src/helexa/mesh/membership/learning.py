"""What this node takes in of others' records, and what it lets go of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from helexa.mesh.membership.checks import Checks
from helexa.mesh.membership.clocks import Clocks
from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.directory import Members
from helexa.mesh.membership.doubts import Doubts
from helexa.mesh.membership.events import Changed, Forgotten, Joined, State
from helexa.mesh.membership.exchange import Exchange
from helexa.mesh.membership.heads import Head, Short, Version, short_of, unpack
from helexa.mesh.membership.limits import Allowance, Recent
from helexa.mesh.membership.notary import Entry
from helexa.mesh.membership.own import Own, publish_every_s
from helexa.mesh.membership.partners import Partners
from helexa.mesh.statements.records import Reason, RecordRejected, SignedRecord
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import News
from helexa.protocol.ids import NodeId, is_node_id

REFUSED_MAX: Final = 4_096
REFUSED_S: Final = 300.0
"""A record that was refused is not asked for again this soon: clocks get set, operators relent."""
EVIDENCE_AT_ONCE: Final = 16
"""Of the gone, for one who holds them for present: at most 48 statements, 7 KB."""
RETRY_FIRST_MAX: Final = 1_024
CROWD: Final = 200
CROWD_RATE: Final = 0.1
"""Strangers that this node takes in, at once and a second. Each costs everybody about 3 KB, and
twice that again if nothing is behind it; who is known by name does not wait in this queue."""
YOUNG_S: Final = 120.0
"""A node that just began takes in whomever it hears of."""
GRAVE_S: Final = 86_400.0
"""How long the dead are remembered, and tried again: a day without a cable is survivable."""
CLOCK_SLACK_S: Final = 120.0

Admit = Callable[[SignedRecord], Trust]


class Learning:
    """Decides on each head and each record that comes."""

    def __init__(
        self,
        desk: Desk,
        admit: Admit,
        members: Members,
        *,
        partners: Partners,
        exchange: Exchange,
        doubts: Doubts,
        checks: Checks,
        own: Own,
        clocks: Clocks,
    ) -> None:
        self.retry_first: dict[Short, None] = {}
        """Gone here and present to somebody else: worth trying before others."""
        self._desk = desk
        self._partners = partners
        self._exchange = exchange
        self._doubts = doubts
        self._checks = checks
        self._own = own
        self._clocks = clocks
        self._members = members
        self._admit = admit
        self._refused: Recent[Short, list[float]] = Recent(lambda: [0.0, 0.0], REFUSED_MAX)
        self._paces: Recent[Short, Allowance] = Recent(self._pace, REFUSED_MAX)
        self._crowd = Allowance(CROWD, CROWD_RATE, 0.0)
        self._young_until_s = 0.0
        self._turns: list[Short] = []
        # Of a crowd that arrives, each present member looks at a few.
        self._visits = Allowance(8, 1, 0.0)

    def begin(self) -> None:
        """The node's first moment."""
        self._young_until_s = self._desk.now_s + YOUNG_S

    # --- heads

    def consider(self, sender: NodeId, heads: bytes) -> None:
        """Want what is new among them; tell the sender what it does not know of the gone."""
        evidence: list[bytes] = []
        doubted = 0
        for head in unpack(heads):
            gone = self._consider(sender, head)
            if gone and doubted < EVIDENCE_AT_ONCE:
                doubted += 1
                evidence += gone
        if evidence and self._desk.credit(sender).served_bytes.take(
            self._desk.now_s, sum(map(len, evidence))
        ):
            self._desk.send(sender, News(statements=tuple(evidence)))

    def _consider(self, sender: NodeId, head: Head) -> tuple[bytes, ...]:
        directory, short = self._desk.directory, head.short
        self._partners.heard_head(sender, short)
        if short not in directory.entries:
            if not self._is_refused(head) and (
                self._exchange.is_wanted(short) or self._may_introduce(sender)
            ):
                self._exchange.want(short, head.version, sender)
            return ()
        version = directory.version(short)
        if head.version > version:
            if head.version[0] == version[0] or (
                not self._is_refused(head) and not self._is_paced(short)
            ):
                self._exchange.want(short, head.version, sender)
        elif head.version == version and short in directory.gone:
            gone = directory.gone[short]
            if gone.state is State.DEAD and len(self.retry_first) < RETRY_FIRST_MAX:
                self.retry_first[short] = None
            return gone.evidence
        return ()

    def want_own(self, sender: NodeId, version: Version) -> None:
        """Ask for a record of this node's key that `sender` claims to have seen."""
        if self._may_introduce(sender):
            self._exchange.want(self._desk.my_short, version, sender)

    def _is_paced(self, short: Short) -> bool:
        """Whether that node published too often. One that was gone comes back without waiting."""
        if short in self._desk.directory.gone:
            return False
        return self._paces.of(short).left(self._desk.now_s) < 1

    def _may_introduce(self, sender: NodeId) -> bool:
        if self._desk.credit(sender).newcomers.take(self._desk.now_s):
            return True
        self._desk.counters.rejected["crowd"] += 1
        return False

    def _may_come(self, trust: Trust) -> bool:
        now_s = self._desk.now_s
        return trust > Trust.STRANGER or now_s < self._young_until_s or self._crowd.take(now_s)

    def _is_refused(self, head: Head) -> bool:
        refused = self._refused.get(head.short)
        return (
            refused is not None and head.version[0] <= refused[0] and self._desk.now_s < refused[1]
        )

    def _pace(self) -> Allowance:
        # Twice what is fair, since that node may know of a smaller mesh than this one does.
        rate = 2 / publish_every_s(self._desk, 700)
        return Allowance(6, rate, self._desk.now_s)

    # --- records

    def take(self, sender: NodeId, blobs: tuple[bytes, ...]) -> None:
        """Sealed records of `sender`: those that were asked for, and its own."""
        for blob in blobs:
            try:
                node, sequence = self._desk.notary.peek(blob)
            except RecordRejected as rejected:
                self._desk.reject(rejected.reason.value, sender)
                continue
            if is_node_id(node):
                self._take(sender, node, sequence, blob)
            else:
                self._desk.reject(Reason.MALFORMED.value, sender)

    def _take(self, sender: NodeId, node: NodeId, sequence: int, blob: bytes) -> None:
        desk, short = self._desk, short_of(node)
        held = desk.directory.entries.get(short)
        wanted = self._exchange.is_wanted(short)
        if not wanted and (node != sender or (held is None and not self._may_introduce(sender))):
            desk.reject("unasked", sender)
            return
        if held is not None and (held.node != node or sequence <= held.sequence):
            self._exchange.arrived(short)
            if sequence < held.sequence:
                desk.reject(Reason.STALE.value, sender)
            return
        if not desk.credit(sender).proofs.take(desk.now_s):
            desk.reject("flood", sender)
            return
        try:
            entry = desk.notary.open(blob, desk.now.unix_s)
        except RecordRejected as rejected:
            desk.reject(rejected.reason.value, sender)
            if rejected.reason is not Reason.SIGNATURE:
                # Said by its signer: what a forger says must not keep the real one out.
                self._refuse(short, sequence)
            if rejected.issued_ahead_s:
                self._clocks.note(node, -rejected.issued_ahead_s)
            return
        self._exchange.arrived(short)
        if node == desk.me:
            self._own.is_doubled_by(entry)
            return
        trust = self._admit(entry.signed)
        if not trust:
            desk.reject(Reason.DENIED.value, sender)
            self._refuse(short, sequence)
        elif held is None and not self._may_come(trust):
            desk.reject("crowd", sender)
            self._refuse(short, sequence)
        elif held is None and not self._make_room(trust):
            desk.reject("full", sender)
            self._refuse(short, sequence)
        elif held is not None and self._is_paced(short):
            desk.reject("pace", sender)
        else:
            self._paces.of(short).take(desk.now_s)
            self._accept(sender, entry, trust)

    def _accept(self, sender: NodeId, entry: Entry, trust: Trust) -> None:
        desk, short = self._desk, entry.short
        is_new = short not in desk.directory.entries
        was_gone = short in desk.directory.gone
        desk.directory.put(entry, trust)
        self.retry_first.pop(short, None)
        self._partners.add(entry)
        self._doubts.refuted(short)
        member = self._members.of(entry)
        desk.emit(Joined(member) if is_new or was_gone else Changed(member))
        self._partners.tell_head(short, besides=sender)
        if is_new and sender != entry.node and self.is_volunteer():
            self._checks.start(entry.node)

    def recall(self, entries: Iterable[Entry]) -> None:
        """Begin with what an earlier run knew."""
        directory = self._desk.directory
        for entry in entries:
            if entry.short not in directory.entries:
                trust = self._admit(entry.signed)
                if trust and directory.room_for(trust) == b"":
                    directory.put(entry, trust)
                    self._partners.add(entry)

    def is_volunteer(self) -> bool:
        """Whether this node is one of the few, of all who hear it, that look for themselves."""
        chance = self._desk.preset.volunteers / max(1, self._desk.directory.present)
        return self._desk.random.random() < chance and self._visits.take(self._desk.now_s)

    def _refuse(self, short: Short, sequence: int) -> None:
        self._exchange.arrived(short)
        self._refused.of(short)[:] = [sequence, self._desk.now_s + REFUSED_S]

    def _make_room(self, trust: Trust) -> bool:
        short = self._desk.directory.room_for(trust)
        if short:
            self.forget(short, "room")
        return short is not None

    def anybody(self) -> NodeId | None:
        """Each present member in turn, in an order of this node's own; None for nobody."""
        directory = self._desk.directory
        while self._turns:
            short = self._turns.pop()
            if short in directory.entries and short not in directory.gone:
                return directory.entries[short].node
        self._turns = [short for short in directory.entries if short != self._desk.my_short]
        self._desk.random.shuffle(self._turns)
        return None

    # --- letting go

    def forget(self, short: Short, reason: str) -> None:
        """Let go of somebody who is in. `reason` is a label."""
        directory = self._desk.directory
        entry = directory.entries[short]
        was_present = short not in directory.gone
        directory.drop(short)
        self.retry_first.pop(short, None)
        self._doubts.drop(short)
        self._checks.stop(entry.node)
        if was_present:
            self._partners.remove(entry)
        self._desk.emit(Forgotten(entry.node, reason))

    def reconsider(self) -> None:
        """Ask about every member again: what is admitted has changed."""
        self._refused = Recent(lambda: [0.0, 0.0], REFUSED_MAX)
        for short, entry in list(self._desk.directory.entries.items()):
            if short != self._desk.my_short:
                trust = self._admit(entry.signed)
                if trust:
                    self._desk.directory.rank(short, trust)
                else:
                    self.forget(short, Reason.DENIED.value)

    def sweep(self) -> None:
        """Forget whose record expired, once a minute."""
        directory, now = self._desk.directory, self._desk.now
        late = [
            short
            for short, entry in directory.entries.items()
            if entry.signed.record.expires_s + CLOCK_SLACK_S < now.unix_s
            and short != self._desk.my_short
        ]
        present = [short for short in late if short not in directory.gone]
        if len(present) > 2 and 2 * len(present) > directory.present:
            # So many at once, and each of them forgot to refresh? It is this node's clock.
            for short in present:
                entry = directory.entries[short]
                self._clocks.note(entry.node, now.unix_s - entry.signed.record.expires_s)
            return
        for short in present:
            self.forget(short, Reason.EXPIRED.value)
        for short in late:
            gone = directory.gone.get(short)
            if gone is not None and now.monotonic_s - gone.since_s > GRAVE_S:
                self.forget(short, Reason.EXPIRED.value)
