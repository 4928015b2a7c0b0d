"""Where a request may go, and why: the scheduler's answer as data."""

from __future__ import annotations

import msgspec

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import WorkloadClass


class RouteHints(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller or the ingress knows that the model name does not say."""

    session: str = ""
    """Requests with the same mark like to meet the same neuron."""
    prompt_bytes: int = 0
    exclude: tuple[NodeId, ...] = ()
    """Targets that already failed for this request."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    via: NodeId | None = None
    """The peer cortex to go through; None is a neuron registered here."""
    reason: str = ""


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    reason: str


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order to try them; empty `targets` is a refusal that `excluded` explains."""

    model: ModelId
    workload: WorkloadClass
    targets: tuple[Target, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    policy: str = ""
