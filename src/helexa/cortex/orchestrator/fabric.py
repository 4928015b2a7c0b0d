"""Own neurons and other operators' cortexes as one fleet: the gateway's `Fleet` over both.

Where a request goes is decided in three steps, all from memory: the scheduler orders the
neurons registered here, the terms and the request's own wish leave out what they forbid,
and `order` merges what is left. A target `via` a peer names the peer as its node too:
which of its neurons serves is the peer's own decision. Whoever is left out is named with
the rule, and the rules become the refusal when nobody is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.choices import reachable
from helexa.cortex.orchestrator.explain import Explanation, explained
from helexa.cortex.orchestrator.federation.lanes import Lane
from helexa.cortex.orchestrator.federation.peers import Peers, Prospect
from helexa.cortex.orchestrator.federation.serving import ROWS_MAX, served_here, served_there
from helexa.cortex.orchestrator.federation.terms import ORDERS, Terms, borrows, offering
from helexa.cortex.orchestrator.federation.wanted import (
    Server,
    forbids,
    is_second_choice,
    quickness,
    rank,
)
from helexa.cortex.orchestrator.federation.wish import HEADER, onward
from helexa.cortex.orchestrator.federation.wish_here import hopeful_choices, neuron_server
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.labels import Labels, label
from helexa.cortex.orchestrator.listing import about, as_used, listed, owners
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.provisioning.demand import Demand
from helexa.cortex.orchestrator.provisioning.room import Place, Room
from helexa.cortex.orchestrator.reception import Way
from helexa.cortex.orchestrator.scheduler import incapable
from helexa.mesh.trust import Standing
from helexa.protocol.errors import HelexaError, ModelUnknown, NoCapacity
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.openai.models import ModelAbout, ServedBy
from helexa.protocol.records import Offer
from helexa.protocol.routing import Exclusion, Label, RouteHints, RoutingDecision, Target, Wish
from helexa.protocol.work import ModelCapability, ModelState, Price, WorkloadClass
from helexa.util.upstream import Headers

CHOICES_MAX: Final = 16
"""Peers that are weighed against one another; a request tries three targets at most."""
SPARES_MAX: Final = 2
"""Peers behind own neurons that can serve."""
REASONS_MAX: Final = 5
"""Candidates that a refusal names; the others are counted."""
PATH_HEADER: Final = "x-helexa-path"
HOPS_HEADER: Final = "x-helexa-hops-left"
_SERVES: Final = (ModelState.LOADED, ModelState.LOADING, ModelState.UNLOADED)
"""A neuron in another state is asked after the peers: it may well not serve at all."""


_AS_ASKED: Final = ModelId("")
_NOBODY: Final = Label()

Queues: TypeAlias = Callable[[], Mapping[ModelId, tuple[int, float]]]


@dataclass(frozen=True)
class PeerWay:
    """How one request reaches a peer. The headers are about this request."""

    pool: Lane
    headers: Headers


class _Place(NamedTuple):
    """A target and what the orders go by. Lower is better in each."""

    target: Target
    rank: int
    """Of its model among those that the name leads to."""
    is_remote: bool
    doubtful: bool
    price: int
    waits: bool
    full: bool
    slowness: float
    quickness: float = 0.0
    """Seconds to the first token, of requests that ask for it."""
    preferred: int = 0
    second: bool = False
    """Misses what the request would rather have."""


class _Out(NamedTuple):
    """Somebody left out. `lacks`: because it does not do this kind of work, whoever asks."""

    exclusion: Exclusion
    lacks: bool


class Fabric:
    """Made of parts that live elsewhere; it keeps nothing but them."""

    def __init__(
        self,
        neurons: Neurons,
        peers: Peers,
        own: Standing,
        *,
        random: Callable[[], float],
        count: Callable[[str, str], None] = lambda _direction, _outcome: None,
    ) -> None:
        """`own` is this cortex. `count` is told the direction and outcome of peers' requests."""
        self.own = own
        self.count = count
        self.routed: Callable[[Target, ModelId], None] | None = None
        """Told where each request goes, where anybody wants to know."""
        self._neurons = neurons
        self._peers = peers
        self._labels = Labels()
        self._random = random
        self.queues: Queues = dict
        """How many wait for a slot of each model, and about how long: the gateway's to say."""
        self._room: Room | None = None
        self._demand: Demand | None = None

    def furnish(self, room: Room, demand: Demand) -> None:
        """From here on a model that nobody serves is waited for, and brought."""
        self._room = room
        self._demand = demand
        demand.queues = lambda: self.queues()  # noqa: PLW0108 - another one by and by

    @property
    def terms(self) -> Terms:
        return self._peers.terms

    @property
    def terms_version(self) -> str:
        return self._peers.terms.version

    def set_terms(self, terms: Terms) -> None:
        """In force for the next request; what peers are offered follows."""
        self._peers.set_terms(terms)

    # --- the gateway's Fleet

    def route(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        """At least one target, or one that `waits`.

        Raises ModelUnknown, what `incapable` makes, or NoCapacity with each candidate's reason.
        """
        return self._hopeful(self._routed(workload, model, hints))

    def _routed(
        self, workload: WorkloadClass, model: ModelId, hints: RouteHints
    ) -> RoutingDecision:
        if hints.wish is None:
            if not self._peers.offers_anything:
                return self._neurons.route(workload, model, hints)
            if not self._is_elsewhere(model):
                return self._by_neurons(workload, model, hints)
        decision, out = self._decide(workload, model, hints, thorough=_ranks(hints.wish))
        if not decision.targets:
            # Of many neurons a few were looked at, and the wish may have ruled out just those.
            decision, out = self._decide(workload, model, hints, thorough=True)
        if not decision.targets:
            decision = self._awaitable(decision, hints.wish)
            if not decision.choices or self._neurons.awaited(decision) is None:
                raise self._refusal(workload, model, hints, out)
        return decision

    def _awaitable(self, decision: RoutingDecision, wish: Wish | None) -> RoutingDecision:
        """With those choices alone that the request would take from here once they are."""
        if wish is None:
            return decision
        catalogue, view = self._neurons.catalogue, self._neurons.view
        choices = hopeful_choices(wish, self.own, decision.choices, catalogue, view)
        return msgspec.structs.replace(decision, choices=choices)

    def _hopeful(self, decision: RoutingDecision) -> RoutingDecision:
        """Without neurons that would have to load what they cannot. Raises NoCapacity."""
        room, targets = self._room, decision.targets
        if room is None or not targets or targets[0].ready:
            return decision
        hopeful = tuple(
            target
            for target in targets
            if target.ready
            or target.via is not None
            or not room.hopeless(target.model or decision.model)
        )
        if len(hopeful) == len(targets):
            return decision
        if not hopeful:
            reason = room.hopeless(targets[0].model or decision.model)
            raise NoCapacity(f"Nobody can serve {str(decision.model)!r} now: {reason}.", 5)
        return msgspec.structs.replace(decision, targets=hopeful)

    def waits(self, decision: RoutingDecision) -> ModelId | None:
        """The model to wait for, where nobody serves this now; None where it can go."""
        if self._room is None:
            return None
        if not decision.targets:
            return self._neurons.awaited(decision)
        first = decision.targets[0]
        if not first.ready and first.via is None:
            return first.model or decision.model
        wanted = decision.choices[0] if decision.choices else decision.model
        demand = self._demand
        if demand is not None and first.model and wanted != first.model and self._has(wanted):
            # Somebody stands in for the first choice: that it was wanted is remembered.
            demand.missed(wanted, self._neurons.now_s())
        return None

    def _has(self, model: ModelId) -> bool:
        """Names that a client made up are not remembered."""
        return self._neurons.knows(model)

    def place(self, model: ModelId) -> AbstractContextManager[Place]:
        assert self._room is not None
        return self._room.place(model)

    @property
    def brings_models(self) -> bool:
        return self._room is not None

    def slots(self, model: ModelId) -> int | None:
        """How many requests those who serve the model now work on at once; None: unknown, or
        nobody serves it. Of other cortexes, where requests go to them.
        """
        own = self._neurons.slots(model)
        if own is None or not self._peers.offers_anything:
            return own or None
        if own and self.terms.order == ORDERS[0]:
            # Others are asked only where no neuron here serves it.
            return own
        return own + self._borrowable_slots(model) or None

    def _borrowable_slots(self, model: ModelId) -> int:
        if not self._peers.knows(model):
            return 0
        return sum(
            offer.slots
            for prospect in self._peers.prospects(model, WorkloadClass.OTHER)
            if (offer := prospect.offer) is not None
            and offer.ready
            and not prospect.why_not
            and not borrows(self.terms, offer, prospect.standing, WorkloadClass.OTHER)
        )

    def queue_max(self, model: ModelId) -> int | None:
        entry = self._neurons.catalogue.entries.get(model)
        return None if entry is None else entry.queue_max

    def decide(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        """As `route`; no targets is an answer here. Never raises."""
        return self._decide(workload, model, hints)[0]

    def explained(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> Explanation:
        """The same decision with everybody looked at, and what it went by. Raises ModelUnknown."""
        decision = self._decide(workload, model, hints, thorough=True)[0]
        if not (decision.targets or decision.excluded or self._neurons.knows(model)):
            raise ModelUnknown(str(model))
        return explained(
            decision,
            self._neurons.facts(),
            hints,
            called=self.called,
            offer=self._peers.offer,
        )

    def wants_prefixes(self, model: ModelId) -> bool:
        return self._neurons.wants_prefixes(model)

    def way(self, target: Target, hints: RouteHints) -> Way | PeerWay:
        """Raises PeerLost when the target left since it was chosen."""
        if target.via is None:
            return self._neurons.way(target)
        return PeerWay(self._peers.lane(target.via), self._passage(hints))

    def models(self) -> Sequence[ModelCapability]:
        """One capability for each model that can be asked for here, the own ones first."""
        neurons, catalogue = self._neurons, self._neurons.catalogue
        own = [as_used(one, catalogue) for one in neurons.models()]
        here = {one.model for one in own}
        borrowed = [
            _as_capability(offer) for _, offer in self._borrowable() if offer.model not in here
        ]
        return listed([*own, *borrowed], catalogue, neurons.view, brings=self.brings_models)

    def owners(self) -> Mapping[ModelId, str]:
        """For each model that can be borrowed, who would be asked first."""
        borrowed = {offer.model: called for called, offer in self._borrowable()}
        return owners(borrowed, self._neurons.catalogue)

    def about(self, model: ModelId) -> ModelAbout:
        """What the catalogue says of a name that is listed."""
        return about(self._neurons.catalogue, model)

    def served_by(self, name: ModelId) -> tuple[ServedBy, ...]:
        """Who would be asked for a model, or for what a name leads to first; the own ones first."""
        neurons = self._neurons
        model = reachable(neurons.catalogue, name)[0]
        view, catalogue = neurons.view, neurons.catalogue
        found = served_here(self.own, view, neurons.in_flight, catalogue, model)
        for one, holders in self._peers.models():
            if one == model:
                found += (
                    served_there(called, standing, offer)
                    for standing, called, offer in holders
                    if self._is_borrowable(standing, offer)
                )
        return tuple(found[:ROWS_MAX])

    def called(self, target: Target) -> str:
        if target.via is None:
            return self._neurons.called(target)
        return self._peers.called(target.via)

    def label(self, target: Target, model: ModelId) -> Label:
        """What is known of the target for `model`."""
        if target.via is not None:
            return self._label_of_peer(target.via, model)
        neurons, node = self._neurons, target.node
        view, catalogue = neurons.view, neurons.catalogue
        recent = self._labels.recent(view, catalogue)
        if (found := recent.get((node, model))) is None:
            found = recent[node, model] = self._label_here(node, model, view, catalogue)
        return found

    def _label_here(
        self, node: NodeId, model: ModelId, view: FleetView, catalogue: Catalogue
    ) -> Label:
        neurons = self._neurons
        neuron = view.neurons.get(node)
        capability = neuron.capabilities.get(model) if neuron is not None else None
        if neuron is None or capability is None:
            return _NOBODY
        about = neuron.descriptor
        if found := self._labels.get(node, model, about, capability, catalogue):
            return found
        made = label(
            digest=capability.digest,
            price=neurons.price(capability),
            operator=about.operator,
            name=about.name or node[:10],
        )
        return self._labels.put(node, model, made, about, capability, catalogue)

    def _label_of_peer(self, node: NodeId, model: ModelId) -> Label:
        offer, standing = self._peers.offer(node, model), self._peers.known(node)
        if found := self._labels.get(node, model, offer, standing, None):
            return found
        made = label(
            digest=offer.digest if offer is not None else "",
            price=offer.price if offer is not None else Price(),
            operator=standing.operator if standing is not None else "",
            name=self._peers.called(node),
            via=True,
        )
        return self._labels.put(node, model, made, offer, standing, None)

    def why_lost(self, target: Target) -> str:
        """What is known about a target that could not be reached, to go on from its name."""
        if target.via is None:
            return self._neurons.why_lost(target)
        return self._peers.note(target.via)

    def watch_silent(self, look: Callable[[AbstractSet[NodeId]], None]) -> None:
        """While a neuron's reports do not come, or the mesh has given a linked cortex up, `look`
        is told of them.
        """

        def again() -> None:
            if silent := {*self._neurons.silent(), *self._peers.silent}:
                look(silent)

        self._neurons.look_again(again)

    def started(self, target: Target, model: ModelId, hints: RouteHints) -> None:
        if self.routed is not None:
            self.routed(target, model)
        self._neurons.breakers.started(target.node, model)
        if target.via is None:
            self._neurons.started(target, model, hints)
            if self._demand is not None:
                self._demand.started(model, self._neurons.now_s())
        else:
            self._peers.started(target.via, model)

    def finished(self, target: Target, model: ModelId, outcome: str = "ok") -> None:
        self._neurons.breakers.finished(target.node, model, outcome, self._neurons.now_s())
        if target.via is None:
            self._neurons.finished(target, model)
            if self._demand is not None:
                self._demand.ended(model, self._neurons.now_s())
        else:
            self._peers.finished(target.via, model)
            self.count("out", outcome)

    # --- deciding

    def _is_elsewhere(self, model: ModelId) -> bool:
        """Whether any cortex has, or had, what the name leads to."""
        return any(map(self._peers.knows, reachable(self._neurons.catalogue, model)))

    def _by_neurons(
        self, workload: WorkloadClass, model: ModelId, hints: RouteHints
    ) -> RoutingDecision:
        """Where peers offer anything, but not this."""
        # A cortex without neurons whose peers serve it lacks the model, not the neurons.
        if not self._neurons.knows(model):
            raise ModelUnknown(str(model))
        return self._neurons.route(workload, model, hints)

    def _decide(
        self,
        workload: WorkloadClass,
        model: ModelId,
        hints: RouteHints,
        *,
        thorough: bool = False,
    ) -> tuple[RoutingDecision, list[_Out]]:
        local = self._neurons.decide(workload, model, hints, thorough=thorough)
        places, out = self._local(local, hints.wish)
        # A request that came from a peer goes on only while its way and ours allow it.
        wish = hints.wish
        order = (wish.order if wish else "") or self.terms.order
        by_default = order == ORDERS[0] and not (wish and wish.prefer)
        if hints.hops_left is None or (hints.hops_left > 0 and self.terms.hops_max > 0):
            for rank, choice in enumerate(local.choices):
                spare = by_default and any(
                    place.rank == rank and not place.doubtful for place in places
                )
                at_most = SPARES_MAX if spare else CHOICES_MAX
                asked = ModelId("") if choice == model else choice
                found = self._remote(workload, choice, hints, out, at_most, asked)
                places += (place._replace(rank=rank) for place in found)
        places = self._without_failing(places, model, out)
        places.sort(key=_KEYS[order])
        if wish is not None and not (wish.fallbacks or wish.prefer):
            places = _first_alone(places, again=bool(hints.exclude))
        decision = RoutingDecision(
            model=model,
            workload=workload,
            targets=tuple(place.target for place in places),
            excluded=tuple(one.exclusion for one in out),
            policy=f"{local.policy}, {order}",
            choices=local.choices,
        )
        return decision, out

    def _without_failing(
        self, places: list[_Place], model: ModelId, out: list[_Out]
    ) -> list[_Place]:
        """Without those who failed again and again, unless there is nobody else."""
        breakers, now_s = self._neurons.breakers, self._neurons.now_s()
        if not breakers.known:
            return places
        left: list[_Place] = []
        failing: list[_Out] = []
        for place in places:
            target = place.target
            rule = breakers.why_out(target.node, target.model or model, now_s)
            if rule:
                kind = "cortex" if place.is_remote else "neuron"
                called = f"{kind} {self.called(target)} is"
                failing.append(_left_out(target.node, called, rule, asked=target.model))
            else:
                left.append(place)
        if not left:
            return places
        out += failing
        return left

    def _local(self, local: RoutingDecision, wish: Wish | None) -> tuple[list[_Place], list[_Out]]:
        neurons = self._neurons
        view = neurons.view
        ranks = {model: rank for rank, model in enumerate(local.choices)}
        out = []
        for one in local.excluded:
            lacks = one.reason.startswith("offers ")
            verb = "" if lacks else "is "
            called = self._neurons.called(Target(node=one.node))
            sentence = f"neuron {called} {verb}{one.reason}"
            out.append(_Out(msgspec.structs.replace(one, sentence=sentence), lacks))
        places = []
        for target in local.targets:
            model = target.model or local.model
            neuron = view.neurons[target.node]
            capability = neuron.capabilities[model]
            price = self._neurons.price(capability)
            busy = neurons.in_flight.get((target.node, model), 0)
            place = _Place(
                target=target,
                rank=ranks[model],
                is_remote=False,
                doubtful=capability.state not in _SERVES,
                price=_both_kinds(price),
                waits=not target.ready,
                full=busy >= max(capability.slots, 1),
                slowness=-capability.tokens_per_s,
            )
            if wish is not None:
                server = neuron_server(self.own, neuron, capability, price, busy)
                if rule := forbids(wish, server):
                    called = neurons.called(target)
                    out.append(_left_out(target.node, f"neuron {called}", rule, asked=target.model))
                    continue
                place = _wished(place, wish, server)
            places.append(place)
        return places, out

    def _remote(
        self,
        workload: WorkloadClass,
        model: ModelId,
        hints: RouteHints,
        out: list[_Out],
        at_most: int,
        asked: ModelId,
    ) -> list[_Place]:
        """The peers that may be asked, the likeliest first; the others are added to `out`."""
        found: list[tuple[tuple[float, ...], _Place]] = []
        for prospect in self._peers.prospects(model, workload):
            node = prospect.standing.node
            if node in hints.path or node in hints.exclude or node == self.own.node:
                continue
            offer = prospect.offer
            if hints.digest and (offer is None or offer.digest != hints.digest):
                continue
            why_not, lacks = self._why_not(
                prospect, offer or Offer(model=model), workload, hints.wish
            )
            if why_not or offer is None:
                called = f"cortex {prospect.called}"
                out.append(_left_out(node, called, why_not, lacks=lacks, asked=asked))
                continue
            pressure = max(offer.slots - offer.free, prospect.in_flight) / max(offer.slots, 1)
            place = _Place(
                target=Target(
                    node=node,
                    via=node,
                    reason=_told(prospect.called, offer),
                    model=asked,
                    ready=offer.ready,
                ),
                rank=0,
                is_remote=True,
                doubtful=False,
                price=_both_kinds(offer.price),
                waits=not offer.ready,
                full=pressure >= 1,
                slowness=-offer.tokens_per_s,
            )
            if hints.wish is not None:
                place = _wished(place, hints.wish, offering(prospect.standing, offer))
            likelihood = (
                place.preferred,
                not offer.ready,
                not prospect.is_connected,
                pressure >= 1,
                pressure,
                self._random(),
            )
            found.append((likelihood, place))
            if len(found) == at_most:
                break
        found.sort(key=lambda one: one[0])
        return [place for _, place in found]

    def _why_not(
        self, prospect: Prospect, offer: Offer, workload: WorkloadClass, wish: Wish | None
    ) -> tuple[str, bool]:
        """The rule, ours before theirs, and whether it is only that it does not do such work."""
        ours = borrows(self.terms, offer, prospect.standing, workload, wish)
        lacks = ours.startswith("offers ")
        if ours and not (lacks and prospect.why_not):
            return ours, lacks
        return prospect.why_not, False

    def _refusal(
        self, workload: WorkloadClass, model: ModelId, hints: RouteHints, out: list[_Out]
    ) -> HelexaError:
        if not out:
            try:
                self._by_neurons(workload, model, hints)
            except HelexaError as error:
                return error
        if out and all(one.lacks for one in out):
            return incapable(workload, model)
        reasons = "; ".join(one.exclusion.sentence for one in out[:REASONS_MAX])
        more = len(out) - REASONS_MAX
        also = f"; and {more} more" if more > 0 else ""
        return NoCapacity(f"Nobody can serve {str(model)!r} now: {reasons}{also}.", 2)

    # ---

    def _passage(self, hints: RouteHints) -> Headers:
        """What the next cortex has to know of the way so far."""
        hops = self.terms.hops_max
        left = hops if hints.hops_left is None else min(hints.hops_left, hops)
        path = ",".join((*hints.path, self.own.node)).encode()
        headers = [
            (PATH_HEADER.encode(), path),
            (HOPS_HEADER.encode(), b"%d" % max(left - 1, 0)),
        ]
        if hints.wish is not None and (text := onward(hints.wish, self.own.node)):
            headers.append((HEADER.encode(), text))
        return headers

    def _borrowable(self) -> list[tuple[str, Offer]]:
        found = []
        for _, holders in self._peers.models():
            for standing, called, offer in holders:
                if self._is_borrowable(standing, offer):
                    found.append((called, offer))
                    break
        return found

    def _is_borrowable(self, standing: Standing, offer: Offer) -> bool:
        """For some kind of work at least."""
        classes = offer.classes or tuple(WorkloadClass)
        return not all(borrows(self.terms, offer, standing, one) for one in classes)


_KEYS: Final[Mapping[str, Callable[[_Place], tuple[float, ...]]]] = {
    # Sorting is stable: within a key the scheduler's and the prospects' own order holds.
    # Another model is asked when nobody has the one before it, whoever has that.
    "local_first": lambda one: (*_wishes_first(one), one.is_remote),
    "cheapest": lambda one: (*_wishes_first(one), one.price, one.is_remote),
    "fastest": lambda one: (
        *_wishes_first(one),
        one.waits,
        one.full,
        one.slowness,
        one.is_remote,
    ),
    "quickest": lambda one: (*_wishes_first(one), one.quickness, one.is_remote),
}


def _ranks(wish: Wish | None) -> bool:
    """Whether it asks for the best of all: then all are looked at, however many they are."""
    return wish is not None and bool(wish.prefer or wish.order not in ("", ORDERS[0]))


def _wishes_first(one: _Place) -> tuple[float, ...]:
    return one.doubtful, one.rank, one.preferred, one.second


def _wished(place: _Place, wish: Wish, server: Server) -> _Place:
    """With what the request's own wishes make of it."""
    return place._replace(
        preferred=rank(wish, server),
        second=is_second_choice(wish, server),
        quickness=quickness(server),
    )


def _first_alone(places: Sequence[_Place], *, again: bool) -> list[_Place]:
    """The first of each model, and nobody `again` after one that failed."""
    if again:
        return []
    first: dict[int, _Place] = {}
    for one in places:
        first.setdefault(one.rank, one)
    return list(first.values())


def _left_out(
    node: NodeId, called: str, rule: str, *, lacks: bool = False, asked: ModelId = _AS_ASKED
) -> _Out:
    sentence = f"{called} {rule}"
    return _Out(Exclusion(node=node, reason=rule, sentence=sentence, model=asked), lacks)


def _both_kinds(price: Price) -> int:
    """Nano-credits for one token read and one written."""
    return price.prompt_uncached + price.completion


def _told(called: str, offer: Offer) -> str:
    state = "ready" if offer.ready else "to be loaded"
    return f"cortex {called} offers it: {state}, {offer.free} of {offer.slots} slots free"


def _as_capability(offer: Offer) -> ModelCapability:
    return ModelCapability(
        model=offer.model,
        state=ModelState.LOADED if offer.ready else ModelState.UNLOADED,
        digest=offer.digest,
        quantisation=offer.quantisation,
        first_token_s=offer.first_token_s,
        classes=offer.classes,
        modalities=offer.modalities,
        context_tokens=offer.context_tokens,
        slots=offer.slots,
        tools=offer.tools,
        structured_output=offer.structured_output,
        reasoning=offer.reasoning,
        abilities=offer.abilities,
        tokens_per_s=offer.tokens_per_s,
        price=offer.price,
    )
