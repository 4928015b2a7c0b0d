"""Whether this node's clock is wrong: one that is a day off gets everything else right and no
member at all, and its operator has to be told why.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.events import ClockOff
from helexa.protocol.ids import NodeId

OFF_S: Final = 60.0
"""Half of what records are forgiven: said before it hurts."""
SAID_EVERY_S: Final = 600.0
NODES_MAX: Final = 16
NODES_ENOUGH: Final = 3


class Clocks:
    """Compares this machine's clock with what others say of theirs, in seconds."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ahead: OrderedDict[NodeId, float] = OrderedDict()
        self._said_s: float | None = None

    def note(self, node: NodeId, ahead_s: float) -> None:
        """Our clock is `ahead_s` ahead of that node's, by its own signed or authenticated word."""
        self._ahead[node] = ahead_s
        self._ahead.move_to_end(node)
        if len(self._ahead) > NODES_MAX:
            self._ahead.popitem(last=False)
        if abs(ahead_s) > OFF_S:
            self._judge()

    def _judge(self) -> None:
        others = self._desk.directory.present - 1
        # Whose record was taken is a witness. A stranger is one only for a node that knows nobody:
        # else one visitor with a wrong clock would make others doubt theirs.
        witnesses = sorted(
            ahead_s for node, ahead_s in self._ahead.items() if others < 1 or self._is_present(node)
        )
        if len(witnesses) < min(NODES_ENOUGH, max(1, others)):
            return
        # Of two in the middle the one that this clock agrees with better.
        middle = witnesses[(len(witnesses) - 1) // 2 : len(witnesses) // 2 + 1]
        ahead_s = min(middle, key=abs)
        now_s = self._desk.now_s
        due = self._said_s is None or now_s - self._said_s >= SAID_EVERY_S
        if abs(ahead_s) > OFF_S and due:
            self._said_s = now_s
            self._desk.emit(ClockOff(ahead_s))

    def _is_present(self, node: NodeId) -> bool:
        entry = self._desk.directory.find(node)
        return entry is not None and entry.short not in self._desk.directory.gone
