"""Signed statements: who suspects whom, who objects, who leaves, and what follows from that."""

from __future__ import annotations

from typing import Final

from helexa.mesh.membership.checks import Checks
from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.directory import Gone, Members
from helexa.mesh.membership.doubts import ACCUSERS_MAX, Doubt, Doubts
from helexa.mesh.membership.events import Cleared, Died, Joined, Left, State, Suspected
from helexa.mesh.membership.heads import PULSE_MAX
from helexa.mesh.membership.learning import Learning
from helexa.mesh.membership.notary import Entry, read
from helexa.mesh.membership.own import Own
from helexa.mesh.membership.partners import Partners
from helexa.mesh.statements.sealed import SealBroken
from helexa.protocol.gossip import Alive, Leaving, News, Suspicion
from helexa.protocol.ids import NodeId

ID_BYTES: Final = 32
STOOD_S: Final = 1_800.0
"""Who objected this recently lives behind something that lets strangers' dials not through: that
one more did not reach it says nothing. Those linked with it watch it."""


class Hearsay:
    """Acts on statements, whoever passed them on, once their signatures hold."""

    def __init__(
        self,
        desk: Desk,
        members: Members,
        *,
        partners: Partners,
        doubts: Doubts,
        checks: Checks,
        own: Own,
        learning: Learning,
    ) -> None:
        self._desk = desk
        self._partners = partners
        self._doubts = doubts
        self._checks = checks
        self._own = own
        self._learning = learning
        self._members = members

    def hear(self, sender: NodeId, statements: tuple[bytes, ...]) -> None:
        """Take what `sender` passed on; what is broken or forged is counted as its doing."""
        for blob in statements:
            self._partners.heard(sender, blob)
            try:
                statement = read(blob)
            except SealBroken:
                self._desk.reject("malformed", sender)
                continue
            match statement:
                case Suspicion():
                    self._suspicion(sender, blob, statement)
                case Alive():
                    self._alive(sender, blob, statement)
                case Leaving():
                    self._leaving(sender, blob, statement)

    # --- suspicions

    def _suspicion(self, sender: NodeId, blob: bytes, said: Suspicion) -> None:
        desk = self._desk
        if said.target.hex() == desk.me:
            self._accused(sender, blob, said)
            return
        target, accuser = self._present(said.target), self._present(said.accuser)
        if target is None or (said.sequence, said.pulse) != desk.directory.version(target.short):
            return
        doubt = self._doubts.about(target.short)
        if doubt is not None and (
            said.accuser.hex() in doubt.accusers or len(doubt.accusers) >= ACCUSERS_MAX
        ):
            return
        if accuser is None or accuser is target:
            desk.counters.rejected["accuser"] += 1
            return
        if not desk.is_proven(blob, said, sender):
            return
        if not self._doubts.may_accuse(accuser.node):
            desk.reject("voice", sender)
            return
        if doubt is None:
            doubt = self._doubts.open(target)
            desk.emit(Suspected(self._members.of(target), accuser.node))
        self._doubts.accuse(doubt, accuser.node, blob)
        self._partners.tell(blob, besides=sender)
        if target.node in self._partners or self._learning.is_volunteer():
            self._checks.start(target.node)

    def _accused(self, sender: NodeId, blob: bytes, said: Suspicion) -> None:
        version, accuser = (said.sequence, said.pulse), NodeId(said.accuser.hex())
        if not self._doubts.is_heard(accuser):
            # Nor by the others, who have seen as many of its lies answered.
            self._desk.reject("voice", sender)
        elif version == self._own.version:
            if self._desk.is_proven(blob, said, sender):
                self._doubts.mark(accuser)
                self._own.object(sender)
        elif version > self._own.version:
            # It says that this key signed a record that this run did not: to be seen, not believed.
            self._learning.want_own(sender, version)
        elif sender not in self._partners:
            self._own.show(sender)

    def nobody_reached(self, node: NodeId) -> None:
        """Suspect whom this node did not reach by any way, and say so if that helps."""
        desk = self._desk
        target = desk.directory.find(node)
        if target is None or target.short in desk.directory.gone:
            return
        doubt = self._doubts.about(target.short)
        is_first = doubt is None
        if is_first and node not in self._partners and self._stood(target):
            self._partners.shun(target)
            return
        doubt = doubt or self._doubts.open(target)
        doubt.by_me, doubt.heard = True, False
        if len(doubt.accusers) < ACCUSERS_MAX and self._doubts.may_accuse(desk.me):
            blob = self._accusation(target)
            self._doubts.accuse(doubt, desk.me, blob)
            desk.counters.suspicions += 1
            self._partners.tell(blob)
            # It may be this node's way there that is broken, and not its way here.
            desk.send(node, News(statements=(blob,)))
        self._doubts.pace(doubt)
        if is_first:
            desk.emit(Suspected(self._members.of(target), desk.me))

    def _stood(self, target: Entry) -> bool:
        stood_s = self._desk.directory.stood.get(target.short)
        return stood_s is not None and self._desk.now_s - stood_s < STOOD_S

    def heard_from(self, entry: Entry) -> None:
        """It spoke to this node itself."""
        doubt = self._doubts.about(entry.short)
        if doubt is not None:
            doubt.heard, doubt.by_me = True, False

    def died(self, doubt: Doubt) -> None:
        """A doubt ended in death."""
        desk, entry = self._desk, doubt.entry
        entry = desk.directory.entries[entry.short]
        evidence = tuple(doubt.accusers.values()) or (self._accusation(entry),)
        desk.directory.bury(entry.short, Gone(State.DEAD, desk.now_s, evidence))
        self._checks.stop(entry.node)
        self._partners.remove(entry)
        others = len(doubt.accusers.keys() - {desk.me})
        reason = (
            f"no answer to this node and {others} others"
            if doubt.by_me
            else (f"no answer to {others} others")
        )
        desk.emit(Died(self._members.of(entry), reason))

    def cleared(self, doubt: Doubt) -> None:
        """A doubt ended and its target lives."""
        entry = self._desk.directory.entries.get(doubt.entry.short)
        if entry is None or entry.short in self._desk.directory.gone:
            return
        self._desk.emit(Cleared(self._members.of(entry)))
        if doubt.by_me or (self._desk.me in doubt.accusers and not doubt.heard):
            self._partners.shun(entry)

    def _accusation(self, target: Entry) -> bytes:
        sequence, pulse = self._desk.directory.version(target.short)
        me = bytes.fromhex(self._desk.me)
        return self._desk.notary.seal(Suspicion(me, bytes.fromhex(target.node), sequence, pulse))

    # --- what members say of themselves

    def _alive(self, sender: NodeId, blob: bytes, said: Alive) -> None:
        desk = self._desk
        entry = self._entry(said.node)
        if entry is None or entry.node == desk.me:
            return
        sequence, pulse = desk.directory.version(entry.short)
        if said.sequence != sequence or not pulse < said.pulse <= PULSE_MAX:
            return
        gone = desk.directory.gone.get(entry.short)
        if gone is not None and gone.state is State.LEFT:
            return
        if not desk.is_proven(blob, said, sender):
            return
        desk.directory.object(entry.short, said.pulse, blob)
        desk.directory.stood[entry.short] = desk.now_s
        self._learning.retry_first.pop(entry.short, None)
        if gone is not None:
            self._partners.add(entry)
            desk.emit(Joined(self._members.of(entry)))
        else:
            self._doubts.refuted(entry.short)
        self._partners.tell(blob, besides=sender)

    def _leaving(self, sender: NodeId, blob: bytes, said: Leaving) -> None:
        desk = self._desk
        entry = self._entry(said.node)
        if entry is None or entry.node == desk.me or said.sequence != entry.sequence:
            return
        gone = desk.directory.gone.get(entry.short)
        if gone is not None and gone.state is State.LEFT:
            return
        if not desk.is_proven(blob, said, sender):
            return
        self._doubts.drop(entry.short)
        self._checks.stop(entry.node)
        desk.directory.bury(entry.short, Gone(State.LEFT, desk.now_s, (blob,)))
        self._partners.remove(entry)
        desk.emit(Left(self._members.of(entry)))
        self._partners.tell(blob, besides=sender)

    def _entry(self, node: bytes) -> Entry | None:
        return self._desk.directory.find(NodeId(node.hex())) if len(node) == ID_BYTES else None

    def _present(self, node: bytes) -> Entry | None:
        entry = self._entry(node)
        return None if entry is None or entry.short in self._desk.directory.gone else entry
