"""The real engine behind the real neuron: what facts were learnt about it must stay true."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from tests.neuron.bench import PATIENCE_S, Reply
from tests.neuron.test_app import api, ask, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.settings import ModelSettings
from helexa.neuron.supervisor.weighing import group_bytes
from helexa.protocol.errors import RequestRejected
from helexa.protocol.messages import ModelConfig
from helexa.testing import tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
TOOLS_TEMPLATE = (
    "{% if tools %}Tools: {{ tools|tojson }}\n{% endif %}"
    "{% for message in messages %}"
    "{% if message['content'] == 'boom' %}{{ raise_exception('no boom allowed') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] or '' }}"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments|tojson }}}\n'
    "</tool_call>{% endfor %}{% endif %}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"sunny": {"type": "boolean"}},
            "required": ["sunny"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=512)
    tiny_gguf.write(folder / "tools.gguf", chat_template=TOOLS_TEMPLATE)
    tiny_gguf.write(folder / "long.gguf", context_tokens=1 << 15)
    tiny_gguf.write(folder / "embed.gguf", pooling=1, context_tokens=1024)
    tiny_gguf.write(folder / "zork.gguf", architecture="zork")
    return folder


@asynccontextmanager
async def neuron(
    tmp_path: Path, folder: Path, served: dict[str, ModelSettings] | None = None
) -> AsyncIterator[tuple[Neuron, Pool]]:
    usual = settings(tmp_path, folder, slots=2, context_tokens=8192)
    wanted = msgspec.structs.replace(usual, models=served or {})
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        yield live, pool


def chat(model: str, content: Any = "hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 40, "temperature": 0, **more}


async def test_the_context_is_each_slots_own_and_a_longer_prompt_is_told_the_numbers(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        # Half of two slots' context is not what a request may use: all of its own is.
        fits = await ask(pool, "POST", CHAT, chat("tiny", "a" * 400))
        long = await ask(pool, "POST", CHAT, chat("tiny", "a" * 600))
    assert fits.status == 200
    assert fits.json["usage"]["prompt_tokens"] > 256
    assert (long.status, long.error["code"]) == (400, "context_length_exceeded")
    assert "this model reads 512 tokens" in long.error["message"]


async def test_an_answer_without_a_limit_ends_at_the_context(tmp_path: Path, models: Path) -> None:
    body = chat("tiny")
    del body["max_tokens"]
    async with neuron(tmp_path, models) as (_, pool):
        reply = await ask(pool, "POST", CHAT, body)
    assert reply.json["choices"][0]["finish_reason"] == "length"
    assert reply.json["usage"]["total_tokens"] <= 512


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", None),
        ({"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
    ],
)
async def test_a_call_that_is_required_is_made(
    tmp_path: Path, models: Path, stream: bool, choice: Any, name: str | None
) -> None:
    body = chat("tools", tools=[CLOCK, WEATHER], tool_choice=choice, stream=stream)
    async with neuron(tmp_path, models) as (_, pool):
        reply = await ask(pool, "POST", CHAT, {**body, "max_tokens": 300})
    if stream:
        deltas = [each["choices"][0]["delta"] for each in reply.events[:-1]]
        pieces = [c for delta in deltas for c in delta.get("tool_calls", ())]
        called = "".join(piece["function"].get("name", "") for piece in pieces[:1])
        assert not any(delta.get("content") for delta in deltas)
    else:
        message = reply.json["choices"][0]["message"]
        called = message["tool_calls"][0]["function"]["name"]
        assert not message["content"]
    assert called == (name or called)
    assert called in ("get_weather", "get_time")


async def test_a_schema_shapes_the_answer(tmp_path: Path, models: Path) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    async with neuron(tmp_path, models) as (_, pool):
        reply = await ask(pool, "POST", CHAT, chat("tiny", response_format=form))
    answer = json.loads(reply.json["choices"][0]["message"]["content"])
    assert isinstance(answer["ok"], bool)


async def test_what_the_caller_did_wrong_is_a_400_also_where_the_engine_says_500(
    tmp_path: Path, models: Path
) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    bad = {
        "unsupported_modality": chat("tiny", picture),
        "unsupported_capability": chat("embed"),
        "bad_request": chat("tools", "boom"),
        "invalid_body": {"model": "tiny", "messages": [{"content": "x"}]},
    }
    grammar = chat("tools", grammar='root ::= "a"', tools=[CLOCK])
    async with neuron(tmp_path, models) as (_, pool):
        replies = {code: await ask(pool, "POST", CHAT, body) for code, body in bad.items()}
        both = await ask(pool, "POST", CHAT, grammar)
        vector = await ask(pool, "POST", "/v1/embeddings", {"model": "tiny", "input": "x"})
        # Whatever was refused, the engine goes on.
        good = await ask(pool, "POST", CHAT, chat("tiny"))
        field = await ask(pool, "POST", CHAT, chat("tiny", n_keep=-2))
    for code, reply in replies.items():
        assert (reply.status, reply.error["code"]) == (400, code)
    assert "no boom allowed" in replies["bad_request"].error["message"]
    assert both.status == 400
    assert "grammar" in both.error["message"]
    assert (vector.status, vector.error["code"]) == (400, "unsupported_capability")
    assert good.status == 200
    assert (field.status, field.error["param"]) == (400, "n_keep")


async def test_embeddings_are_vectors_as_long_as_the_model_is_wide(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        two = await ask(pool, "POST", "/v1/embeddings", {"model": "embed", "input": ["a", "b"]})
        # Longer than the engine's usual batch, shorter than the context.
        wide = {"model": "embed", "input": "a" * 900}
        long = await ask(pool, "POST", "/v1/embeddings", wide)
        over = await ask(pool, "POST", "/v1/embeddings", {"model": "embed", "input": "a" * 1100})
    assert [len(each["embedding"]) for each in two.json["data"]] == [32, 32]
    assert long.status == 200
    assert (over.status, over.error["code"]) == (400, "context_length_exceeded")


async def test_an_architecture_that_the_engine_does_not_know_is_named(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (live, pool):
        reply = await ask(pool, "POST", CHAT, chat("zork"))
        replica = await live.roster.replica("zork")
    assert reply.status == 502
    assert "unknown model architecture: 'zork'" in reply.error["message"]
    assert replica.state.launches == 1


async def test_several_choices_are_counted_together(tmp_path: Path, models: Path) -> None:
    body = chat("tiny", n=2, max_tokens=5, temperature=1, seed=7)
    async with neuron(tmp_path, models) as (_, pool):
        whole = await ask(pool, "POST", CHAT, body)
        streamed = await ask(
            pool,
            "POST",
            CHAT,
            {**body, "stream": True, "stream_options": {"include_usage": True}},
        )
    for usage in (whole.json["usage"], streamed.events[-2]["usage"]):
        assert usage["completion_tokens"] == 10
    assert len(whole.json["choices"]) == 2
    assert sum("usage" in each for each in streamed.events[:-1]) == 1


async def test_deterministic_answers_are_the_same_alone_and_in_company(
    tmp_path: Path, models: Path
) -> None:
    served = {"tools": ModelSettings(deterministic=True, slots=4)}
    body = chat("tools", "hello there", max_tokens=100)
    replies: list[Reply] = []
    async with neuron(tmp_path, models, served=served) as (_, pool):
        alone = await ask(pool, "POST", CHAT, body)

        async def again() -> None:
            replies.append(await ask(pool, "POST", CHAT, body))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(again)
    texts = {each.json["choices"][0]["message"]["content"] for each in [alone, *replies]}
    assert len(texts) == 1


async def test_requests_right_after_one_another_all_succeed(tmp_path: Path, models: Path) -> None:
    """The engine closes its connection just after a stream; no request may fall into that gap."""
    async with neuron(tmp_path, models) as (_, pool):
        for _ in range(40):
            reply = await ask(pool, "POST", CHAT, chat("tiny", max_tokens=1))
            assert reply.status == 200


async def fill(pool: Pool, slots: int, tokens: int) -> None:
    """A prompt for each slot; the tiny vocabulary reads about a token a character."""
    replies: list[Reply] = []

    async def one(slot: int) -> None:
        body = chat("long", f"{slot}" + "a" * tokens, max_tokens=4)
        replies.append(await ask(pool, "POST", CHAT, body))

    async with anyio.create_task_group() as tasks:
        for slot in range(slots):
            tasks.start_soon(one, slot)
    assert [each.status for each in replies] == [200] * slots


@pytest.mark.parametrize(
    ("served", "tokens"),
    [
        (ModelSettings(context_tokens=2_048, slots=2), 1_900),
        (ModelSettings(context_tokens=8_192, slots=4), 4_000),
        (ModelSettings(context_tokens=4_096, slots=1, deterministic=True), 3_900),
    ],
)
async def test_the_footprint_is_within_a_tenth_of_what_the_engine_takes(
    tmp_path: Path, models: Path, served: ModelSettings, tokens: int
) -> None:
    async with neuron(tmp_path, models, served={"long": served}) as (live, pool):
        await live.roster.load("long")
        await fill(pool, served.slots or 1, tokens)
        replica = await live.roster.replica("long")
        engine = await live.roster.engine(replica)
        measured = group_bytes(engine.process.pid)
    need = replica.adapter.footprint(engine.spec)
    assert need.use == pytest.approx(measured, rel=0.1)


async def test_arguments_hold_in_the_running_engine(tmp_path: Path, models: Path) -> None:
    sizes = []
    for arguments in ((), ("n_ubatch=32", "n_batch=64", "threads=1", "flash_attn=on")):
        served = ModelSettings(
            context_tokens=1 << 15, slots=1, runtime="llama_cpp", arguments=arguments
        )
        async with neuron(tmp_path, models, served={"long": served}) as (live, pool):
            await fill(pool, 1, 2_000)
            replica = await live.roster.replica("long")
            sizes.append(group_bytes((await live.roster.engine(replica)).process.pid))
    assert sizes[1] < sizes[0]


async def test_settings_that_do_not_go_together_are_said_so_at_the_first_try(
    tmp_path: Path, models: Path
) -> None:
    served = ModelSettings(arguments=("cache_type_k=q8_0",))
    async with neuron(tmp_path, models, served={"tiny": served}) as (live, pool):
        reply = await ask(pool, "POST", CHAT, chat("tiny"))
        replica = await live.roster.replica("tiny")
    assert reply.status == 502
    assert "q8_0 with block size 32 does not divide" in reply.error["message"]
    assert replica.state.launches == 1


async def test_what_a_cortex_may_not_set_is_refused_and_changes_nothing(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (live, pool):
        before = live.roster.capability("tools")
        for config in (
            ModelConfig(arguments=("log_file=/tmp/x",)),
            ModelConfig(arguments=("n_batch=0",)),
            ModelConfig(runtime="nothing"),
            ModelConfig(slots=100_000),
            ModelConfig(context_tokens=1),
        ):
            with pytest.raises(RequestRejected):
                await live.roster.load("tools", config)
            with pytest.raises(RequestRejected):
                live.roster.configure("tools", config)
        assert live.roster.capability("tools") == before
        assert (await ask(pool, "POST", CHAT, chat("tools"))).status == 200
        await live.roster.load("tools", ModelConfig(arguments=("threads=1",)))
