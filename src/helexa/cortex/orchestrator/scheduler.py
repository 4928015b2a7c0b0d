"""Where a request goes: a pure function of the facts, the request, and a policy.

    name -> models that it leads to -> for each, those who may serve it -> one order

Filtering is the scheduler's and the same for all; ordering is a policy's, one file each
in `policies/`. A candidate that is passed over is named with the reason, and the reasons
become the refusal when nobody is left.

The order of the targets. Models come as the catalogue leads to them: an alias' in the
order drawn by their weights, then the request's own `models`, then fallbacks. A model is
gone through whole before the next: where it is loaded, where it is being loaded, where it
lies on a disk. So a fallback that is loaded does not go before a first choice that is cold:
that one is waited for, or weights and wishes would mean nothing whenever a model is cold,
and it would stay cold. A fallback is for a first choice that cannot be served. What is being
downloaded and what failed comes behind all of these: whoever named a fallback wants to be
answered meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from helexa.cortex.orchestrator import ring
from helexa.cortex.orchestrator.breakers import Circuit
from helexa.cortex.orchestrator.catalogue import EMPTY, Catalogue
from helexa.cortex.orchestrator.choices import choices
from helexa.cortex.orchestrator.constraints import is_bound, why_not_there
from helexa.cortex.orchestrator.fleet import FleetView, Mark, NeuronView, Presence
from helexa.cortex.orchestrator.recall import NOTHING, Recalls
from helexa.cortex.settings import ModelEntry
from helexa.protocol.errors import CapabilityMissing, HelexaError, ModalityUnsupported
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import Exclusion, RouteHints, RoutingDecision, Target
from helexa.protocol.work import Modality, ModelCapability, ModelState, Price, WorkloadClass

READINESS: Final[Mapping[ModelState, int]] = {
    ModelState.LOADED: 0,
    ModelState.LOADING: 1,
    ModelState.UNLOADED: 2,
    ModelState.DOWNLOADING: 3,
    # It may have recovered or may say exactly why not: asked last, but asked.
    ModelState.FAILED: 4,
}
"""Lower is asked first. A state that is not here takes no new work."""
DOUBTFUL: Final = READINESS[ModelState.DOWNLOADING]
"""From here on a model's other ways, its fallbacks and other cortexes, go first."""

WANTED_MIN: Final = 3
"""Loaded candidates that are enough: what one request tries. With fewer, cold ones of the same
model are looked at as well, and then the next model."""
EXCLUDED_MAX: Final = 32
"""Named of one model where not all are looked at."""
HOLDERS_TRIED: Final = 6
POINTS_TRIED: Final = 3
_AS_ASKED: Final = ModelId("")
_FREE: Final = Price()
_PRESENT: Final = Presence.PRESENT
_LOADED: Final = ModelState.LOADED
_COLD: Final[Mapping[ModelState, int]] = {
    state: tier for state, tier in READINESS.items() if state is not _LOADED
}
_WORDS: Final = tuple(state.value for state in READINESS)


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a decision is made upon; it changes none of it. A msgspec type because it is made per
    request.
    """

    view: FleetView
    now_s: float
    catalogue: Catalogue = EMPTY
    in_flight: Mapping[tuple[NodeId, ModelId], int] = msgspec.field(default_factory=dict)
    """Requests that this cortex has there."""
    recall: Recalls = NOTHING
    yielding: Collection[tuple[NodeId, ModelId]] = frozenset()
    """Copies that get no new requests, because another model is to have their room."""
    circuits: Mapping[tuple[NodeId, ModelId], Circuit] = msgspec.field(default_factory=dict)
    """Of those that failed lately."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A neuron that may serve the request. A msgspec type because it is made per request."""

    node: NodeId
    neuron: NeuronView
    capability: ModelCapability
    price: Price
    busy: int
    """Requests on it for this model: this cortex' now, and others' as of its last report."""
    pressure: float
    """Work on it per slot."""
    matched: int = 0
    """Heads of the prompt, from the shortest on, that it may have in its cache."""


class Policy(Protocol):
    """One file in `policies/` exports one of these as `policy`; the file name is its word."""

    @property
    def name(self) -> str: ...

    @property
    def by_prefix(self) -> bool:
        """Whether it goes by `hints.prefixes` and `Candidate.matched`, which cost to be known."""
        ...

    @property
    def candidates_max(self) -> int:
        """How many that may serve one model it has to compare. Where more list the model, those
        that may hold the prompt and those that it belongs to are looked at, then a fair draw of
        the loaded ones, each with the same chance; others as `WANTED_MIN` says.
        """
        ...

    def order(
        self, candidates: Sequence[Candidate], hints: RouteHints, random: Callable[[], float]
    ) -> Sequence[tuple[Candidate, str]]:
        """All candidates (equally ready), best first, each with the reason for its place."""
        ...


