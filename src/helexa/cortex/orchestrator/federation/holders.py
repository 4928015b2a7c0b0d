"""Which cortexes have which models: looked up by every request, so by model and trust at once.

In a mesh of thousands a popular model has thousands of holders, nearly all strangers;
the few that are trusted must be found without looking at the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from helexa.cortex.orchestrator.federation.peer import Peer
from helexa.mesh.trust import Trust
from helexa.protocol.ids import ModelId, NodeId

_LEVELS: Final = tuple(sorted(Trust, reverse=True))


class Holders:
    """Truthy when anybody has anything."""

    def __init__(self) -> None:
        self._by_level: dict[tuple[ModelId, Trust], dict[NodeId, Peer]] = {}
        self._counts: dict[ModelId, int] = {}

    def __contains__(self, model: ModelId) -> bool:
        return model in self._counts

    def __bool__(self) -> bool:
        return bool(self._counts)

    def of(self, model: ModelId) -> Iterator[Peer]:
        """The most trusted first."""
        for level in _LEVELS:
            yield from self._by_level.get((model, level), {}).values()

    def models(self) -> list[ModelId]:
        return sorted(self._counts)

    def put(self, peer: Peer) -> None:
        """As the peer is now; to be called whenever its models or its trust may have changed."""
        names, level = peer.names(), peer.standing.trust
        if peer.indexed == (level, names):
            return
        self.remove(peer)
        for model in names:
            self._by_level.setdefault((model, level), {})[peer.standing.node] = peer
            self._counts[model] = self._counts.get(model, 0) + 1
        peer.indexed = level, names

    def remove(self, peer: Peer) -> None:
        level, names = peer.indexed
        for model in names:
            holders = self._by_level[model, level]
            del holders[peer.standing.node]
            if not holders:
                del self._by_level[model, level]
            self._counts[model] -= 1
            if not self._counts[model]:
                del self._counts[model]
        peer.indexed = Trust.DENIED, frozenset()
