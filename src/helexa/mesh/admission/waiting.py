"""Who waits for the operator's decision: a queue that strangers cannot fill for one another.

Anybody can make keys and knock with each, so the queue is short, and when it is
full the address that brought the most gives way first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from helexa.mesh.admission.rules import Applicant
from helexa.mesh.statements.plain_text import NAME_CHARS_MAX, plain
from helexa.protocol.ids import NodeId, OperatorId
from helexa.protocol.messages import Role

WAITING_MAX: Final = 256
"""More than a person decides about in a sitting; whoever is dropped knocks again."""
WAITING_S: Final = 86_400
"""A peer that waits dials again within minutes; one silent for a day has given up."""
_ADDRESS_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One applicant, and when it knocked (unix seconds)."""

    applicant: Applicant
    first_s: float
    last_s: float
    times: int = 1

    @property
    def node(self) -> NodeId:
        """Proven by its link."""
        return self.applicant.node

    @property
    def operator(self) -> OperatorId:
        """Proven by its certificate; the node's own id where it shows none."""
        return self.applicant.operator

    @property
    def role(self) -> Role:
        """What it asks to be."""
        return self.applicant.role

    @property
    def name(self) -> str:
        """What it calls itself, fit for a terminal; nothing vouches for it."""
        return plain(self.applicant.name, NAME_CHARS_MAX)

    @property
    def address(self) -> str:
        """Where its last knock came from, `IP:PORT`."""
        return plain(self.applicant.address, _ADDRESS_CHARS_MAX)

    @property
    def host(self) -> str:
        """`address` without the port."""
        return self.address.rpartition(":")[0]


class WaitingRoom:
    """Bounded, in the order of the last knock."""

    def __init__(self) -> None:
        self._rows: dict[NodeId, Waiting] = {}

    def knock(self, applicant: Applicant, now_s: float) -> bool:
        """Note the applicant as seen now; whether it was not waiting before."""
        # The invite did not help, and the next visit brings another one or none.
        applicant = replace(applicant, invite=None)
        before = self._rows.pop(applicant.node, None)
        if before is None:
            self._drop_stale(now_s)
            if len(self._rows) >= WAITING_MAX:
                self._make_room()
            row = Waiting(applicant=applicant, first_s=now_s, last_s=now_s)
        else:
            row = replace(before, applicant=applicant, last_s=now_s, times=before.times + 1)
        self._rows[applicant.node] = row
        return before is None

    def discard(self, node: NodeId) -> None:
        """Whatever became of `node`, it waits no longer."""
        self._rows.pop(node, None)

    def rows(self, now_s: float) -> list[Waiting]:
        """Whoever knocked within the last day, the longest waiting first."""
        self._drop_stale(now_s)
        return sorted(self._rows.values(), key=lambda row: row.first_s)

    def _drop_stale(self, now_s: float) -> None:
        for row in [row for row in self._rows.values() if row.last_s < now_s - WAITING_S]:
            del self._rows[row.node]

    def _make_room(self) -> None:
        crowd, _ = Counter(row.host for row in self._rows.values()).most_common(1)[0]
        oldest = next(row for row in self._rows.values() if row.host == crowd)
        del self._rows[oldest.node]
