"""The record of this node: signed anew when it changes, no oftener than the mesh can carry."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.events import Doubled
from helexa.mesh.membership.heads import PULSE_MAX, Version
from helexa.mesh.membership.limits import Allowance
from helexa.mesh.membership.notary import Entry
from helexa.mesh.membership.partners import Partners
from helexa.mesh.statements.records import SEQUENCE_MAX, RecordRejected
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import Alive, Leaving, News, Records
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Record

HEADS_OF_ONE_RECORD_BYTES: Final = 250
"""What a record costs a node besides its own bytes: heads from and to eight partners, a want."""
LIFETIME_IN_REFRESHES: Final = 4
PUBLISH_S_MAX: Final = 86_400.0
"""However large the mesh: four of these are within what a record may live."""


def publish_every_s(desk: Desk, record_bytes: int) -> float:
    """Between two records of one node so that those of all stay within what they may cost."""
    each_bytes = record_bytes + HEADS_OF_ONE_RECORD_BYTES
    fair_s = desk.directory.present * each_bytes / desk.preset.spread_bytes_per_s
    return min(PUBLISH_S_MAX, max(desk.preset.publish_min_s, fair_s))


class Own:
    """Says what this node is, and objects when it is said to be dead."""

    def __init__(self, desk: Desk, partners: Partners) -> None:
        self.has_left = False
        self._desk = desk
        self._partners = partners
        self._draft: Record | None = None
        self._allowance: Allowance | None = None
        self._sequence = 0
        self._timed = False
        self._issues = 0
        self._surpassed = False
        # Each answers an accusation; a liar that is heard can have one in two seconds.
        self._objections = Allowance(20, 2, 0.0)

    @property
    def entry(self) -> Entry | None:
        """What was published last, or None."""
        return self._desk.directory.entries.get(self._desk.my_short)

    @property
    def version(self) -> Version:
        """Of what was published last; (0, 0) before that."""
        return self._desk.directory.version(self._desk.my_short) if self.entry else (0, 0)

    def publish(self, draft: Record) -> None:
        """Sign now if that is fair to the others, else as soon as it is. The newest draft holds."""
        self._draft = draft
        self._issue_when_fair()

    def is_doubled_by(self, other: Entry) -> None:
        """A record of this key that this run did not sign: of an earlier run, or of a double."""
        record = other.signed.record
        other_run = self.entry is None or record.instance != self.entry.signed.record.instance
        # An earlier run can be ahead once, by a clock that was set back since; it cannot go on.
        if other_run and self._surpassed:
            self._desk.emit(Doubled(record.instance, record.sequence))
        self._surpassed = True
        self._sequence = max(self._sequence, record.sequence)
        self._try_again()

    def object(self, sender: NodeId) -> None:
        """Say that this node lives, to everyone, and to `sender` at once."""
        entry = self.entry
        if entry is None or self.has_left or not self._objections.take(self._desk.now_s):
            return
        sequence, pulse = self.version
        if pulse >= PULSE_MAX:
            self._try_again()
            return
        blob = self._desk.notary.seal(Alive(bytes.fromhex(self._desk.me), sequence, pulse + 1))
        self._desk.directory.object(entry.short, pulse + 1, blob)
        self._partners.tell(blob)
        if sender not in self._partners:
            self._desk.send(sender, News(statements=(blob,)))

    def show(self, node: NodeId) -> None:
        """Send this node's record, and its pulse, to one who may not know it."""
        entry = self.entry
        if entry is not None:
            objection = self._desk.directory.objection(entry.short)
            self._desk.send(node, Records(records=(entry.signed.blob,), statements=objection))

    def leave(self) -> bytes:
        """The sealed goodbye. Nothing is published after it."""
        self.has_left = True
        return self._desk.notary.seal(Leaving(bytes.fromhex(self._desk.me), self.version[0]))

    def _issue_when_fair(self) -> None:
        desk = self._desk
        if self._draft is None or self.has_left or self._timed:
            return
        record_bytes = len(self.entry.signed.blob) if self.entry else 0
        rate = 1 / publish_every_s(desk, record_bytes)
        if self._allowance is None:
            self._allowance = Allowance(3, rate, desk.now_s)
        self._allowance.repace(rate, desk.now_s)
        if self._allowance.take(desk.now_s):
            self._issue(self._draft)
            return
        self._timed = True
        # Later by up to a half, so that a mesh that was switched on at once does not speak at once.
        wait_s = self._allowance.wait_s(desk.now_s) * (1 + desk.random.random() / 2)
        desk.after(wait_s, self._wait_is_over)

    def _wait_is_over(self) -> None:
        self._timed = False
        self._try_again()

    def _try_again(self) -> None:
        try:
            self._issue_when_fair()
        except RecordRejected as rejected:
            # Found late, because this draft had to wait: what was published before stands.
            self._draft = None
            self._desk.reject(rejected.reason.value, self._desk.me)

    def _issue(self, draft: Record) -> None:
        desk = self._desk
        unix_s = int(desk.now.unix_s)
        record_bytes = len(self.entry.signed.blob) if self.entry else 0
        refresh_s = max(desk.preset.refresh_s, publish_every_s(desk, record_bytes))
        sequence = max(self._sequence + 1, int(desk.now.unix_s * 1_000))
        # A double may have spent all numbers; what is signed here stays valid.
        self._sequence = min(sequence, SEQUENCE_MAX)
        entry = desk.notary.sign(
            msgspec.structs.replace(
                draft,
                node=desk.me,
                sequence=self._sequence,
                issued_s=unix_s,
                expires_s=unix_s + int(LIFETIME_IN_REFRESHES * refresh_s),
            )
        )
        desk.directory.put(entry, Trust.OWN)
        self._partners.tell_head(entry.short)
        self._issues += 1
        issue = self._issues

        def refresh() -> None:
            if self._issues == issue:
                self._try_again()

        desk.after(desk.jittered(refresh_s), refresh)