def route(
    facts: Facts,
    workload: WorkloadClass,
    model: ModelId,
    hints: RouteHints,
    *,
    policy: Policy,
    random: Callable[[], float],
    thorough: bool = False,
) -> RoutingDecision:
    """Targets in the order to try; when there are none, `excluded` says why. Never raises.

    `thorough` looks at everybody, for a person who asks why.
    """
    also = hints.wish.models if hints.wish is not None else ()
    led = choices(facts.catalogue, model, hints.session or hints.request, random, also)
    firm: list[Target] = []
    doubtful: list[Target] = []
    excluded: list[Exclusion] = []
    for choice in led:
        asked = _AS_ASKED if choice == model else choice
        look = _Look(facts, workload, choice, hints, policy, random, asked)
        tiers = look.tiers(excluded, thorough=thorough)
        for tier in sorted(tiers):
            word = _WORDS[tier]
            targets = firm if tier < DOUBTFUL else doubtful
            for candidate, reason in policy.order(tiers[tier], hints, random):
                targets.append(
                    Target(
                        node=candidate.node,
                        reason=f"{word}, {reason}",
                        model=asked,
                        ready=tier == 0,
                    )
                )
        if not thorough and len(tiers.get(0, ())) >= WANTED_MIN:
            break
    return RoutingDecision(
        model=model,
        workload=workload,
        targets=(*firm, *doubtful),
        excluded=tuple(excluded),
        policy=policy.name,
        choices=led,
    )


class _Look:
    """At those who have one model."""

    __slots__ = (
        "_asked",
        "_bound",
        "_entry",
        "_facts",
        "_hints",
        "_model",
        "_policy",
        "_random",
        "_work",
    )

    def __init__(
        self,
        facts: Facts,
        workload: WorkloadClass,
        model: ModelId,
        hints: RouteHints,
        policy: Policy,
        random: Callable[[], float],
        asked: ModelId,
    ) -> None:
        entry = facts.catalogue.entries.get(model)
        self._asked = asked
        self._entry = entry
        self._bound = entry if entry is not None and is_bound(entry) else None
        self._facts = facts
        self._hints = hints
        self._model = model
        self._policy = policy
        self._random = random
        self._work = workload

    def tiers(self, excluded: list[Exclusion], *, thorough: bool) -> dict[int, list[Candidate]]:
        """The candidates by readiness; those that are none are added to `excluded`."""
        facts, model = self._facts, self._model
        neurons, in_flight = facts.view.neurons, facts.in_flight
        holders = facts.view.holders.get(model)
        if not holders:
            return {}
        matches = self._matches()
        all_of_them = thorough or len(holders) <= self._policy.candidates_max
        room = len(holders) if all_of_them else self._policy.candidates_max
        named_max = len(excluded) + (len(holders) if all_of_them else EXCLUDED_MAX)
        loaded: list[Candidate] = []
        tiers: dict[int, list[Candidate]] = {0: loaded}
        circuits = facts.circuits
        passed_over: list[tuple[Candidate, str]] = []
        for node in holders if all_of_them else self._drawn(matches, loaded, holders):
            neuron = neurons[node]
            capability = neuron.capabilities[model]
            if why_not := self._why_not(node, neuron, capability):
                if len(excluded) < named_max:
                    excluded.append(Exclusion(node=node, reason=why_not, model=self._asked))
                continue
            busy = in_flight.get((node, model), 0) + neuron.elsewhere.get(model, 0)
            candidate = Candidate(
                node,
                neuron,
                capability,
                price_of(capability, self._entry),
                busy,
                busy / (capability.slots or 1),
                matches.get(node, 0),
            )
            circuit = circuits.get((node, model)) if circuits else None
            if circuit is not None and (why_not := circuit.why_out(facts.now_s)):
                passed_over.append((candidate, why_not))
                continue
            if capability.state is _LOADED:
                loaded.append(candidate)
            else:
                tiers.setdefault(_COLD[capability.state], []).append(candidate)
            room -= 1
            if not room:
                break
        if passed_over:
            # Who fails is better than nobody.
            alone = not loaded and len(tiers) == 1
            for candidate, why_not in passed_over:
                if alone:
                    tier = READINESS[candidate.capability.state]
                    tiers.setdefault(tier, []).append(candidate)
                else:
                    excluded.append(
                        Exclusion(node=candidate.node, reason=why_not, model=self._asked)
                    )
        if not loaded:
            del tiers[0]
        return tiers

    def _drawn(
        self,
        matches: Mapping[NodeId, int],
        found: Sequence[Candidate],
        holders: Sequence[NodeId],
    ) -> Iterator[NodeId]:
        """Each holder at most once: the cold ones only while `found` has too few."""
        loaded = self._facts.view.loaded.get(self._model, ())
        seen: set[NodeId] = set()
        for node in self._first(matches, loaded):
            if node not in seen:
                seen.add(node)
                yield node
        for node in shuffled(loaded, self._random):
            if node not in seen:
                seen.add(node)
                yield node
        if len(found) >= WANTED_MIN:
            return
        for node in shuffled(holders, self._random):
            if node not in seen:
                yield node

    def _first(self, matches: Mapping[NodeId, int], loaded: Sequence[NodeId]) -> Iterable[NodeId]:
        if not loaded or not self._policy.by_prefix:
            return ()
        neurons = self._facts.view.neurons
        known = [
            node
            for node in matches
            if node in neurons and self._model in neurons[node].capabilities
        ]
        key = ring.key_of(self._hints)
        own = () if key is None else ring.following(key, loaded, POINTS_TRIED)
        return (*known[:HOLDERS_TRIED], *own)

    def _matches(self) -> Mapping[NodeId, int]:
        heads = self._hints.prefixes
        if not heads or not self._policy.by_prefix:
            return MappingProxyType({})
        return self._facts.recall.matches(self._model, heads)

    def _why_not(self, node: NodeId, neuron: NeuronView, capability: ModelCapability) -> str:
        if neuron.presence is not _PRESENT:
            age_s = max(self._facts.now_s - neuron.since_s, 0.0)
            return f"{neuron.presence.value} for {age_s:.0f} s: {neuron.reason}"
        state = capability.state
        if neuron.mark is not None:
            if neuron.mark is Mark.DRAINED:
                return "drained"
            if state not in _THERE:
                return "cordoned, and the model is not loaded there"
        if neuron.load is not None and neuron.load.draining:
            return "draining"
        if rule := self._not_again(node, capability):
            return rule
        if self._facts.yielding and (node, self._model) in self._facts.yielding:
            return "making room for another model"
        if self._bound is not None and (rule := why_not_there(self._bound, neuron.descriptor)):
            return rule
        if not offers(capability, self._work, self._entry):
            classes = classes_of(capability, self._entry)
            offered = ", ".join(one.value for one in classes) or "nothing"
            return f"offers {offered}, not {self._work.value}"
        if state is not _LOADED and state not in _COLD:
            return f"the model is {state.value}"
        return ""

    def _not_again(self, node: NodeId, capability: ModelCapability) -> str:
        """By what became of the request so far."""
        if node in self._hints.exclude:
            return "already failed this request"
        if self._hints.digest and capability.digest != self._hints.digest:
            return "has other weights than the first half of the answer came from"
        return ""


