"""Everything that a plan is made from, besides what the last one remembered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.provisioning.plan import Copy, Kind, Pending, Setback, Want
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One consistent moment."""

    view: FleetView
    catalogue: Catalogue
    wants: Mapping[ModelId, Want]
    settings: OrchestratorSettings
    now_s: float
    pending: Collection[Pending] = ()
    setbacks: Mapping[tuple[NodeId, ModelId, Kind], Setback] = field(
        default_factory=lambda: MappingProxyType({})
    )
    in_flight: Mapping[Copy, int] = field(default_factory=lambda: MappingProxyType({}))
    """Requests of this cortex on each copy."""
    settled: bool = True
    """False just after a start, while neurons may still be coming back: then nothing is moved
    unless a request waits for it."""
