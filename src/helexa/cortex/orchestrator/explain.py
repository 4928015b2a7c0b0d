"""Why a request would go where it would: every candidate with what the decision went by.

For people, so nothing is left out and nothing is drawn by lot but what the policy draws.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from helexa.cortex.orchestrator.scheduler import Facts, price_of
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.prefix import SHORTEST_BYTES
from helexa.protocol.records import Offer
from helexa.protocol.routing import Exclusion, RouteHints, RoutingDecision, Target
from helexa.protocol.work import Price, WorkloadClass


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One neuron, or one other cortex, for one model."""

    place: int
    """1 is asked first; 0 is not asked."""
    model: ModelId
    node: NodeId
    name: str
    via: NodeId | None = None
    """The other cortex; its neurons are its own affair."""
    reason: str
    """Why at this place, or why not at all."""
    state: str = ""
    ready: bool = False
    price: Price = Price()
    busy: int = 0
    """Requests on it for the model, this cortex' and others'."""
    waiting: int = 0
    """Of those, without a slot as of its last report."""
    slots: int = 0
    queue_s: float = 0.0
    tokens_per_s: float = 0.0
    first_token_s: float = 0.0
    matched_bytes: int = 0
    """Of the prompt's beginning, that it may have in its cache."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    model: ModelId
    workload: WorkloadClass
    policy: str
    choices: tuple[ModelId, ...]
    """What the name leads to, the wanted ones first."""
    candidates: tuple[Considered, ...]
    """In the order in which they would be asked, then those that would not."""
    targets: tuple[Target, ...]
    excluded: tuple[Exclusion, ...]


def explained(
    decision: RoutingDecision,
    facts: Facts,
    hints: RouteHints,
    *,
    called: Callable[[Target], str],
    offer: Callable[[NodeId, ModelId], Offer | None] = lambda _node, _model: None,
) -> Explanation:
    """`facts` are those that the decision was made upon, thoroughly; `offer` is a peer's."""
    asked = [(place, one) for place, one in enumerate(decision.targets, start=1)]
    asked += [(0, _not_asked(one, facts)) for one in decision.excluded]
    found = []
    for place, target in asked:
        model = target.model or decision.model
        about = Considered(
            place=place,
            model=model,
            node=target.node,
            name=called(target),
            via=target.via,
            reason=target.reason,
            ready=target.ready,
        )
        if target.via is None:
            found.append(_neuron(about, facts, hints))
        else:
            found.append(_cortex(about, offer(target.via, model)))
    return Explanation(
        model=decision.model,
        workload=decision.workload,
        policy=decision.policy,
        choices=decision.choices,
        candidates=tuple(found),
        targets=decision.targets,
        excluded=decision.excluded,
    )


def _not_asked(one: Exclusion, facts: Facts) -> Target:
    via = None if one.node in facts.view.neurons else one.node
    return Target(node=one.node, via=via, reason=one.reason, model=one.model, ready=False)


def _neuron(about: Considered, facts: Facts, hints: RouteHints) -> Considered:
    node, model = about.node, about.model
    neuron = facts.view.neurons[node]
    capability = neuron.capabilities[model]
    replica = neuron.replicas.get(model)
    matched = facts.recall.matches(model, hints.prefixes).get(node, 0)
    return msgspec.structs.replace(
        about,
        state=capability.state.value,
        price=price_of(capability, facts.catalogue.entries.get(model)),
        busy=facts.in_flight.get((node, model), 0) + neuron.elsewhere.get(model, 0),
        waiting=replica.waiting if replica is not None else 0,
        slots=capability.slots,
        queue_s=replica.queue_s if replica is not None else 0.0,
        tokens_per_s=capability.tokens_per_s,
        first_token_s=capability.first_token_s,
        matched_bytes=SHORTEST_BYTES << (matched - 1) if matched else 0,
    )


def _cortex(about: Considered, offer: Offer | None) -> Considered:
    if offer is None:
        return about
    return msgspec.structs.replace(
        about,
        state="loaded" if offer.ready else "unloaded",
        price=offer.price,
        busy=offer.slots - offer.free,
        slots=offer.slots,
        tokens_per_s=offer.tokens_per_s,
    )
