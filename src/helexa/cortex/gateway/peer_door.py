"""The door for other cortexes: the same work, no keys, and this operator's terms.

The caller is who the link proved it to be. What it asks is checked in this order: the
way that the request came, whether anything is lent to it, how much its operator has
under way, all before its body is read; then the model and the kind of work, and how
often it asks; only then is somebody looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from helexa.cortex.accounts.limits import Bounds
from helexa.cortex.gateway.admission.ranks import Rank, rank_of
from helexa.cortex.gateway.admission.turns import Turns
from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.app import work_endpoints
from helexa.cortex.gateway.dispatch import Dispatch
from helexa.cortex.gateway.endpoint import Bench
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.job import Patience
from helexa.cortex.gateway.observe import PeerObserver
from helexa.cortex.gateway.seams import Ticket, Turn, Visit
from helexa.cortex.gateway.truth import Truth
from helexa.cortex.gateway.work import WorkApp
from helexa.cortex.orchestrator.fabric import HOPS_HEADER, PATH_HEADER, Fabric
from helexa.cortex.orchestrator.federation.limits import Limits
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import lends, lends_to
from helexa.cortex.settings import CortexSettings, LimitsSettings
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import (
    LoopDetected,
    NotLent,
    RequestRejected,
    RouteUnknown,
    http_refusal,
)
from helexa.protocol.ids import ModelId, NodeId, is_model_id, is_node_id
from helexa.protocol.routing import MODEL_HEADER, RoutingDecision
from helexa.protocol.work import WorkloadClass
from helexa.util.asgi import App, Receive, Scope, Send, cycle_of, header
from helexa.util.budget import Budget
from helexa.util.http_server import ServerLimits, serving

_COUNTED: Final = "helexa.counted_operator"
"""In a scope: for whom this request is counted as under way."""
HOPS_HIGHEST: Final = 8
"""What `hops_max` can be at most; a request that claims more left gets this."""


@dataclass(frozen=True, slots=True)
class PeerGrant:
    """As a key is for a client: who asks, and whose account it would be."""

    standing: Standing
    bounds: Bounds

    @property
    def key_id(self) -> str:
        return self.standing.node

    @property
    def account(self) -> str:
        return self.standing.operator


class PeerDoor:
    """`gateway.seams.Door` for cortexes. The terms are those of the moment."""

    def __init__(
        self, fabric: Fabric, peers: Peers, limits: Limits, turns: Turns, settings: LimitsSettings
    ) -> None:
        self._fabric = fabric
        self._peers = peers
        self._limits = limits
        self._turns = turns
        self._is_beside = settings.lent == "beside"
        self._bounds = Bounds(weight=settings.lent_weight)

    def enter(self, scope: Scope, ingress: Ingress) -> Visit:  # noqa: ARG002 - no key here
        """Raises LoopDetected, NotLent, RateLimited and RequestRejected. `part` undoes it."""
        client = scope["client"]
        standing = self._peers.standing(NodeId(client[0])) if client else None
        if standing is None:
            raise NotLent("does not know the cortex that asks")
        path = self._path(scope, standing)
        if rule := lends_to(self._fabric.terms, standing):
            raise NotLent(rule)
        hops_left, model = _hops_left(scope), _model(scope)
        if standing.trust is not Trust.OWN:
            self._limits.enter(standing.operator, self._fabric.terms.lend_concurrency)
            scope[_COUNTED] = standing.operator
        return Visit(
            PeerGrant(standing, self._bounds),
            path,
            hops_left,
            model,
            shows_usage=header(scope, b"x-helexa-usage") == b"1",
        )

    def consider(self, visit: Visit, model: ModelId, workload: WorkloadClass) -> None:
        """Raises NotLent and RateLimited."""
        assert isinstance(visit.grant, PeerGrant)
        standing, terms = visit.grant.standing, self._fabric.terms
        if rule := lends(terms, standing, model, workload):
            raise NotLent(rule)
        if standing.trust is not Trust.OWN:
            self._limits.take(standing.operator, terms.lend_rate_per_minute)

    def admit(self, ticket: Ticket, decision: RoutingDecision) -> Turn | None:
        """In line with the own clients: an operator is an account there.

        Raises QueueFull and DeadlinePassed.
        """
        assert isinstance(ticket.grant, PeerGrant)
        standing = ticket.grant.standing
        rank = rank_of(ticket.workload, None, None)
        if not (self._is_beside or standing.trust is Trust.OWN):
            rank = Rank.LENT
        account = f"operator {standing.operator}"
        return self._turns.admit(ticket, decision, account, rank, self._bounds.weight)

    def lines(self, ticket: Ticket) -> bytes:  # noqa: ARG002 - peers get none
        return b""

    def delivered(self, ticket: Ticket, events: int) -> None:
        """Nobody counts them."""

    def leave(self, ticket: Ticket) -> None:
        """`part` is for every request, admitted or not."""
        self._turns.leave(ticket)

    def part(self, scope: Scope) -> None:
        """The request is over, however it ended."""
        operator = scope.pop(_COUNTED, None)
        if operator is not None:
            self._limits.leave(operator)

    def _path(self, scope: Scope, asker: Standing) -> tuple[NodeId, ...]:
        """The cortexes passed so far; the one that asks is the last."""
        text = header(scope, PATH_HEADER.encode())
        path = (asker.node,) if text is None else _nodes(text)
        # Lending is not borrowing: whoever borrows nothing still serves the one that asks.
        hops_max = max(self._fabric.terms.hops_max, 1)
        if not path or path[-1] != asker.node:
            raise LoopDetected(f"{PATH_HEADER} does not end with the cortex that asks.")
        if self._fabric.own.node in path:
            raise LoopDetected("The request has passed this cortex already.")
        if len(path) > hops_max:
            raise LoopDetected(
                f"The request has passed {len(path)} cortexes, and this one takes requests "
                f"that passed at most {hops_max} (hops_max)."
            )
        return path


def peer_app(
    settings: CortexSettings,
    *,
    fabric: Fabric,
    peers: Peers,
    limits: Limits,
    turns: Turns,
    bodies: Budget | None = None,
) -> App:
    """The app to serve on streams that peers open. `client` in a scope is the proven node id."""
    door = PeerDoor(fabric, peers, limits, turns, settings.limits)
    now = asyncio.get_running_loop().time
    bench = Bench(
        fleet=fabric,
        door=door,
        dispatch=Dispatch(
            fabric,
            Patience.of(settings),
            now=now,
            survival=settings.survival,
            truth=Truth(tells_who=settings.tell_served_by),
        ),
        observer=PeerObserver(fabric.count),
        now=now,
        body_bytes_max=settings.body_bytes_max,
        body_timeout_s=settings.body_timeout_s,
        bodies=bodies or Budget(settings.bodies_bytes_max),
    )
    work: dict[str, App] = {
        one.path: WorkApp(one, bench) for one in work_endpoints() if one.for_peers
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await work.get(scope["path"], _unknown)(scope, receive, send)
        finally:
            door.part(scope)

    return app


@asynccontextmanager
async def lending(
    settings: CortexSettings,
    *,
    fabric: Fabric,
    peers: Peers,
    turns: Turns,
    bodies: Budget | None = None,
    monotonic: Callable[[], float],
) -> AsyncIterator[Limits]:
    """Serve peers inside the block; what they have under way at its end gets the grace.

    `turns` are those that the own clients wait for, too, and `bodies` have room beside theirs.
    """
    limits = Limits(monotonic)
    bounds = ServerLimits(
        header_bytes_max=settings.header_bytes_max,
        header_timeout_s=settings.header_timeout_s,
        write_stall_s=settings.write_stall_s,
        connections_max=settings.connections_max,
    )
    async with serving(
        peer_app(settings, fabric=fabric, peers=peers, limits=limits, turns=turns, bodies=bodies),
        [],
        bounds,
        error_body=http_refusal,
        shutdown_grace_s=settings.shutdown_grace_s,
    ) as server:
        peers.open_door(server.serve_stream)
        try:
            yield limits
        finally:
            peers.close_door()


def _nodes(text: bytes) -> tuple[NodeId, ...]:
    names = text.decode("latin-1").split(",")[: HOPS_HIGHEST + 2]
    if not all(is_node_id(name) for name in names):
        raise LoopDetected(f"{PATH_HEADER} is not a list of node ids.")
    return tuple(NodeId(name) for name in names)


def _model(scope: Scope) -> ModelId | None:
    """What the cortex asks for where its client named it otherwise, by an alias of its own."""
    text = header(scope, MODEL_HEADER)
    if text is None:
        return None
    model = text.decode("latin-1")
    if not is_model_id(model):
        raise RequestRejected("The header x-helexa-model names no model.", "x-helexa-model")
    return ModelId(model)


def _hops_left(scope: Scope) -> int:
    text = header(scope, HOPS_HEADER.encode()) or b"0"
    if len(text) > 3 or not text.isdigit():
        raise LoopDetected(f"{HOPS_HEADER} is not a small number.")
    return min(int(text), HOPS_HIGHEST)


async def _unknown(scope: Scope, _receive: Receive, _send: Send) -> None:
    answer = Answer(cycle_of(scope), Ingress(scope).id_lines)
    await answer.fail(RouteUnknown(scope["method"], scope["path"]))
