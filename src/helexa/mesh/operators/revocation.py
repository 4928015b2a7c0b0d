"""Which nodes an operator no longer vouches for, and the newest such list of each operator.

A list travels inside the records of its operator's nodes, so every cortex that
knows one of them learns it. A list is whole each time and only ever replaced by
one with a higher version: dropping a node from view takes the operator's key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from helexa.mesh import identity
from helexa.mesh.operators.operator import SUCCESSIONS_MAX, OperatorKey
from helexa.mesh.statements.sealed import SealBroken, Verify, peel, prove, seal
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.protocol.records import Revocations

REVOKED_MAX: Final = 256
"""17 KB: a full list leaves half of its node's record for everything else. A node leaves the list
when its certificate expires, so only what was revoked within a certificate's life counts."""
REVOCATIONS_BYTES_MAX: Final = 20_000
VERSION_MAX: Final = 1 << 53
"""Beyond it a number is not exact in JSON."""
OPERATORS_MAX: Final = 4_096
NODES_MAX: Final = 65_536
"""Over all operators: with the lists themselves about 15 MB."""


def revoke(key: OperatorKey, nodes: Sequence[NodeId], *, version: int, now_s: float) -> bytes:
    """Sealed `Revocations` of all of `nodes`: the whole list, above every `version` before.

    Raises ValueError for what every reader would refuse.
    """
    unique = tuple(dict.fromkeys(nodes))
    if len(unique) > REVOKED_MAX:
        raise ValueError(f"{len(unique)} nodes; a list holds at most {REVOKED_MAX}")
    if not all(map(is_node_id, unique)):
        raise ValueError("a node id is 64 hexadecimal digits in lower case")
    if not 1 <= version <= VERSION_MAX:
        raise ValueError(f"version {version}; accepted are 1..{VERSION_MAX}")
    return seal(
        key.sign,
        Revocations(operator=key.operator_id, version=version, issued_s=int(now_s), nodes=unique),
    )


def read_revocations(blob: bytes, verify: Verify = identity.verify) -> Revocations:
    """The list in `blob`, proven. Raises SealBroken."""
    found = _peel(blob)
    prove(blob, found, found.operator, verify)
    return found


class _Held(NamedTuple):
    version: int
    blob: bytes
    nodes: frozenset[NodeId]
    earlier: tuple[OperatorId, ...] = ()
    """Ids under which it is entered as an heir."""


def _nothing() -> None:
    return None


class RevocationBook:
    """The newest proven list of each operator. One owner, no waiting.

    Bounded: the operator heard of longest ago is forgotten first, and never one
    of `pinned` (a node's own operator and those it trusts); the next records of
    an operator's nodes bring its list back.
    """

    def __init__(
        self, *, verify: Verify = identity.verify, pinned: Sequence[OperatorId] = ()
    ) -> None:
        self.on_change: Callable[[], None] = _nothing
        """Called when a node was revoked, or is no longer: links and members are to be looked at
        again. It may ask this book, and must not wait."""
        self._verify = verify
        self._pinned = frozenset(pinned)
        self._lists: OrderedDict[OperatorId, _Held] = OrderedDict()
        self._heirs: dict[OperatorId, dict[OperatorId, None]] = {}
        self._nodes = 0

    def take(self, blob: bytes, *, identities: Sequence[OperatorId] = ()) -> bool:
        """Keep the list in `blob` if it is newer than the one held; whether it was.

        `identities` are the signer's proven ids, its own first: what it revokes
        is revoked under its earlier ids too, since a node may still show the
        certificate of an earlier key. Raises SealBroken.
        """
        found = _peel(blob)
        held = self._lists.get(found.operator)
        if held is not None and found.version <= held.version and held.blob != blob:
            return False
        changed = False
        if is_new := held is None or held.blob != blob:
            prove(blob, found, found.operator, self._verify)
            changed = self._keep(found, blob, held)
        self._lists.move_to_end(found.operator)
        if identities and identities[0] == found.operator:
            changed |= self._inherit(found.operator, identities[1:])
        self._forget_oldest()
        if changed:
            self.on_change()
        return is_new

    def is_revoked(self, operator: OperatorId, node: NodeId) -> bool:
        """Whether `operator`, or one that took its place, revoked `node`."""
        for signer in (operator, *self._heirs.get(operator, ())):
            held = self._lists.get(signer)
            if held is not None and node in held.nodes:
                return True
        return False

    def newest(self, operator: OperatorId) -> bytes:
        """The sealed list of `operator` as it came, empty where none is known."""
        held = self._lists.get(operator)
        return held.blob if held is not None else b""

    def __len__(self) -> int:
        return len(self._lists)

    def _keep(self, found: Revocations, blob: bytes, held: _Held | None) -> bool:
        kept = _Held(found.version, blob, frozenset(found.nodes), held.earlier if held else ())
        before = held.nodes if held else frozenset()
        self._lists[found.operator] = kept
        self._nodes += len(kept.nodes) - len(before)
        return kept.nodes != before

    def _inherit(self, heir: OperatorId, earlier: Sequence[OperatorId]) -> bool:
        held, before = self._lists[heir], self._lists[heir].earlier
        for old in earlier[:SUCCESSIONS_MAX]:
            heirs = self._heirs.setdefault(old, {})
            if heir not in heirs and len(heirs) < SUCCESSIONS_MAX:
                heirs[heir] = None
                held = held._replace(earlier=(*held.earlier, old))
        self._lists[heir] = held
        return held.earlier != before and bool(held.nodes)

    def _forget_oldest(self) -> None:
        for _ in range(len(self._lists)):
            if len(self._lists) <= OPERATORS_MAX and self._nodes <= NODES_MAX:
                return
            operator, held = self._lists.popitem(last=False)
            if operator in self._pinned:
                self._lists[operator] = held
                continue
            self._nodes -= len(held.nodes)
            for old in held.earlier:
                self._heirs[old].pop(operator)
                if not self._heirs[old]:
                    del self._heirs[old]


def _peel(blob: bytes) -> Revocations:
    found = peel(blob, Revocations, bytes_max=REVOCATIONS_BYTES_MAX)
    if len(found.nodes) > REVOKED_MAX or not all(map(is_node_id, found.nodes)):
        raise SealBroken(f"not a list of at most {REVOKED_MAX} node ids")
    if not 1 <= found.version <= VERSION_MAX:
        raise SealBroken(f"version {found.version}; accepted are 1..{VERSION_MAX}")
    return found
