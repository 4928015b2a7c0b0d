"""What came of the exchange so far: for status, metrics and logs."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from helexa.protocol.ids import ModelId, NodeId

DROPPED_MAX: Final = 32
"""The last ones are said."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Figures:
    given_bytes: int = 0
    taken_bytes: int = 0
    refused_pieces: int = 0
    """Pieces that were not what they should be."""
    dropped_peers: int = 0
    dropped: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=DROPPED_MAX))

    def drop(self, model: ModelId, node: NodeId, reason: str) -> None:
        self.dropped_peers += 1
        self.dropped.append({"node": node, "model": model, "reason": reason})
        log.warning("peer dropped", extra={"peer": node, "model": model, "reason": reason})

    def standing(self) -> dict[str, Any]:
        return {
            "given_bytes": self.given_bytes,
            "taken_bytes": self.taken_bytes,
            "refused_pieces": self.refused_pieces,
            "dropped_peers": self.dropped_peers,
            "dropped": list(self.dropped),
        }
