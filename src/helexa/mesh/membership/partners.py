"""The few members that a node exchanges news with: those it picked and those that picked it.

Everything regular rides on these links, so a node's traffic does not grow with
the mesh. Each piece of news goes over each link once at most, not back to whom
it came from and not to whom has said it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.heads import Short
from helexa.mesh.membership.notary import Entry
from helexa.mesh.membership.view import View
from helexa.protocol.gossip import News
from helexa.protocol.ids import NodeId

HEADS_WAITING_MAX: Final = 2_048
"""For one partner; the oldest go unsaid, and comparing sums finds them."""
HEADS_AT_ONCE: Final = 256
STATEMENTS_WAITING_MAX: Final = 256
STATEMENTS_AT_ONCE: Final = 32
CHOOSER_S: Final = 60.0
"""A neighbour's probes come every few seconds; without any for this long it chose another."""

SHUN_S: Final = 600.0
DETOURS_MAX: Final = 3
"""In a row, until one that only others reach is not worth being a neighbour. Not the first: at 10%
loss, one probe in seventy is answered to a helper sooner."""
SHUNNED_MAX: Final = 64


class Partner:
    """A member that news goes to, and what waits to be told to it."""

    __slots__ = ("heads", "node", "short", "statements")

    def __init__(self, entry: Entry) -> None:
        self.node = entry.node
        self.short = entry.short
        self.heads: dict[Short, None] = {}
        self.statements: dict[bytes, None] = {}


