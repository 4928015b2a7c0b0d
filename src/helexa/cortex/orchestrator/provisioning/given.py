"""Everything that a plan is made from, besides what the last one remembered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.provisioning.plan import Copy, Kind, Pending, Setback, Want
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId

_NOTHING: Final = Want()


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
    """False just after a start, while neurons may still be coming back: then what waits may use
    room that is free, and nothing is moved for it."""

    def want(self, model: ModelId) -> Want:
        return self.wants.get(model, _NOTHING)

    def max_wait_s(self, model: ModelId) -> float:
        """The longest that a request for it waits."""
        return self.catalogue.entry(model).max_wait_s or self.settings.max_wait_s

    def idle_timeout_s(self, model: ModelId) -> float:
        """0: it stays."""
        own = self.catalogue.entry(model).idle_timeout_s
        return self.settings.idle_timeout_s if own is None else own

    def setback(self, node: NodeId, model: ModelId, kind: Kind) -> Setback | None:
        """The one that still keeps this from being tried again."""
        if not self.setbacks:
            return None
        found = self.setbacks.get((node, model, kind))
        return found if found is not None and self.now_s < found.until_s else None
