"""Who gives whom pieces of a model: a pure choice, and the one who tells the neurons.

Whoever pulls a model may take pieces from all that hold it or pull it too, as far as
`orchestrator.share_pieces` lets both of them. A neuron gives pieces to those it was told of
and to nobody else, so holders are told whenever the ones who pull change.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeAlias

import anyio

from helexa.cortex.orchestrator.fleet import FleetView, Presence
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder
from helexa.protocol.work import ModelState
from helexa.util.background import background

PARTNERS_MAX: Final = 32
"""That one neuron is told of: each is a link, and a few of them fill any line."""
BEGINS_WITHIN_S: Final = 10.0
"""From a pull's command to the announcement that shows it."""
AGAIN_S: Final = 5.0

_HOLDS: Final = frozenset(
    {
        ModelState.UNLOADED,
        ModelState.LOADING,
        ModelState.LOADED,
        ModelState.DRAINING,
        ModelState.UNLOADING,
    }
)

Shares: TypeAlias = Callable[[NodeId], bool]
"""Whether a neuron takes part at all."""
Copy: TypeAlias = tuple[NodeId, ModelId]

_log = logging.getLogger(__name__)


def takes_part(mode: str, standing: Standing, *, has_operator: bool) -> bool:
    """Whether a neuron of that standing exchanges pieces here, by `orchestrator.share_pieces`.

    A cortex without an operator (`has_operator` false) has nobody whose word could make a
    neuron its own; there `own` is every neuron that has no operator either.
    """
    match mode:
        case "any":
            return standing.trust > Trust.DENIED
        case "trusted":
            named = standing.trust >= Trust.TRUSTED
            return named or takes_part("own", standing, has_operator=has_operator)
        case "own":
            alone = not has_operator and str(standing.operator) == standing.node
            return standing.trust is Trust.OWN or (alone and standing.trust > Trust.DENIED)
        case _:
            return False


def partners(
    view: FleetView, model: ModelId, node: NodeId, pulling: Collection[NodeId], shares: Shares
) -> tuple[PieceHolder, ...]:
    """Whom `node` exchanges pieces of the model with; `pulling` are all that pull it now.

    Of many, each neuron gets others: by a hash of both, not the same few for all.
    """
    if not shares(node):
        return ()
    found = [
        PieceHolder(node=other, ticket=neuron.ticket)
        for other in {*view.holders.get(model, ()), *pulling}
        if other != node
        and (neuron := view.neurons.get(other)) is not None
        and neuron.presence is Presence.PRESENT
        and neuron.ticket
        and (other in pulling or _holds(view, other, model))
        and shares(other)
    ]
    found.sort(key=lambda one: hashlib.blake2b(f"{node}{one.node}".encode()).digest())
    return tuple(sorted(found[:PARTNERS_MAX], key=lambda one: one.node))


def pullers(view: FleetView, begun: Iterable[Copy]) -> Mapping[ModelId, frozenset[NodeId]]:
    """By model the neurons that pull it: as they announced, or were just told."""
    found: dict[ModelId, set[NodeId]] = {}
    for node, neuron in view.neurons.items():
        if neuron.presence is Presence.PRESENT:
            for model, one in neuron.capabilities.items():
                if one.state is ModelState.DOWNLOADING:
                    found.setdefault(model, set()).add(node)
    for node, model in begun:
        if node in view.neurons:
            found.setdefault(model, set()).add(node)
    return {model: frozenset(nodes) for model, nodes in found.items()}


def grants(
    view: FleetView, begun: Iterable[Copy], shares: Shares
) -> Mapping[Copy, tuple[PieceHolder, ...]]:
    """To whom each neuron is to give pieces now: to those whose partner it is."""
    found: dict[Copy, list[PieceHolder]] = {}
    for model, pulling in pullers(view, begun).items():
        for taker in sorted(pulling):
            takes = PieceHolder(node=taker, ticket=view.neurons[taker].ticket)
            for giver in partners(view, model, taker, pulling, shares):
                found.setdefault((giver.node, model), []).append(takes)
    return {copy: tuple(takers) for copy, takers in found.items()}


def _holds(view: FleetView, node: NodeId, model: ModelId) -> bool:
    capability = view.neurons[node].capabilities.get(model)
    return capability is not None and capability.state in _HOLDS


class Fleet(Protocol):
    """What the keeper needs of `Neurons`."""

    @property
    def view(self) -> FleetView: ...

    def now_s(self) -> float: ...

    async def share(self, node: NodeId, model: ModelId, peers: Sequence[PieceHolder]) -> None: ...


class Sharing:
    """Made by `running`."""

    def __init__(self, fleet: Fleet, shares: Shares) -> None:
        self._fleet = fleet
        self._shares = shares
        self._begun: dict[Copy, float] = {}
        self._told: dict[Copy, tuple[PieceHolder, ...]] = {}
        self._news = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def running(cls, fleet: Fleet, shares: Shares) -> AsyncIterator[Sharing]:
        """Holders are told inside the block, as pulls begin and end."""
        sharing = cls(fleet, shares)
        async with background() as tasks:
            tasks.start_soon(sharing._keep_telling)
            yield sharing

    def changed(self) -> None:
        """For `Neurons.watch`."""
        self._news.set()

    def peers(self, node: NodeId, model: ModelId) -> tuple[PieceHolder, ...]:
        """For a pull that is about to be told to `node`."""
        return self.together((node,), model)[node]

    def together(
        self, nodes: Collection[NodeId], model: ModelId
    ) -> Mapping[NodeId, tuple[PieceHolder, ...]]:
        """As `peers`, for pulls of one model that begin at once and so know of one another."""
        view = self._fleet.view
        until_s = self._fleet.now_s() + BEGINS_WITHIN_S
        self._begun.update({(node, model): until_s for node in nodes})
        pulling = pullers(view, self._now_begun()).get(model, frozenset())
        self._news.set()
        return {node: partners(view, model, node, pulling, self._shares) for node in nodes}

    def _now_begun(self) -> Collection[Copy]:
        now_s = self._fleet.now_s()
        self._begun = {copy: until_s for copy, until_s in self._begun.items() if until_s > now_s}
        return self._begun.keys()

    async def _keep_telling(self) -> None:
        while True:
            self._news = anyio.Event()
            late = await self._tell_all()
            with anyio.move_on_after(AGAIN_S if late or self._begun else None):
                await self._news.wait()

    async def _tell_all(self) -> bool:
        """Whether somebody did not take it."""
        wanted = grants(self._fleet.view, self._now_begun(), self._shares)
        here = self._fleet.view.neurons
        # Who left forgot what it was told, and asks nothing of anybody any more.
        self._told = {
            copy: takers
            for copy, takers in self._told.items()
            if copy[0] in here and here[copy[0]].presence is not Presence.GONE
        }
        words = {copy: wanted.get(copy, ()) for copy in {*wanted, *self._told}}
        words = {copy: takers for copy, takers in words.items() if self._told.get(copy) != takers}
        async with anyio.create_task_group() as tasks:
            for (node, model), takers in words.items():
                tasks.start_soon(self._tell, node, model, takers)
        return any(self._told.get(copy, ()) != takers for copy, takers in words.items())

    async def _tell(self, node: NodeId, model: ModelId, takers: tuple[PieceHolder, ...]) -> None:
        try:
            await self._fleet.share(node, model, takers)
        except HelexaError as error:
            _log.info("pieces_not_shared", extra={"node": node, "why": error.message})
            return
        if takers:
            self._told[node, model] = takers
        else:
            self._told.pop((node, model), None)
