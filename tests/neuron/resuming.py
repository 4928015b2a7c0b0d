"""Streams that are cut after any event, and finished by another neuron with the same weights."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec
from tests.neuron.bench import PATIENCE_S, Reply
from tests.neuron.test_app import ask, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.serving.app import Routes
from helexa.neuron.serving.doors import MeshDoor
from helexa.neuron.serving.execute import Executor
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.settings import ModelSettings, RuntimeSettings
from helexa.protocol.continuation import (
    CONTINUE_PATH,
    RESUMED_KEY,
    Continuation,
    Delivered,
    DeliveredCall,
    DeliveredChoice,
)
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


@dataclass
class Node:
    live: Neuron
    pool: Pool
    """Through the door of cortexes."""

    def digest(self, model: str) -> str:
        return self.live.roster.capability(model).digest


@asynccontextmanager
async def node(
    home: Path,
    folder: Path,
    served: dict[str, ModelSettings],
    *,
    keepalive_s: float = 10.0,
    runtimes: dict[str, RuntimeSettings] | None = None,
) -> AsyncIterator[Node]:
    """A whole neuron whose models are loaded and known by their digests."""
    usual = settings(home, folder, slots=8, context_tokens=2048)
    wanted = msgspec.structs.replace(usual, models=served, runtimes=runtimes or {})
    async with AsyncExitStack() as stack:
        opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
        live = await stack.enter_async_context(opened)
        metrics = NeuronMetrics(live.roster)
        executor = Executor(live.roster, metrics, body_bytes_max=1 << 20, keepalive_s=keepalive_s)
        listener = listen_tcp(Address("127.0.0.1", 0))
        app = Routes(live.roster, executor, metrics.metrics, dict).behind(MeshDoor())
        await stack.enter_async_context(
            serving(
                app,
                [listener],
                ServerLimits(),
                error_body=lambda _status, _message: b"{}",
                shutdown_grace_s=1.0,
            )
        )
        port = listener.getsockname()[1]
        pool = await stack.enter_async_context(Pool(Tcp("127.0.0.1", port)).running())
        found = Node(live, pool)
        changed = anyio.Event()

        def tell() -> None:
            changed.set()

        live.roster.observe(tell)
        for model in served:
            await live.roster.load(model)
        with anyio.fail_after(PATIENCE_S):
            while not all(map(found.digest, served)):
                await changed.wait()
                changed = anyio.Event()
        yield found


async def streamed(node: Node, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of an undisturbed stream, with usage."""
    more = {"stream": True, "stream_options": {"include_usage": True}}
    reply = await ask(node.pool, "POST", path, {**body, **more})
    assert reply.status == 200, reply.content
    assert reply.events[-1] == "[DONE]", reply.content
    return reply.events


def delivered(events: Sequence[Any]) -> Delivered:
    """What a gateway knows of these."""
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        for piece in event["choices"]:
            of = choices.setdefault(
                piece["index"], {"content": [], "reasoning": [], "calls": {}, "finish": ""}
            )
            delta = piece.get("delta", {})
            of["content"].append(piece.get("text", delta.get("content")) or "")
            of["reasoning"].append(delta.get("reasoning_content") or "")
            for call in delta.get("tool_calls") or ():
                known = of["calls"].setdefault(call["index"], {"id": "", "name": "", "args": ""})
                known["id"] = call.get("id") or known["id"]
                known["name"] += call["function"].get("name") or ""
                known["args"] += call["function"].get("arguments") or ""
            of["finish"] = piece.get("finish_reason") or of["finish"]
    first = events[0]
    return Delivered(
        id=first["id"],
        created=first["created"],
        model=first["model"],
        fingerprint=first.get("system_fingerprint", ""),
        choices=tuple(
            DeliveredChoice(
                index=index,
                content=tuple(one for one in of["content"] if one),
                reasoning=tuple(one for one in of["reasoning"] if one),
                tool_calls=tuple(
                    DeliveredCall(
                        index=at, id=call["id"], name=call["name"], arguments=call["args"]
                    )
                    for at, call in of["calls"].items()
                ),
                finish_reason=of["finish"],
            )
            for index, of in choices.items()
        ),
    )


def continuation(
    path: str, body: dict[str, Any], digest: str, events: Sequence[Any], /, **more: Any
) -> bytes:
    request = {"stream": True, "stream_options": {"include_usage": True}, **body}
    wanted = Continuation(
        path=path,
        model=body["model"],
        digest=digest,
        delivered=delivered(events),
        request=msgspec.Raw(json.dumps(request).encode()),
    )
    return msgspec.json.encode(msgspec.structs.replace(wanted, **more))


async def continued(
    node: Node, path: str, body: dict[str, Any], events: Sequence[Any], /, **more: Any
) -> Reply:
    digest = more.pop("digest", node.digest(body["model"]))
    wanted = continuation(path, body, digest, events, **more)
    return await ask(node.pool, "POST", CONTINUE_PATH, wanted)


def said(events: Sequence[Any]) -> dict[str, Any]:
    """All that a client can put together of a stream, counts and names included."""
    texts: dict[Any, str] = {}
    names: set[Any] = set()
    usage = None
    for event in events[:-1]:
        # llama.cpp says with each chunk when that one was made.
        names.add((event["id"], event["model"], event["object"]))
        names.add(event.get("system_fingerprint"))
        for piece in event["choices"]:
            index, delta = piece["index"], piece.get("delta", {})
            for name in ("role", "content", "reasoning_content"):
                if delta.get(name):
                    texts[index, name] = texts.get((index, name), "") + delta[name]
            if piece.get("text"):
                texts[index, "text"] = texts.get((index, "text"), "") + piece["text"]
            for call in delta.get("tool_calls") or ():
                # An id is drawn by lot; that it comes once is what a client needs.
                for name, value in (("ids", call.get("id") and "1"), ("type", call.get("type"))):
                    if value:
                        key = (index, call["index"], name)
                        texts[key] = texts.get(key, "") + value
                for name, text in call["function"].items():
                    key = (index, call["index"], name)
                    texts[key] = texts.get(key, "") + text
            if piece.get("finish_reason"):
                key = (index, "finish")
                texts[key] = texts.get(key, "") + piece["finish_reason"]
        if event.get("usage"):
            usage = {name: event["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    return {"texts": texts, "names": names, "usage": usage, "end": events[-1]}


def resumed_of(reply: Reply) -> int:
    found = [one["usage"] for one in reply.events[:-1] if one.get("usage")]
    resumed: int = found[-1][RESUMED_KEY]
    return resumed
