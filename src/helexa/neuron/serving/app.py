"""The routes of a neuron, and the ASGI app that each of its doors gets.

Every listener serves the same routes behind its own door; management is only on
the API socket, because a cortex commands over the control protocol.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from helexa.neuron.serving.doors import MANAGEMENT, PATH_CHECK, Door, path_proof
from helexa.neuron.serving.execute import Executor, Kind
from helexa.neuron.serving.replies import Handler, Reply, as_json, send_error, send_reply
from helexa.neuron.serving.resuming import Resume
from helexa.neuron.serving.supply import SupplyRoutes
from helexa.neuron.serving.tokens import TokenWork
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import HelexaError, MethodNotAllowed, ModelUnknown, RouteUnknown
from helexa.protocol.ids import is_model_id
from helexa.protocol.via import VIA_HEADER
from helexa.protocol.work import ModelCapability
from helexa.runtime.contract import Endpoint
from helexa.util.http_server import App, Receive, Scope, Send, header
from helexa.util.metrics import CONTENT_TYPE, Metrics

UNLOAD_GRACE_S: Final = 30.0
_MODELS: Final = "/v1/models/"
_MANAGED: Final = f"{MANAGEMENT}v1/models/"


Answer: TypeAlias = Callable[[Scope], Awaitable[Reply]]
Status: TypeAlias = Callable[[], Mapping[str, Any]]


class Routes:
    """`behind(door)` is an ASGI app. `status` is what `/api/v1/status` answers."""

    def __init__(
        self,
        roster: Roster,
        executor: Executor,
        metrics: Metrics,
        status: Status,
        supply: SupplyRoutes | None = None,
    ) -> None:
        self._roster = roster
        self._executor = executor
        self._metrics = metrics
        self._status = status
        self._supply = supply
        self._created = int(time.time())
        self._for_all: dict[str, tuple[str, Handler]] = {
            "/v1/models": ("GET", _plain(self._list)),
            "/healthz": ("GET", _plain(self._healthy)),
            "/readyz": ("GET", _plain(self._ready)),
            "/metrics": ("GET", _plain(self._measured)),
        }

    def behind(self, door: Door, *, management: bool = False, path_check: bool = False) -> App:
        fixed = dict(self._for_all)
        for kind in (*Endpoint, *TokenWork):
            handler = self._inference(kind, from_cortex=door.is_for_cortexes)
            fixed[kind.value] = ("POST", handler)
        if door.is_for_cortexes:
            kind = Resume.CONTINUE
            fixed[kind.value] = ("POST", self._inference(kind, from_cortex=True))
        if management:
            fixed[f"{MANAGEMENT}v1/status"] = ("GET", _plain(self._answer_status))
        if path_check:
            fixed[PATH_CHECK] = ("GET", _plain(self._prove))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            path, method = scope["path"], scope["method"]
            try:
                door.check(scope)
                if (via := header(scope, VIA_HEADER)) is not None:
                    self._executor.check_way(via)
                found = fixed.get(path) or self._by_prefix(path, method, management=management)
                if found is None:
                    raise RouteUnknown(method=method, path=path)
                allowed, handler = found
                if method != allowed:
                    raise MethodNotAllowed(method=method, allowed=allowed)
                await handler(scope, receive, send)
            except HelexaError as error:
                await send_error(send, error)

        return app

    def _by_prefix(self, path: str, method: str, *, management: bool) -> tuple[str, Handler] | None:
        if path.startswith(_MODELS):
            return "GET", _plain(self._one)
        if management and path.startswith(_MANAGED):
            if path.endswith("/load"):
                return "POST", _plain(self._load)
            if path.endswith("/unload"):
                return "POST", _plain(self._unload)
            if self._supply is not None:
                return self._supply.at(method, path.removeprefix(_MANAGED))
        return None

    def _inference(self, kind: Kind, *, from_cortex: bool) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            await self._executor.serve(kind, scope, receive, send, from_cortex=from_cortex)

        return handler

    # --- for everybody

    async def _list(self, _scope: Scope) -> Reply:
        models = [self._entry(each) for each in self._roster.capabilities()]
        return as_json({"object": "list", "data": models})

    async def _one(self, scope: Scope) -> Reply:
        model = unquote(scope["path"].removeprefix(_MODELS))
        return as_json(self._entry(self._roster.capability(model)))

    def _entry(self, capability: ModelCapability) -> dict[str, Any]:
        return {
            "id": capability.model,
            "object": "model",
            "created": self._created,
            "owned_by": "helexa",
            "helexa": capability,
        }

    async def _healthy(self, _scope: Scope) -> Reply:
        return as_json({"status": "ok"})

    async def _ready(self, _scope: Scope) -> Reply:
        if self._roster.draining:
            return as_json({"status": "not ready", "reason": "draining"}, status=503)
        return as_json({"status": "ready"})

    async def _measured(self, _scope: Scope) -> Reply:
        return Reply(self._metrics.render(), content_type=CONTENT_TYPE.encode())

    async def _prove(self, scope: Scope) -> Reply:
        return Reply(path_proof(scope), content_type=b"text/plain")

    # --- management

    async def _answer_status(self, _scope: Scope) -> Reply:
        return as_json(self._status())

    async def _load(self, scope: Scope) -> Reply:
        model = _model_in(scope, "/load")
        await self._roster.load(model, displacing=True)
        return as_json(self._roster.capability(model))

    async def _unload(self, scope: Scope) -> Reply:
        model = _model_in(scope, "/unload")
        await self._roster.unload(model, UNLOAD_GRACE_S)
        return as_json(self._roster.capability(model))


def _plain(answer: Answer) -> Handler:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send_reply(send, await answer(scope))

    return handler


def _model_in(scope: Scope, suffix: str) -> str:
    model = unquote(scope["path"].removeprefix(_MANAGED).removesuffix(suffix))
    if not is_model_id(model):
        raise ModelUnknown(model=model)
    return model
