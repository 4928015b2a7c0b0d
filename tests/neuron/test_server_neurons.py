"""A neuron whose server is another neuron, with the real engine there; and loops of such."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.e2e.processes import Node, started
from tests.neuron.bench import PATIENCE_S
from tests.neuron.other_servers import HELLO, scripted, stream
from tests.neuron.test_app import api, ask, settings
from tests.neuron.test_served import CHAT, chat, neuron, server, state

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.models import served
from helexa.neuron.settings import ServerSettings
from helexa.protocol.via import VIA_HEADER, new_mark
from helexa.testing import tiny_gguf
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("far")
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=1 << 16)
    tiny_gguf.write(folder / "embed.gguf", pooling=1, context_tokens=1024)
    return folder


@asynccontextmanager
async def far(
    tmp_path: Path, models: Path, port: int = 0, **more: Any
) -> AsyncIterator[tuple[Neuron, int]]:
    wanted = settings(tmp_path / "far", models, api_socket=Address("127.0.0.1", port), slots=2)
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport}, **more)
    async with opened as live:
        yield live, int(live.api_url.rpartition(":")[2])


def at(port: int, **more: Any) -> dict[str, ServerSettings]:
    return {"far": ServerSettings(url=f"http://127.0.0.1:{port}/v1", **more)}


async def until_idle(live: Neuron, model: str) -> None:
    """The engine there has nothing left to do."""
    replica = await live.roster.replica(model)
    with anyio.fail_after(PATIENCE_S):
        await replica.gate.emptied()


async def test_a_model_of_another_neuron_is_as_good_as_one_here(
    tmp_path: Path, models: Path
) -> None:
    async with (
        far(tmp_path, models) as (_, port),
        neuron(tmp_path, servers=at(port)) as (live, pool),
    ):
        found = await state(live, "tiny", "unloaded")
        whole = await ask(pool, "POST", CHAT, chat("tiny", max_tokens=8, temperature=0))
        streamed = await ask(
            pool,
            "POST",
            CHAT,
            chat(
                "tiny",
                max_tokens=8,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            ),
        )
        text = {"model": "tiny", "prompt": "a", "max_tokens": 4, "temperature": 0}
        completed = await ask(pool, "POST", "/v1/completions", text)
        vectors = await ask(pool, "POST", "/v1/embeddings", {"model": "embed", "input": "a b"})
        long = await ask(pool, "POST", CHAT, chat("embed"))
        listed = await ask(pool, "GET", "/v1/models")
    assert found.runtime == "openai_compatible"
    assert found.context_tokens == 1 << 16
    assert found.architecture == "llama"
    assert "json_schema" in found.abilities
    assert whole.json["model"] == "tiny"
    assert whole.json["usage"]["completion_tokens"] == 8
    *chunks, counted, done = streamed.events
    assert done == "[DONE]"
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert said == whole.json["choices"][0]["message"]["content"]
    assert counted["usage"]["completion_tokens"] == 8
    assert len(completed.json["choices"][0]["text"]) == 4
    assert len(vectors.json["data"][0]["embedding"]) == 32
    assert (long.status, long.error["code"]) == (400, "unsupported_capability")
    assert {one["helexa"]["runtime"] for one in listed.json["data"]} == {"openai_compatible"}


async def test_under_another_name_and_with_a_schema(tmp_path: Path, models: Path) -> None:
    shape = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": shape}}
    async with (
        far(tmp_path, models) as (_, port),
        neuron(tmp_path, servers=at(port, models={"here": "tiny"})) as (live, pool),
    ):
        await state(live, "here", "unloaded")
        body = chat("here", max_tokens=40, response_format=wanted)
        reply = await ask(pool, "POST", CHAT, body)
        long = await ask(pool, "POST", CHAT, chat("here", messages=[
            {"role": "user", "content": "a " * 70_000}]))  # fmt: skip
    assert reply.json["model"] == "here"
    assert isinstance(json.loads(reply.json["choices"][0]["message"]["content"])["a"], bool)
    assert (long.status, long.error["code"]) == (400, "context_length_exceeded")


async def test_who_leaves_here_frees_the_engine_there(tmp_path: Path, models: Path) -> None:
    async with (
        far(tmp_path, models) as (there, port),
        neuron(tmp_path, servers=at(port)) as (live, pool),
    ):
        await state(live, "tiny", "unloaded")
        body = json.dumps(chat("tiny", stream=True, max_tokens=60_000)).encode()
        with await pool.request("POST", CHAT, (), body) as response:
            await response.chunk()
            busy = (await there.roster.replica("tiny")).gate.running
        await until_idle(there, "tiny")
        # Also one who did not ask for a stream.
        with anyio.move_on_after(0.3):
            await ask(pool, "POST", CHAT, chat("tiny", max_tokens=60_000))
        await until_idle(there, "tiny")
    assert busy == 1


@asynccontextmanager
async def process(tmp_path: Path, models: Path, port: int) -> AsyncIterator[Node]:
    with started(
        "neuron",
        *("--home", str(tmp_path / "process"), "--models-dir", str(models)),
        *("--control-socket", "127.0.0.1:0", "--api-socket", f"127.0.0.1:{port}"),
        cwd=tmp_path,
    ) as node:
        await anyio.to_thread.run_sync(lambda: node.ready)
        yield node


@pytest.mark.timeout(180)
async def test_a_neuron_that_is_killed_is_told_in_the_stream_and_is_back_by_itself(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(served, "AGAIN_S", 0.05)
    port = free_port()
    async with neuron(tmp_path, servers=at(port, models={"here": "tiny"})) as (live, pool):
        await state(live, "here", "failed")
        body = json.dumps(chat("here", stream=True, max_tokens=60_000)).encode()
        async with process(tmp_path, models, port) as first:
            await state(live, "here", "unloaded")
            with anyio.fail_after(PATIENCE_S):
                with await pool.request("POST", CHAT, (), body) as response:
                    await response.chunk()
                    # The neuron alone: its engine is ended by the kernel, as after any such death.
                    first.process.kill()
                    rest = await response.read(1 << 24)
        failed = await state(live, "here", "failed")
        refused = await ask(pool, "POST", CHAT, chat("here"))
        async with process(tmp_path, models, port):
            await state(live, "here", "unloaded")
            again = await ask(pool, "POST", CHAT, chat("here", max_tokens=4))
    last = json.loads(rest.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "runtime_exited"
    assert failed.reason == "the server far: it cannot be reached"
    assert (refused.status, refused.error["code"]) == (503, "no_capacity")
    assert again.status == 200


async def test_a_neuron_that_is_its_own_server_finds_out(tmp_path: Path, models: Path) -> None:
    port = free_port()
    wanted = settings(
        tmp_path, models, api_socket=Address("127.0.0.1", port), servers=at(port, models={"x": "y"})
    )
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        failed = await state(live, "x", "failed")
        reply = await ask(pool, "POST", CHAT, chat("x"))
    assert failed.reason == "the server far: it leads back to this neuron"
    assert reply.status == 503


async def test_two_neurons_that_are_each_other_s_server_make_no_models_of_nothing(
    tmp_path: Path, models: Path
) -> None:
    here, there = free_port(), free_port()
    empty = tmp_path / "empty"
    empty.mkdir()
    one = settings(tmp_path / "a", models, api_socket=Address("127.0.0.1", here), servers=at(there))
    # By name, it insists on the model that the other has from itself.
    two = settings(
        tmp_path / "b", empty, api_socket=Address("127.0.0.1", there),
        servers={**at(here), "again": ServerSettings(
            url=f"http://127.0.0.1:{here}/v1", models={"loop": "loop"})},
    )  # fmt: skip
    transports = {"iroh": MemoryNetwork().open_transport}
    async with (
        running(one, open_transports=transports) as a,
        running(two, open_transports={"iroh": MemoryNetwork().open_transport}) as b,
        api(b) as pool,
    ):
        await state(b, "tiny", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("tiny", max_tokens=4))
        names = {model.model: model.runtime for model in a.roster.capabilities()}
    assert reply.status == 200
    assert set(names.values()) == {"llama_cpp"}


async def test_a_request_that_came_through_this_neuron_is_refused(tmp_path: Path) -> None:
    async with (
        scripted("there", chat_completions=lambda _: stream(*HELLO)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        before = new_mark().decode()
        first = await ask(pool, "POST", CHAT, chat("there"), {VIA_HEADER.decode(): before})
        passed = other.of(CHAT)[0].headers[VIA_HEADER.decode()]
        looped = await ask(pool, "POST", CHAT, chat("there"), {VIA_HEADER.decode(): passed})
    assert first.status == 200
    assert passed.startswith(f"{before},")
    assert (looped.status, looped.error["code"]) == (508, "loop_detected")
    assert len(other.of(CHAT)) == 1


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
