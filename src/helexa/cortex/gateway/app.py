"""The gateway's ASGI app: settings and collaborators in, one callable out.

Requests for work are looked up by path before the framework sees them, because
its layers would be felt in every streamed token. Everything else is Starlette's.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from helexa.cortex.gateway import document, endpoints
from helexa.cortex.gateway.admission.anonymous import strangers
from helexa.cortex.gateway.admission.door import Admission
from helexa.cortex.gateway.admission.lane import Rules
from helexa.cortex.gateway.admission.observe import QueueObserver
from helexa.cortex.gateway.admission.turns import Turns
from helexa.cortex.gateway.anthropic_envelope import speaks_anthropic
from helexa.cortex.gateway.cors import Cors
from helexa.cortex.gateway.dispatch import Dispatch
from helexa.cortex.gateway.endpoint import Bench, WorkEndpoint
from helexa.cortex.gateway.endpoints import (
    generation,
    input_tokens,
    messages,
    models,
    responses,
    stored_responses,
)
from helexa.cortex.gateway.envelope import OPENAI, Envelope, headers_of
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.job import Patience
from helexa.cortex.gateway.observe import Continuations, Observer
from helexa.cortex.gateway.receipts import Receipts
from helexa.cortex.gateway.seams import Fleet, Keys
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.truth import Truth
from helexa.cortex.gateway.work import WorkApp
from helexa.cortex.settings import CortexSettings
from helexa.protocol.errors import HelexaError, InternalFault, MethodNotAllowed, RouteUnknown
from helexa.protocol.ids import ModelId
from helexa.util.asgi import App, Receive, Scope, Send
from helexa.util.budget import Budget
from helexa.util.health import health_routes
from helexa.util.metrics import Metrics

_ENVELOPE: Final = "helexa.envelope"
"""The scope's member that says how this client wants to be refused."""

log = logging.getLogger(__name__)


def gateway(
    settings: CortexSettings,
    *,
    keys: Keys,
    fleet: Fleet,
    metrics: Metrics,
    node: str = "",
    shelf: Shelf | None = None,
    turns: Turns | None = None,
    bodies: Budget | None = None,
) -> App:
    """The app to serve on the gateway socket; `node` is the cortex' own id.

    Without a `shelf` no response is kept.
    `turns` and `bodies` are shared with the door for other cortexes; without one they are
    clients' alone.
    """
    now = asyncio.get_running_loop().time
    turns = turns or turns_of(settings, fleet, metrics)
    admission = Admission(keys, turns, strangers(settings.limits), observer=turns.observer, now=now)
    receipts = Receipts(settings.receipts_max, now=now)
    bench = Bench(
        fleet=fleet,
        door=admission,
        dispatch=Dispatch(
            fleet,
            Patience.of(settings),
            now=now,
            survival=settings.survival,
            count=Continuations(metrics),
            truth=Truth(tells_who=settings.tell_served_by),
        ),
        observer=Observer(metrics, under_way=lambda: admission.under_way),
        now=now,
        body_bytes_max=settings.body_bytes_max,
        body_timeout_s=settings.body_timeout_s,
        bodies=bodies or Budget(settings.bodies_bytes_max),
        receipts=receipts,
    )
    hot: dict[str, App] = {
        one.path: WorkApp(one, bench) for one in work_endpoints() if one.for_clients
    }
    if shelf is not None:
        hot[responses.endpoint.path] = WorkApp(responses.served(shelf), bench)
        hot[input_tokens.endpoint.path] = WorkApp(input_tokens.served(shelf), bench)
    kept = stored_responses.routes(shelf=shelf, admission=admission)
    # A cortex knows since when it lists a model, not when somebody made it.
    listing = models.routes(
        fleet=fleet,
        admission=admission,
        queue_max=turns.queue_max,
        created=int(time.time()),
        node=node,
        tells_who=settings.tell_served_by,
    )

    def why_not_ready() -> str:
        return "" if fleet.models() else "no neuron that is connected has a model"

    told = generation.routes(receipts, admission, tells_who=settings.tell_served_by)
    health = health_routes(why_not_ready=why_not_ready, metrics=metrics)
    rest = _framework([*listing, *kept, *told, document.route(), *health])

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return hot.get(scope["path"], rest)(scope, receive, send)

    return Cors(app, settings.cors_origins) if settings.cors_origins else app


def turns_of(settings: CortexSettings, fleet: Fleet, metrics: Metrics) -> Turns:
    """The queues in front of a fleet's models. For the event loop that runs."""

    def queue_max(model: ModelId) -> int:
        own = fleet.queue_max(model)
        return settings.queue_max if own is None else own

    limits = settings.limits
    return Turns(
        fleet,
        Rules(
            fair=limits.fair,
            credit_tokens=limits.credit_tokens,
            bulk_share=limits.bulk_share,
            overcommit=limits.overcommit,
        ),
        queue_max=queue_max,
        wait_most_s=settings.first_byte_timeout_s,
        observer=QueueObserver(metrics),
        now=asyncio.get_running_loop().time,
    )


def work_endpoints() -> Iterator[WorkEndpoint[Any]]:
    """What the files in `endpoints/` export."""
    for module in pkgutil.iter_modules(endpoints.__path__):
        found = importlib.import_module(f"{endpoints.__name__}.{module.name}")
        if (endpoint := getattr(found, "endpoint", None)) is not None:
            yield endpoint


def _framework(routes: Sequence[BaseRoute]) -> App:
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        HelexaError: _refuse,
        HTTPException: _refuse_http,
        Exception: _refuse_fault,
    }
    starlette = Starlette(routes=routes, exception_handlers=handlers)
    # `/v1/models/` would be sent elsewhere with a body that is no envelope.
    starlette.router.redirect_slashes = False

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        ingress = Ingress(scope)
        envelope = _envelope_for(scope).of(ingress.request_id)
        lines = (ingress.id_lines + envelope.id_line).split(b"\r\n")[:-1]
        ids = [tuple(line.split(b": ", 1)) for line in lines]

        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *ids]
            await send(message)

        await starlette({**scope, _ENVELOPE: envelope}, receive, send_named)

    return named


def _envelope_for(scope: Scope) -> Envelope:
    """Of whoever asks for what no endpoint for work answers."""
    if scope["path"].startswith(f"{messages.endpoint.path}/") or speaks_anthropic(scope):
        return messages.endpoint.envelope
    return OPENAI


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HelexaError)
    envelope: Envelope = request.scope[_ENVELOPE]
    headers = {name.decode(): value.decode("latin-1") for name, value in headers_of(error)}
    return Response(envelope.body(error), error.status, headers, media_type="application/json")


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return await _refuse(request, MethodNotAllowed(request.method, allowed))
    return await _refuse(request, RouteUnknown(request.method, request.url.path))


async def _refuse_fault(request: Request, error: Exception) -> Response:
    log.error("gateway_fault", exc_info=error, extra={"path": request.url.path})
    return await _refuse(request, InternalFault())
