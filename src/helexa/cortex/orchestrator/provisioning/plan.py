"""What a plan is made of, and made from: the words between planner, actor and waiting room."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState, Progress

Copy: TypeAlias = tuple[NodeId, ModelId]
"""A model on a neuron, whatever its state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """The demand for one model here. Models that nobody asks for have none."""

    waiting: int = 0
    """Requests that wait for it to be served anywhere."""
    oldest_s: float = 0.0
    """How long the first of them waits."""
    in_flight: int = 0
    """Requests that were sent to a neuron."""
    rate_per_s: float = 0.0
    """Arrivals, smoothed over about a minute."""
    idle_s: float = 0.0
    """Since the last request came or ended."""
    queued: int = 0
    """Requests that wait at the gateway for a slot, while it is served."""
    queue_s: float = 0.0
    """About how long each of them waits."""


class Kind(enum.Enum):
    PULL = "pull"
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    kind: Kind
    node: NodeId
    model: ModelId
    reason: str
    """For the operator, as the rest of a sentence."""

    @property
    def node_model(self) -> Copy:
        return self.node, self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An action that was given. It ends with its answer, or at its deadline."""

    action: Action
    given_s: float
    memory_bytes: int = 0
    """That it takes (load) or frees (unload)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """Actions of one kind that failed: none of the same before `until_s`."""

    failures: int
    until_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A copy that holds memory, as the last plan saw it."""

    state: ModelState
    since_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a copy still stands for in a report that is older than its state."""

    sequence: int
    """Of the report."""
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """What a neuron announced, and of it what is more than a file. Most lists stay as they are
    between two plans, and looking through them all is most of what a plan would cost.
    """

    capabilities: Mapping[ModelId, ModelCapability]
    in_use: tuple[ModelCapability, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one plan leaves to the next. A cortex that starts anew begins with none of it."""

    listed: Mapping[NodeId, Listed] = field(default_factory=lambda: MappingProxyType({}))
    seen: Mapping[Copy, Seen] = field(default_factory=lambda: MappingProxyType({}))
    freed: Mapping[Copy, Told] = field(default_factory=lambda: MappingProxyType({}))
    """Copies that left since their neuron's last report, which counts them still."""
    uncounted: Mapping[Copy, int] = field(default_factory=lambda: MappingProxyType({}))
    """Copies that the report of this number names although they held nothing by then."""
    yielding: Mapping[Copy, ModelId] = field(default_factory=lambda: MappingProxyType({}))
    """Copies that get no new requests, and for which model."""
    superfluous_s: Mapping[ModelId, float] = field(default_factory=lambda: MappingProxyType({}))
    """Since when a model has a replica more than it needs."""
    short_s: Mapping[ModelId, float] = field(default_factory=lambda: MappingProxyType({}))
    """Since when it has fewer than `replicas_min`."""
    scaled_s: Mapping[ModelId, float] = field(default_factory=lambda: MappingProxyType({}))
    """When a replica was added last because of its queue."""
    lost_s: Mapping[ModelId, float] = field(default_factory=lambda: MappingProxyType({}))
    """When it went with its neuron."""
    pulled_s: Mapping[Copy, float] = field(default_factory=lambda: MappingProxyType({}))
    """When a neuron was told to pull it last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What those who wait for a model are told."""

    progress: Progress
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    actions: tuple[Action, ...] = ()
    """In this order; none depends on the effect of another of the same plan."""
    outlooks: Mapping[ModelId, Outlook] = field(default_factory=lambda: MappingProxyType({}))
    """For each model with waiting requests that is not served yet."""
    hopeless: Mapping[ModelId, str] = field(default_factory=lambda: MappingProxyType({}))
    """Models with waiting requests that nothing here can ever serve as things stand, and why."""
    yielding: frozenset[Copy] = frozenset()
    """No new requests go there, so that it becomes idle and can make room."""