class Partners:
    """Whom this node picked, whom picked it, and what they are told."""

    def __init__(self, desk: Desk) -> None:
        self.neighbours: frozenset[NodeId] = frozenset()
        """Those this node picked: whom it wants links with."""
        self._desk = desk
        preset = desk.preset
        salt = desk.random.randbytes(16)
        self._view = View(salt, preset.chosen, preset.of_one_operator)
        self._choosers: dict[NodeId, float] = {}
        self._shunned: dict[Short, None] = {}
        self._detours: dict[NodeId, int] = {}
        self._partners: dict[NodeId, Partner] = {}
        self._round: list[NodeId] = []
        self._heads_timed = self._statements_timed = False

    def __contains__(self, node: NodeId) -> bool:
        return node in self._partners

    def __len__(self) -> int:
        return len(self._partners)

    @property
    def nodes(self) -> list[NodeId]:
        """All of them, in no order."""
        return list(self._partners)

    # --- who

    def add(self, entry: Entry) -> None:
        """Somebody is present, newly or with a newer record."""
        if entry.short not in self._shunned and self._view.add(entry):
            self._arrange()

    def meet(self, entry: Entry) -> None:
        """It spoke to this node itself."""
        if self._view.meet(entry.short):
            self._arrange()

    @property
    def trials(self) -> tuple[NodeId, ...]:
        """Who would be picked if it answered."""
        return self._view.trials

    def remove(self, entry: Entry) -> None:
        """Somebody is not present any more; the directory says so already."""
        was_chooser = self._choosers.pop(entry.node, None) is not None
        if self._view.remove(entry.short, self._candidates()) or was_chooser:
            self._arrange()

    def shun(self, entry: Entry) -> None:
        """Not to be picked for a while: this node cannot reach it, though others can."""
        if self._shun(entry):
            self._desk.after(SHUN_S, lambda: self._forgive(entry.short))

    def reached(self, node: NodeId, *, directly: bool) -> None:
        """It answered: this node itself, or helpers alone."""
        if directly:
            self._detours.pop(node, None)
            return
        detours = self._detours.get(node, 0) + 1
        if node in self.neighbours and detours < DETOURS_MAX:
            self._detours[node] = detours
            return
        self._detours.pop(node, None)
        entry = self._desk.directory.find(node)
        if entry is not None and (node in self.neighbours or node in self._view.trials):
            self.shun(entry)

    def _shun(self, entry: Entry) -> bool:
        if entry.short in self._shunned or len(self._shunned) >= SHUNNED_MAX:
            return False
        self._shunned[entry.short] = None
        if self._view.remove(entry.short, self._candidates()):
            self._arrange()
        return True

    def _forgive(self, short: Short) -> None:
        self._shunned.pop(short, None)
        directory = self._desk.directory
        if short in directory.entries and short not in directory.gone:
            self.add(directory.entries[short])

    def _candidates(self) -> Iterator[Entry]:
        directory = self._desk.directory
        for short, entry in directory.entries.items():
            if not (
                short in directory.gone or short in self._shunned or short == self._desk.my_short
            ):
                yield entry

    def was_chosen_by(self, node: NodeId) -> None:
        """That member says that it picked this node."""
        if node not in self._choosers:
            self._forget_choosers()
            entry = self._desk.directory.find(node)
            full = len(self._choosers) >= self._desk.preset.choosers_max
            if full or entry is None or entry.short in self._desk.directory.gone:
                return
            self._choosers[node] = self._desk.now_s
            self._arrange()
        self._choosers[node] = self._desk.now_s

    def next(self) -> NodeId | None:
        """Each in turn, in a new order every round."""
        while self._round:
            node = self._round.pop()
            if node in self._partners:
                return node
        self._forget_choosers()
        self._round = list(self._partners)
        self._desk.random.shuffle(self._round)
        return self._round.pop() if self._round else None

    def some(self, count: int, *, besides: Iterable[NodeId]) -> list[NodeId]:
        """Up to `count` of them by chance."""
        out = set(besides)
        others = [node for node in self._partners if node not in out]
        return self._desk.random.sample(others, min(count, len(others)))

    def _forget_choosers(self) -> None:
        oldest_s = self._desk.now_s - CHOOSER_S
        late = [node for node, heard_s in self._choosers.items() if heard_s < oldest_s]
        for node in late:
            del self._choosers[node]
        if late:
            self._arrange()

    def _arrange(self) -> None:
        wanted = {entry.node: entry for entry in self._view.chosen}
        self.neighbours = frozenset(wanted)
        self._detours = {node: n for node, n in self._detours.items() if node in wanted}
        for node in self._choosers:
            entry = self._desk.directory.find(node)
            if entry is not None:
                wanted.setdefault(node, entry)
        before = self._partners
        self._partners = {
            node: before.get(node) or Partner(entry) for node, entry in wanted.items()
        }

    # --- what they are told

    def tell_head(self, short: Short, *, besides: NodeId | None = None) -> None:
        """Have all partners learn of that record within a period, but `besides`."""
        for partner in self._partners.values():
            # Whom it is about as well: that is how it notices a double.
            if partner.node != besides:
                if len(partner.heads) >= HEADS_WAITING_MAX:
                    del partner.heads[next(iter(partner.heads))]
                partner.heads[short] = None
        if not self._heads_timed:
            self._heads_timed = True
            self._desk.after(self._desk.preset.period_s, self._flush_heads)

    def tell(self, statement: bytes, *, besides: NodeId | None = None) -> None:
        """Have all partners learn of a sealed statement at once, but `besides`."""
        for partner in self._partners.values():
            if partner.node != besides:
                if len(partner.statements) >= STATEMENTS_WAITING_MAX:
                    del partner.statements[next(iter(partner.statements))]
                partner.statements[statement] = None
        if not self._statements_timed:
            self._statements_timed = True
            self._desk.after(self._desk.preset.urgent_s, self._flush_statements)

    def heard_head(self, sender: NodeId, short: Short) -> None:
        """That one knows already."""
        partner = self._partners.get(sender)
        if partner is not None:
            partner.heads.pop(short, None)

    def heard(self, sender: NodeId, statement: bytes) -> None:
        """That one knows the statement already."""
        partner = self._partners.get(sender)
        if partner is not None:
            partner.statements.pop(statement, None)

    def take(self, node: NodeId) -> tuple[bytes, tuple[bytes, ...]]:
        """What waits for that node, to ride on a message that goes to it anyway."""
        partner = self._partners.get(node)
        if partner is None or not (partner.heads or partner.statements):
            return b"", ()
        return self._heads_of(partner), self._statements_of(partner)

    def _heads_of(self, partner: Partner) -> bytes:
        directory = self._desk.directory
        heads: list[bytes] = []
        while partner.heads and len(heads) < HEADS_AT_ONCE:
            short = next(iter(partner.heads))
            del partner.heads[short]
            if short in directory.entries and short not in directory.gone:
                heads.append(directory.head(short))
        return b"".join(heads)

    def _statements_of(self, partner: Partner) -> tuple[bytes, ...]:
        first = list(partner.statements)[:STATEMENTS_AT_ONCE]
        for statement in first:
            del partner.statements[statement]
        return tuple(first)

    def _flush_heads(self) -> None:
        self._heads_timed = False
        waiting = False
        for partner in self._partners.values():
            if partner.heads:
                self._flush(partner)
            waiting = waiting or bool(partner.heads)
        if waiting:
            self._heads_timed = True
            self._desk.after(self._desk.preset.period_s, self._flush_heads)

    def _flush_statements(self) -> None:
        self._statements_timed = False
        waiting = False
        for partner in self._partners.values():
            if partner.statements:
                self._flush(partner)
            waiting = waiting or bool(partner.statements)
        if waiting:
            self._statements_timed = True
            self._desk.after(self._desk.preset.urgent_s, self._flush_statements)

    def _flush(self, partner: Partner) -> None:
        heads, statements = self._heads_of(partner), self._statements_of(partner)
        if heads or statements:
            self._desk.send(partner.node, News(heads=heads, statements=statements))
