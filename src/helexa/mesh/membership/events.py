"""What membership is told and what it says: the moment, the members, and what happened to them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from helexa.mesh.statements.records import SignedRecord
from helexa.protocol.gossip import Gossip
from helexa.protocol.ids import NodeId


@dataclass(frozen=True, slots=True)
class Moment:
    """Both clocks at once: spans are measured on the first, records are dated on the second."""

    monotonic_s: float
    unix_s: float


class State(enum.Enum):
    """What a node holds another for."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    """Somebody could not reach it; it has a few seconds to object."""
    DEAD = "dead"
    LEFT = "left"
    """It said so itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node as this one sees it."""

    signed: SignedRecord
    state: State
    since_s: float | None
    """On the monotonic clock, for every state but alive."""
    pulse: int
    """How often it had to object to suspicions of this record."""

    @property
    def node(self) -> NodeId:
        """Whose entry this is."""
        return self.signed.node

    @property
    def is_present(self) -> bool:
        """Alive, or not proven otherwise yet."""
        return self.state in (State.ALIVE, State.SUSPECT)


@dataclass(frozen=True, slots=True)
class Joined:
    """Seen for the first time, or again after it was dead or left."""

    member: Member


@dataclass(frozen=True, slots=True)
class Changed:
    """A newer record."""

    member: Member


@dataclass(frozen=True, slots=True)
class Suspected:
    """`by` is the first to say that it could not be reached."""

    member: Member
    by: NodeId


@dataclass(frozen=True, slots=True)
class Cleared:
    """The suspicion is over: it objected, or nobody confirmed."""

    member: Member


@dataclass(frozen=True, slots=True)
class Died:
    """Enough others could not reach it either, and it did not object in time."""

    member: Member
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """It said so itself."""

    member: Member


@dataclass(frozen=True, slots=True)
class Forgotten:
    """No longer a member at all: expired, pushed out, or not admitted any more."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something of `sender` was not taken and not passed on. `reason` is a label."""

    reason: str
    sender: NodeId


@dataclass(frozen=True, slots=True)
class Doubled:
    """Another machine publishes with this node's key."""

    instance: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ClockOff:
    """The clock here is `seconds` ahead (above 0) or behind of others', by their median."""

    seconds: float


Event: TypeAlias = (
    Joined | Changed | Suspected | Cleared | Died | Left | Forgotten | Rejected | Doubled | ClockOff
)


@dataclass(slots=True)
class Out:
    """What came of one call: messages in order, events in order, the links that are wanted."""

    sends: list[tuple[NodeId, Gossip]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    neighbours: frozenset[NodeId] = frozenset()
