"""Where a request goes: a pure function of the fleet view, what is in flight here, and the request.

Filtering is the scheduler's and the same for all; ordering is a policy's, one
file each in `policies/`. A candidate that is passed over is named with the
reason, and the reasons become the refusal when nobody is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import Exclusion, RouteHints, RoutingDecision, Target
from helexa.protocol.work import ModelCapability, ModelState, WorkloadClass

READINESS: Final[Mapping[ModelState, int]] = {
    ModelState.LOADED: 0,
    ModelState.LOADING: 1,
    ModelState.UNLOADED: 2,
    ModelState.DOWNLOADING: 3,
    # It may have recovered or may say exactly why not: asked last, but asked.
    ModelState.FAILED: 4,
}
"""Lower is asked first. A state that is not here takes no new work."""


class Candidate(msgspec.Struct, frozen=True):
    """A neuron that may serve the request. A msgspec type because it is made per request."""

    node: NodeId
    neuron: NeuronView
    capability: ModelCapability
    in_flight: int
    """Requests that this cortex has on it for this model."""

    @property
    def pressure(self) -> float:
        """Work on it per slot: what it reported or what is known here, whichever is more."""
        reported = 0
        if self.neuron.load is not None:
            for replica in self.neuron.load.replicas:
                if replica.model == self.capability.model:
                    reported = replica.running + replica.waiting
        return max(self.in_flight, reported) / max(self.capability.slots, 1)


class Policy(Protocol):
    """One file in `policies/` exports one of these as `policy`; the file name is its word."""

    @property
    def name(self) -> str: ...

    def order(
        self, candidates: Sequence[Candidate], hints: RouteHints, random: Callable[[], float]
    ) -> Sequence[tuple[Candidate, str]]:
        """All candidates (equally ready), best first, each with the reason for its place."""
        ...


def route(
    view: FleetView,
    workload: WorkloadClass,
    model: ModelId,
    hints: RouteHints,
    *,
    in_flight: Mapping[tuple[NodeId, ModelId], int],
    policy: Policy,
    random: Callable[[], float],
    now_s: float,
) -> RoutingDecision:
    """Targets in the order to try; when there are none, `excluded` says why. Never raises."""
    tiers: dict[int, list[Candidate]] = {}
    excluded: list[Exclusion] = []
    for node in view.holders.get(model, ()):
        neuron = view.neurons[node]
        capability = neuron.capabilities[model]
        why_not = _why_not(neuron, capability, workload, node in hints.exclude, now_s)
        # Looked up once: an enum's hash is Python code, and this is done per request.
        tier = READINESS.get(capability.state)
        if tier is None or why_not:
            why_not = why_not or f"the model is {capability.state.value}"
            excluded.append(Exclusion(node=node, reason=why_not))
            continue
        candidate = Candidate(node, neuron, capability, in_flight.get((node, model), 0))
        tiers.setdefault(tier, []).append(candidate)
    targets: list[Target] = []
    for tier in sorted(tiers):
        targets += (
            Target(node=candidate.node, reason=f"{candidate.capability.state.value}, {reason}")
            for candidate, reason in policy.order(tiers[tier], hints, random)
        )
    return RoutingDecision(
        model=model,
        workload=workload,
        targets=tuple(targets),
        excluded=tuple(excluded),
        policy=policy.name,
    )


def _why_not(
    neuron: NeuronView,
    capability: ModelCapability,
    workload: WorkloadClass,
    failed: bool,
    now_s: float,
) -> str:
    if neuron.presence is not Presence.PRESENT:
        age_s = max(now_s - neuron.since_s, 0.0)
        return f"{neuron.presence.value} for {age_s:.0f} s: {neuron.reason}"
    if neuron.draining:
        return "draining"
    if failed:
        return "already failed this request"
    if not offers(capability, workload):
        offered = ", ".join(one.value for one in capability.classes) or "nothing"
        return f"offers {offered}, not {workload.value}"
    return ""


_CHAT: Final = frozenset({WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK})


def offers(capability: ModelCapability, workload: WorkloadClass) -> bool:
    """Whether the model does this kind of work at all.

    Chat is chat whoever waits for it; an announcement without classes promises nothing less.
    """
    if not capability.classes or workload in capability.classes:
        return True
    # A text model gets the picture request and refuses it with the right words.
    chat = _CHAT | {WorkloadClass.VISION}
    return workload in chat and not chat.isdisjoint(capability.classes)
