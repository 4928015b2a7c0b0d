"""A real gateway on a real socket; keys and fleet in memory, scripted neurons behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.util.http_parts import Caller, FarSide, Script, far_side

from helexa.cortex.accounts.limits import UNBOUND, Bounds
from helexa.cortex.gateway.app import gateway
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.orchestrator.labels import label
from helexa.cortex.settings import CortexSettings
from helexa.protocol.anthropic.errors import http_refusal as anthropic_refusal
from helexa.protocol.errors import (
    ErrorBody,
    ErrorEnvelope,
    KeyInvalid,
    KeyRevoked,
    ModelUnknown,
    NoCapacity,
    PeerLost,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.openai.models import ModelAbout, ServedBy
from helexa.protocol.routing import Label, RouteHints, RoutingDecision, Target
from helexa.protocol.work import ModelCapability, ModelState, Price, WorkloadClass
from helexa.util.http_server import ServerLimits, serving
from helexa.util.metrics import Metrics
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Headers, Pool, Response, Tcp

KEY = "hx_live_good"
OTHER_KEY = "hx_live_other"
"""Of another account."""
MODEL = ModelId("m")
AS_ASKED = ModelId("")


@dataclass
class Grant:
    key_id: str
    account: str
    bounds: Bounds = UNBOUND


class MemoryKeys:
    def __init__(self) -> None:
        self.others: dict[str, Grant] = {}
        """By secret, besides the good one."""

    def check(self, secret: str) -> Grant:
        if secret in self.others:
            return self.others[secret]
        if secret == "hx_live_revoked":
            raise KeyRevoked
        if secret == OTHER_KEY:
            return Grant("key_2", "other")
        if secret != KEY:
            raise KeyInvalid
        return Grant("key_1", "default")


@dataclass
class MemoryWay:
    pool: Pool
    headers: Headers


@dataclass
class MemoryFleet:
    """All neurons serve the one model; `routed` remembers what was asked."""

    ways: dict[NodeId, MemoryWay] = field(default_factory=dict)
    lost: set[NodeId] = field(default_factory=set)
    price: Price = field(default_factory=Price)
    by_prefix: bool = False
    leads_to: ModelId = AS_ASKED
    routed: list[tuple[WorkloadClass, ModelId, RouteHints]] = field(default_factory=list)
    under_way: dict[NodeId, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    digests: dict[NodeId, str] = field(default_factory=dict)
    """Of the model's weights, by neuron."""
    look: Callable[[AbstractSet[NodeId]], None] = lambda _silent: None
    """By which the gateway is told who is silent."""
    slots_each: int | None = None
    """What each neuron says that it has."""

    def slots(self, model: ModelId) -> int | None:
        return self.slots_each and len(self.ways) * self.slots_each

    def route(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        self.routed.append((workload, model, hints))
        if model != MODEL:
            raise ModelUnknown(model)
        if not self.ways:
            raise NoCapacity("neuron x is gone for 3 s", 2)
        targets = tuple(
            Target(node=node, model=self.leads_to)
            for node in self.ways
            if node not in hints.exclude and hints.digest in ("", self.digests.get(node, ""))
        )
        if not targets:
            raise NoCapacity("nobody else is here", 2)
        return RoutingDecision(model=model, workload=workload, targets=targets)

    brings_models = False
    terms_version = "terms-1"

    def waits(self, decision: RoutingDecision) -> ModelId | None:
        return None

    def place(self, model: ModelId) -> AbstractContextManager[Any]:
        raise AssertionError("nobody waits here")

    def queue_max(self, model: ModelId) -> int | None:
        return None

    def way(self, target: Target, hints: RouteHints) -> MemoryWay:
        if target.node in self.lost:
            raise PeerLost
        return self.ways[target.node]

    def models(self) -> Sequence[ModelCapability]:
        if not self.ways:
            return []
        return [
            ModelCapability(
                model=MODEL,
                state=ModelState.LOADED,
                classes=(WorkloadClass.CHAT_INTERACTIVE,),
                context_tokens=2048,
            )
        ]

    def wants_prefixes(self, model: ModelId) -> bool:
        return self.by_prefix

    def started(self, target: Target, model: ModelId, hints: RouteHints) -> None:
        self.under_way[target.node] = self.under_way.get(target.node, 0) + 1
        self.counts.append(self.under_way[target.node])

    def finished(self, target: Target, model: ModelId, outcome: str) -> None:
        self.under_way[target.node] -= 1
        self.outcomes.append(outcome)

    def owners(self) -> Mapping[ModelId, str]:
        return {}

    def served_by(self, name: ModelId) -> tuple[ServedBy, ...]:
        return ()

    def about(self, model: ModelId) -> ModelAbout:
        return ModelAbout()

    def called(self, target: Target) -> str:
        return target.node[-4:]

    def label(self, target: Target, model: ModelId) -> Label:
        digest, name = self.digests.get(target.node, ""), target.node[-4:]
        return label(digest=digest, price=self.price, operator="ab" * 32, name=name)

    def why_lost(self, target: Target) -> str:
        return ""

    def watch_silent(self, look: Callable[[AbstractSet[NodeId]], None]) -> None:
        self.look = look


@dataclass
class Gateway:
    port: int
    fleet: MemoryFleet
    neurons: list[FarSide]
    pool: Pool
    metrics: Metrics
    keys: MemoryKeys

    async def post(
        self,
        body: Any,
        path: str = "/v1/chat/completions",
        *,
        key: str | None = KEY,
        headers: Headers = (),
        method: str = "POST",
    ) -> Answer:
        sent = [*headers]
        if key is not None:
            sent.append((b"authorization", b"Bearer " + key.encode()))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with await self.pool.request(method, path, sent, data) as response:
            return Answer(response, await response.read(1 << 24))

    async def get(self, path: str, *, key: str | None = KEY) -> Answer:
        return await self.post(b"", path, key=key, method="GET")

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


class Answer:
    def __init__(self, response: Response, body: bytes) -> None:
        self.status = response.status
        self.headers = {name.decode(): value.decode() for name, value in response.headers}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert self.headers["content-type"] == "application/json"
        assert "x-request-id" in self.headers
        return error

    @property
    def events(self) -> list[str]:
        """The payloads of the SSE events, comments as they are."""
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n")[:-1]]


@asynccontextmanager
async def gateway_to(
    *scripts: Script, grace_s: float = 5.0, shelf: Shelf | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway whose neurons run these scripts, asked in this order."""
    async with AsyncExitStack() as stack:
        fleet = MemoryFleet()
        neurons = []
        for number, script in enumerate(scripts):
            neuron = await stack.enter_async_context(far_side(script))
            pool = await stack.enter_async_context(Pool(Tcp("127.0.0.1", neuron.port)).running())
            headers = ((b"x-helexa-token", b"token-%d" % number),)
            fleet.ways[NodeId(f"{number:064x}")] = MemoryWay(pool, headers)
            neurons.append(neuron)
        metrics, keys = Metrics(), MemoryKeys()
        app = gateway(
            CortexSettings(home=Path("/nowhere"), **settings),
            keys=keys,
            fleet=fleet,
            metrics=metrics,
            shelf=shelf,
        )
        listener = listen_tcp(Address("127.0.0.1", 0))
        port = listener.getsockname()[1]
        # Left after the server: whatever happened, every request was settled by then.
        stack.callback(_check_nothing_left, fleet, metrics)
        await stack.enter_async_context(
            serving(
                app,
                [listener],
                ServerLimits(),
                error_body=_error_body,
                error_bodies_below={b"/v1/messages": anthropic_refusal},
                shutdown_grace_s=grace_s,
            )
        )
        client = await stack.enter_async_context(Pool(Tcp("127.0.0.1", port)).running())
        yield Gateway(port, fleet, neurons, client, metrics, keys)


def _check_nothing_left(fleet: MemoryFleet, metrics: Metrics) -> None:
    assert not any(fleet.under_way.values()), "a started request was never finished"
    assert metrics.registry.get_sample_value("helexa_gateway_in_flight") == 0


def _error_body(status: int, message: str) -> bytes:
    return msgspec.json.encode(
        ErrorEnvelope(ErrorBody(message=message, type="invalid_request_error"))
    )


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}

WHOLE = b'{"id":"x","choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":3}}'
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def whole(body: bytes = WHOLE, status: int = 200, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s" % (
        status,
        headers,
        len(body),
        body,
    )


def refusal(status: int, code: str, headers: bytes = b"") -> bytes:
    error = {"message": f"said {code}", "type": "server_error", "param": None, "code": code}
    return whole(json.dumps({"error": error}).encode(), status, headers)


def answering(data: bytes) -> Script:
    """A neuron that gives the same answer to every request."""

    async def script(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.say(data)

    return script


def token(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()


USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,'
    b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def streaming(*pieces: bytes, pause: asyncio.Event | None = None) -> Script:
    """A neuron that streams these pieces as chunks, with a pause before the last."""

    async def script(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.say(SSE_HEAD)
            for number, piece in enumerate(pieces):
                if pause is not None and number == len(pieces) - 1:
                    await pause.wait()
                await caller.say_chunk(piece)
            await caller.say(b"0\r\n\r\n")

    return script
