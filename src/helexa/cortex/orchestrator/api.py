"""The control API on the orchestrator socket: what `helexa inspect`, `models` and `keys` call.

Everything under /api/v1 needs the cortex's admin token. Answers are JSON; refusals
carry the same envelope as the gateway's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.orchestrator import mesh_api
from helexa.cortex.orchestrator.calls import answer, body_of, guard
from helexa.cortex.orchestrator.explain import Explanation
from helexa.cortex.orchestrator.mesh_control import MeshControl
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.protocol.errors import (
    HelexaError,
    InternalFault,
    MethodNotAllowed,
    ModelUnknown,
    RequestRejected,
    RouteUnknown,
    envelope,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import WorkloadClass

if TYPE_CHECKING:
    # For the type alone: the keys bring the database, see `helexa.cortex.accounts.keyring`.
    from helexa.cortex.accounts.keys import Keys

_log = logging.getLogger(__name__)


class Status(Protocol):
    """What the composition root knows of this node, as a JSON object."""

    def __call__(self) -> Mapping[str, Any]: ...


class Explain(Protocol):
    def __call__(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> Explanation:
        """Raises ModelUnknown."""
        ...


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class OnNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The optional body of load and unload: which neuron. Empty is every one that lists it."""

    node: str = ""


class DrainNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlApi:
    """The calls, one method each; `application` puts them on their paths."""

    neurons: Neurons
    keys: Callable[[], Awaitable[Keys]]
    """Opens the database when first awaited."""
    status: Status
    why: Explain | None = None
    """Where a request would go, other cortexes included; None asks the neurons alone."""

    async def show_status(self, _request: Request) -> Response:
        return answer(self.status())

    async def list_neurons(self, _request: Request) -> Response:
        return answer({"neurons": self.neurons.listed()})

    async def drain(self, request: Request) -> Response:
        wanted = await body_of(request, DrainNode)
        node = _one_node(self.neurons, request.path_params["node"])
        await self.neurons.drain(node, enabled=wanted.enabled)
        return answer({"node": node, "draining": wanted.enabled})

    async def list_models(self, _request: Request) -> Response:
        return answer({"models": self.neurons.placements()})

    async def load(self, request: Request) -> Response:
        return await _provision(request, self.neurons, self.neurons.load)

    async def unload(self, request: Request) -> Response:
        return await _provision(request, self.neurons, self.neurons.unload)

    async def explain(self, request: Request) -> Response:
        model = ModelId(request.query_params.get("model", ""))
        try:
            workload = WorkloadClass(request.query_params.get("workload", "chat_interactive"))
        except ValueError:
            classes = ", ".join(one.value for one in WorkloadClass)
            raise RequestRejected(f"`workload` is one of: {classes}.", "workload") from None
        return answer((self.why or self.neurons.explained)(workload, model, RouteHints()))

    async def list_keys(self, _request: Request) -> Response:
        return answer({"keys": (await self.keys()).all()})

    async def create_key(self, request: Request) -> Response:
        wanted = await body_of(request, CreateKey)
        made = (await self.keys()).create(wanted.name)
        return answer(made, 201)

    async def revoke_key(self, request: Request) -> Response:
        return answer((await self.keys()).revoke(request.path_params["key"]))


def application(
    api: ControlApi,
    *,
    admin_token: str,
    health: Sequence[Route],
    mesh: MeshControl | None = None,
) -> Starlette:
    """The ASGI application. `health` are the routes that every socket has, open to all;
    without `mesh` there are none below /api/v1/mesh.
    """
    guarded = guard(admin_token)
    routes = [
        guarded("/api/v1/status", api.show_status),
        guarded("/api/v1/neurons", api.list_neurons),
        guarded("/api/v1/neurons/{node}/drain", api.drain, "POST"),
        guarded("/api/v1/models", api.list_models),
        guarded("/api/v1/models/{model:path}/load", api.load, "POST"),
        guarded("/api/v1/models/{model:path}/unload", api.unload, "POST"),
        guarded("/api/v1/explain", api.explain),
        guarded("/api/v1/keys", api.list_keys),
        guarded("/api/v1/keys", api.create_key, "POST"),
        guarded("/api/v1/keys/{key}", api.revoke_key, "DELETE"),
        *(mesh_api.routes(mesh, guarded) if mesh is not None else ()),
        *health,
    ]
    handlers: dict[Any, Any] = {
        HelexaError: _refusal,
        HTTPException: _http_refusal,
        Exception: _fault,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


async def _provision(
    request: Request,
    neurons: Neurons,
    act: Callable[[NodeId, ModelId], Awaitable[Any]],
) -> Response:
    wanted = await body_of(request, OnNode)
    model = ModelId(request.path_params["model"])
    if model not in neurons.view.holders:
        raise ModelUnknown(str(model))
    nodes = [_one_node(neurons, wanted.node)] if wanted.node else neurons.present_holders(model)
    results: dict[NodeId, Any] = {}

    async def act_on(node: NodeId) -> None:
        try:
            results[node] = await act(node, model)
        except HelexaError as error:
            if len(nodes) == 1:
                raise
            results[node] = {"state": "failed", "reason": error.message}

    if len(nodes) == 1:
        await act_on(nodes[0])
    else:
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(act_on, node)
    return answer(
        {"model": model, "results": [{"node": n, "response": r} for n, r in results.items()]}
    )


def _one_node(neurons: Neurons, text: str) -> NodeId:
    """A node by its id, the head of it, or its name. Raises RequestRejected."""
    found = [
        node
        for node, neuron in neurons.view.neurons.items()
        if text and (node.startswith(text) or neuron.descriptor.name == text)
    ]
    if len(found) != 1:
        what = "No neuron" if not found else "More than one neuron"
        raise RequestRejected(f"{what} is called {text[:80]!r}.", "node")
    return found[0]


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HelexaError)
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return Response(envelope(error), error.status, media_type="application/json", headers=headers)


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return await _refusal(request, MethodNotAllowed(request.method, allowed))
    return await _refusal(request, RouteUnknown(request.method, request.url.path))


async def _fault(request: Request, error: Exception) -> Response:
    _log.error("control_api_fault", exc_info=error, extra={"path": request.url.path})
    return await _refusal(request, InternalFault())
