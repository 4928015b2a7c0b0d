"""How far a node is trusted, as a word that policies can name."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from helexa.protocol.ids import NodeId, OperatorId


class Trust(enum.IntEnum):
    """Ordered: a rule that names a level means that level and all above it."""

    DENIED = 0
    STRANGER = 1
    """Admitted because this node is open; nobody said anything about it."""
    KNOWN = 2
    """Admitted by name: invited, approved or listed."""
    TRUSTED = 3
    """The operator said so."""
    OWN = 4
    """A node of the same operator."""

    @property
    def word(self) -> str:
        """As an operator writes it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Trust:
        """Raises ValueError naming the levels."""
        try:
            return cls[word.upper()]
        except KeyError:
            levels = ", ".join(level.word for level in cls)
            raise ValueError(f"{word!r} is no trust level; use one of {levels}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who a peer is here: proven identity, and what this node's operator makes of it."""

    node: NodeId
    operator: OperatorId
    trust: Trust
    name: str = ""
    region: str = ""
