"""Decisions that cannot be another for the next request, kept while nothing changes.

Where one neuron has a model there is nothing to weigh: the same request has the same answer
until the fleet, the catalogue or what gives way is another. A decision costs a tenth of what
the gateway does for a request.
"""

from __future__ import annotations

from typing import Final

from helexa.cortex.orchestrator.breakers import Breakers
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.work import WorkloadClass

KEPT_MAX: Final = 1_024
THE_ONLY_ONE: Final = "the only one"
"""How a policy says that it had no choice; its words are the same at any load then."""


class Settled:
    __slots__ = ("_catalogue", "_keeps", "_view", "_yielding", "decisions")

    def __init__(self) -> None:
        self.decisions: dict[tuple[WorkloadClass, ModelId], RoutingDecision] = {}
        self._keeps = False
        self._view: FleetView | None = None
        self._catalogue: Catalogue | None = None
        self._yielding: frozenset[tuple[NodeId, ModelId]] | None = None

    def holds(
        self,
        view: FleetView,
        catalogue: Catalogue,
        yielding: frozenset[tuple[NodeId, ModelId]],
        breakers: Breakers,
    ) -> bool:
        """Whether what is kept still stands; what does not is forgotten."""
        same = view is self._view and catalogue is self._catalogue and yielding is self._yielding
        # Whom failures put aside comes back with time alone.
        self._keeps = not breakers.known
        if same and self._keeps:
            return True
        self.decisions.clear()
        self._view, self._catalogue, self._yielding = view, catalogue, yielding
        return False

    def keep(self, decision: RoutingDecision) -> None:
        """Of a request without wishes of its own, right after `holds` was asked."""
        model, targets, catalogue = decision.model, decision.targets, self._catalogue
        if (
            self._keeps
            and len(targets) == 1
            and targets[0].ready
            and targets[0].reason.endswith(THE_ONLY_ONE)
            and not decision.excluded
            # What an alias leads to is drawn anew for each.
            and decision.choices == (model,)
            and catalogue is not None
            and model not in catalogue.aliases
            and len(self.decisions) < KEPT_MAX
        ):
            self.decisions[decision.workload, model] = decision
