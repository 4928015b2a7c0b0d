"""Everyone this node knows of: records, who of them is gone, and sums to compare it all by.

Keyed by the short form of the node id, because that is what heads carry. What
is the usual case costs one reference: liveness is noted only of those that are
dead or left, a pulse only of those that had to object to a suspicion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from helexa.mesh.membership.events import Member, State
from helexa.mesh.membership.heads import Short, Sums, Version, pack, short_of
from helexa.mesh.membership.notary import Entry
from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId, is_node_id


@dataclass(frozen=True, slots=True)
class Gone:
    """Why a member is not there. Kept so that an old record cannot bring it back."""

    state: State
    since_s: float
    evidence: tuple[bytes, ...]
    """The sealed statements behind it: suspicions, or its own leaving."""


class Directory:
    """At most `members_max` records, this node's and those of the gone included."""

    def __init__(self, members_max: int) -> None:
        self.entries: dict[Short, Entry] = {}
        self.gone: dict[Short, Gone] = {}
        self.sums = Sums()
        self.stood: dict[Short, float] = {}
        """Who objected to a suspicion, and when last, on the monotonic clock."""
        self._members_max = members_max
        self._pulses: dict[Short, tuple[int, bytes]] = {}
        self._known: set[Short] = set()

    @property
    def present(self) -> int:
        """Everyone who is there, this node included."""
        return len(self.entries) - len(self.gone)

    def find(self, node: NodeId) -> Entry | None:
        """The entry of exactly that node."""
        entry = self.entries.get(short_of(node)) if is_node_id(node) else None
        return entry if entry is not None and entry.node == node else None

    def version(self, short: Short) -> Version:
        """Of somebody who is in."""
        pulse = self._pulses.get(short)
        return self.entries[short].sequence, pulse[0] if pulse else 0

    def head(self, short: Short) -> bytes:
        """What stands for the newest that is known of somebody who is in."""
        pulse = self._pulses.get(short)
        entry = self.entries[short]
        return pack(short, (entry.sequence, pulse[0])) if pulse else entry.head

    def objection(self, short: Short) -> tuple[bytes, ...]:
        """The sealed `Alive` behind a pulse above 0."""
        pulse = self._pulses.get(short)
        return (pulse[1],) if pulse else ()

    def put(self, entry: Entry, trust: Trust) -> None:
        """Take a record in, or a newer one in its place; its node is present from here on."""
        self._uncount(entry.short)
        self.gone.pop(entry.short, None)
        self._pulses.pop(entry.short, None)
        self.entries[entry.short] = entry
        self._sort(entry.short, trust)
        self.sums.toggle(entry.head)

    def object(self, short: Short, pulse: int, blob: bytes) -> None:
        """Note a higher pulse; whoever has one is present."""
        self._uncount(short)
        self.gone.pop(short, None)
        self._pulses[short] = (pulse, blob)
        self.sums.toggle(self.head(short))

    def bury(self, short: Short, gone: Gone) -> None:
        """Note that somebody who is in is dead or left, and why."""
        self._uncount(short)
        self.stood.pop(short, None)
        self.gone[short] = gone

    def drop(self, short: Short) -> None:
        """Forget somebody who is in, as if never heard of."""
        self._uncount(short)
        self.gone.pop(short, None)
        self._pulses.pop(short, None)
        self.stood.pop(short, None)
        self._known.discard(short)
        del self.entries[short]

    def rank(self, short: Short, trust: Trust) -> None:
        """Note that somebody who is in is trusted otherwise from now on."""
        self._sort(short, trust)

    def room_for(self, trust: Trust) -> Short | None:
        """Who has to go for a newcomer: b"" for nobody, None when there is no room.

        The gone make room for anybody, strangers for whoever the operator knows:
        the ones that came last first, as a flood of made-up ids does.
        """
        if len(self.entries) < self._members_max:
            return b""
        for short in self.gone:
            return short
        if trust > Trust.STRANGER:
            for short in reversed(self.entries):
                if short not in self._known:
                    return short
        return None

    def heads_in(self, buckets: frozenset[int]) -> dict[Short, bytes]:
        """The heads of everyone present in those buckets."""
        gone = self.gone
        return {
            short: self.head(short)
            for short in self.entries
            if short[0] in buckets and short not in gone
        }

    def _sort(self, short: Short, trust: Trust) -> None:
        if trust > Trust.STRANGER:
            self._known.add(short)
        else:
            self._known.discard(short)

    def _uncount(self, short: Short) -> None:
        if short in self.entries and short not in self.gone:
            self.sums.toggle(self.head(short))


class Members(Mapping[NodeId, Member]):
    """All but this node, as others read it; each member is made when it is looked at."""

    def __init__(self, me: NodeId, directory: Directory, suspects: Mapping[Short, float]) -> None:
        self._me = me
        self._directory = directory
        self._suspects = suspects

    def __getitem__(self, node: NodeId) -> Member:
        entry = self._directory.find(node)
        if entry is None or node == self._me:
            raise KeyError(node)
        return self.of(entry)

    def is_suspect(self, node: NodeId) -> bool:
        """Whether that member has been accused and has not objected yet."""
        entry = self._directory.find(node)
        return entry is not None and entry.short in self._suspects

    def of(self, entry: Entry) -> Member:
        """How that entry reads to others at this moment."""
        pulse = self._directory.version(entry.short)[1]
        gone = self._directory.gone.get(entry.short)
        if gone is not None:
            return Member(entry.signed, gone.state, gone.since_s, pulse)
        since_s = self._suspects.get(entry.short)
        state = State.ALIVE if since_s is None else State.SUSPECT
        return Member(entry.signed, state, since_s, pulse)

    def __iter__(self) -> Iterator[NodeId]:
        nodes = (entry.node for entry in self._directory.entries.values())
        return (node for node in nodes if node != self._me)

    def __len__(self) -> int:
        entries = self._directory.entries
        return len(entries) - (short_of(self._me) in entries)
