"""What a case talks to: one model on one adapter in a neuron that runs, and its HTTP API.

A case is a client. What it may know beyond that - how often the engine was asked, which
processes it is, what it says of its own load - is here, too, because a refusal has to be one
that cost nothing, and an unloaded model has to be gone.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import psutil

from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Ability, Capabilities, Endpoint, ReplicaSpec
from helexa.testing.conformance.knowledge import Knowledge
from helexa.util.upstream import Pool, Response

ANSWER_BYTES_MAX: Final = 1 << 24
PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.02

Body = dict[str, Any]


class NotTestable(Exception):
    """Neither so nor otherwise, with this machine or this model; the words say why."""


class Refused(Exception):
    """The runtime does not offer what was asked, and the neuron said so properly."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Any]:
        """What a stream said, without its [DONE], which has to be there."""
        payloads = [
            event.removeprefix(b"data: ")
            for event in self.content.split(b"\n\n")
            if event.startswith(b"data: ")
        ]
        assert payloads, f"no event stream: {self.content[:300]!r}"
        assert payloads[-1] == b"[DONE]", f"a stream ends with [DONE], not {payloads[-1][:300]!r}"
        return [json.loads(each) for each in payloads[:-1]]

    @property
    def deltas(self) -> list[Mapping[str, Any]]:
        return [
            choice["delta"]
            for event in self.events
            for choice in event.get("choices", ())
            if choice.get("index", 0) == 0
        ]

    @property
    def message(self) -> Mapping[str, Any]:
        """Of the first choice, put together where it was streamed."""
        if self.content.lstrip().startswith(b"{"):
            found: Mapping[str, Any] = self.json["choices"][0]["message"]
            return found
        return {
            "content": "".join(delta.get("content") or "" for delta in self.deltas),
            "reasoning_content": "".join(
                delta.get("reasoning_content") or "" for delta in self.deltas
            ),
            "tool_calls": _joined_calls(self.deltas),
        }

    @property
    def text(self) -> str:
        return str(self.message.get("content") or "")

    @property
    def finish_reason(self) -> str | None:
        if self.content.lstrip().startswith(b"{"):
            found: str | None = self.json["choices"][0]["finish_reason"]
            return found
        reasons = [
            choice.get("finish_reason")
            for event in self.events
            for choice in event.get("choices", ())
        ]
        return next((reason for reason in reversed(reasons) if reason), None)

    @property
    def usage(self) -> Mapping[str, Any]:
        if self.content.lstrip().startswith(b"{"):
            found: Mapping[str, Any] = self.json["usage"]
            return found
        told = [event["usage"] for event in self.events if event.get("usage")]
        assert len(told) == 1, f"a stream tells its usage once, not {len(told)} times"
        only: Mapping[str, Any] = told[0]
        return only


def _joined_calls(deltas: list[Mapping[str, Any]]) -> list[Body]:
    calls: dict[int, Body] = {}
    for delta in deltas:
        for piece in delta.get("tool_calls") or ():
            empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            call = calls.setdefault(piece["index"], empty)
            call["id"] = call["id"] or piece.get("id") or ""
            for name in ("name", "arguments"):
                call["function"][name] += (piece.get("function") or {}).get(name) or ""
    return [calls[index] for index in sorted(calls)]


@dataclass(slots=True, kw_only=True)
class Subject:
    """`cannot` are rows of the matrix that cannot be shown here, with the reasons."""

    model: str
    roster: Roster
    client: Pool
    knowledge: Knowledge
    token: str = ""
    """Of the neuron's management."""
    url: str = ""
    """Of the neuron's API."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = PATIENCE_S
    """For one answer."""

    # --- as a client

    def chat(self, content: Any, **more: Any) -> Body:
        """A request for a short answer that is the same each time, unless `more` says otherwise."""
        messages = [{"role": "user", "content": content}]
        return {"messages": messages, "max_tokens": 64, "temperature": 0, **more}

    async def ask(self, body: Body, endpoint: Endpoint = Endpoint.CHAT) -> Reply:
        """Whatever is answered. Raises Refused for what the runtime does not offer."""
        reply = await self.post(endpoint.value, {"model": self.model, **body})
        if reply.status == 400 and reply.error["code"] == "unsupported_capability":
            raise Refused(reply.error["message"])
        return reply

    async def answer(self, body: Body, endpoint: Endpoint = Endpoint.CHAT) -> Reply:
        """As `ask`, for a request that has to be answered."""
        reply = await self.ask(body, endpoint)
        assert reply.status == 200, f"{reply.status}: {reply.content[:500]!r}"
        return reply

    async def post(self, path: str, body: Body) -> Reply:
        with anyio.fail_after(self.patience_s):
            with await self.send(path, body) as response:
                await response.head()
                return Reply(response.status, await response.read(ANSWER_BYTES_MAX))

    async def send(self, path: str, body: Body) -> Response:
        """For a client that reads piece by piece, or leaves: close what is returned."""
        headers = [(b"content-type", b"application/json")]
        return await self.client.send("POST", path, headers, json.dumps(body).encode())

    async def manage(self, what: str) -> Reply:
        """`load` or `unload`, through the neuron's own API."""
        headers = [(b"authorization", f"Bearer {self.token}".encode())]
        path = f"/api/v1/models/{self.model}/{what}"
        with await self.client.request("POST", path, headers, b"") as response:
            return Reply(response.status, await response.read(ANSWER_BYTES_MAX))

    # --- behind the scenes

    async def replica(self) -> Replica:
        return await self.roster.replica(self.model)

    async def engine(self) -> Engine:
        """Loaded where it is not."""
        return await self.roster.engine(await self.replica())

    async def spec(self) -> ReplicaSpec:
        return (await self.replica()).spec

    async def offered(self) -> Capabilities:
        replica = await self.replica()
        found = replica.adapter.serves(replica.spec.files)
        assert found is not None, f"{replica.adapter.name} does not serve {self.model}"
        return found

    async def runtime(self) -> str:
        return (await self.replica()).adapter.name

    async def processes(self) -> list[psutil.Process]:
        """Of the engine; none for a server that somebody else keeps running."""
        return family((await self.engine()).process.pid)

    @asynccontextmanager
    async def computing_nothing(self) -> AsyncIterator[None]:
        """Nothing is asked of the engine in this block."""
        engine = await self.engine()
        heard: list[str] = []
        send = engine.pool.send

        async def listening(method: str, path: str, *rest: Any, **more: Any) -> Response:
            if method == "POST":
                heard.append(path)
            return await send(method, path, *rest, **more)

        engine.pool.send = listening  # type: ignore[method-assign]
        try:
            yield
        finally:
            engine.pool.send = send  # type: ignore[method-assign]
        assert not heard, f"the engine was asked for {heard} before the refusal"

    async def until_idle(self) -> None:
        """Until no request has a place."""
        replica = await self.replica()
        with anyio.fail_after(self.patience_s):
            await replica.gate.emptied()


def family(pid: int) -> list[psutil.Process]:
    if not pid:
        return []
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    """A zombie that nobody has reaped yet holds nothing any more."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def chats(offered: Capabilities) -> bool:
    return WorkloadClass.CHAT_INTERACTIVE in offered.classes


def has(ability: Ability, offered: Capabilities) -> bool:
    return ability in offered.abilities