_THERE: Final = (ModelState.LOADED, ModelState.LOADING)


def shuffled(nodes: Sequence[NodeId], random: Callable[[], float]) -> Iterator[NodeId]:
    """Each node once, in an order that all orders are equally likely to be. The price is that of
    the nodes that are taken.
    """
    moved: dict[int, int] = {}
    for at in range(len(nodes)):
        other = at + int(random() * (len(nodes) - at))
        yield nodes[moved.get(other, other)]
        moved[other] = moved.get(at, at)


def price_of(capability: ModelCapability, entry: ModelEntry | None) -> Price:
    """The neuron's own, or its entry's where the neuron asks none."""
    asked = capability.price
    if entry is None or entry.price is None or asked != _FREE:
        return asked
    return entry.price


_CHAT: Final = frozenset({WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK})


def offers(
    capability: ModelCapability, workload: WorkloadClass, entry: ModelEntry | None = None
) -> bool:
    """Whether the model does this kind of work, and the catalogue lets it."""
    if entry is not None and entry.classes and not _among(entry.classes, workload):
        return False
    if workload is WorkloadClass.VISION:
        return _sees(capability)
    return not capability.classes or _among(capability.classes, workload)


def _sees(capability: ModelCapability) -> bool:
    """Nobody is asked to look at a picture who would only refuse it."""
    said = capability.classes
    return not said or WorkloadClass.VISION in said or Modality.IMAGE in capability.modalities


def incapable(workload: WorkloadClass, model: ModelId) -> HelexaError:
    """The refusal where everybody who has the model lacks this kind of work."""
    if workload in _SENSES:
        return ModalityUnsupported(str(model), _SENSES[workload].value)
    return CapabilityMissing(str(model), f"{workload.value} requests")


def classes_of(capability: ModelCapability, entry: ModelEntry | None) -> tuple[WorkloadClass, ...]:
    """What it is used for: as far as is known, if it says nothing itself."""
    if entry is None or not entry.classes:
        return capability.classes
    if not capability.classes:
        return entry.classes
    return tuple(one for one in capability.classes if _among(entry.classes, one))


def _among(classes: Sequence[WorkloadClass], workload: WorkloadClass) -> bool:
    """Chat is chat whoever waits for it, and nobody lacks what next to nothing is needed for."""
    if workload in classes or workload is WorkloadClass.OTHER:
        return True
    # With or without a picture in it.
    return workload in _TALK and not _CHAT.isdisjoint(classes)


_TALK: Final = _CHAT | {WorkloadClass.VISION}
_SENSES: Final[Mapping[WorkloadClass, Modality]] = {
    WorkloadClass.VISION: Modality.IMAGE,
    WorkloadClass.AUDIO: Modality.AUDIO,
}
