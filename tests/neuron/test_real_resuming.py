"""The real engine goes on with a stream that another one began, to the byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.bench import PATIENCE_S, Reply, events_of
from tests.neuron.resuming import (
    CHAT,
    COMPLETIONS,
    Node,
    continuation,
    continued,
    node,
    resumed_of,
    said,
    streamed,
)
from tests.neuron.test_app import api, ask
from tests.neuron.test_real_thoughts import DEMO, GRAMMAR, thinking
from tests.neuron.test_real_tools import LAMP, NAMED, WEATHER

from helexa.neuron.models import gguf
from helexa.neuron.settings import ModelSettings
from helexa.protocol.continuation import CONTINUE_PATH
from helexa.testing import gguf_copies, tiny_gguf

pytestmark = pytest.mark.anyio

EXACT = ModelSettings(slots=8, context_tokens=1024, deterministic=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    gguf_copies.write(DEMO, folder / "demo.gguf", {})
    template = gguf.read(DEMO).text("tokenizer.chat_template")
    changed = {"tokenizer.chat_template": thinking(template, begins="")}
    gguf_copies.write(DEMO, folder / "thinks.gguf", changed)
    # Any byte may be its next: most characters of more than one byte are divided among tokens.
    tiny_gguf.write(folder / "wild.gguf", context_tokens=2048)
    return folder


@asynccontextmanager
async def two(
    tmp_path: Path, models: Path, served: dict[str, ModelSettings] | None = None
) -> AsyncIterator[tuple[Node, Node]]:
    served = served or {"demo": EXACT, "wild": EXACT}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(tmp_path / "a", models, served))
        second = await stack.enter_async_context(node(tmp_path / "b", models, served))
        yield first, second


def chat(model: str, content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 60, "temperature": 0, **more}


def text(model: str, prompt: Any, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "max_tokens": 40, "temperature": 0, **more}


async def cut_everywhere(
    first: Node, second: Node, path: str, body: dict[str, Any], *, at_once: int = 1, step: int = 1
) -> int:
    """Each cut of the stream, finished elsewhere, is the undisturbed stream. How many cuts."""
    events = await streamed(first, path, body)
    whole = said(events)
    cuts = list(range(1, len(events) - 1, step))
    limit = anyio.CapacityLimiter(at_once)

    async def one(at: int) -> None:
        async with limit:
            reply = await continued(second, path, body, events[:at])
        assert reply.status == 200, (at, events[:at], reply.content)
        assert said([*events[:at], *reply.events]) == whole, (at, body)
        assert {one["created"] for one in reply.events[:-1]} == {events[0]["created"]}
        assert 0 <= resumed_of(reply) <= whole["usage"]["completion_tokens"]

    async with anyio.create_task_group() as tasks:
        for at in cuts:
            tasks.start_soon(one, at)
    return len(cuts)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat": (CHAT, chat("demo", "What is helexa?")),
    "a chat to its limit": (CHAT, chat("demo", "What is helexa?", max_tokens=11)),
    "a chat with a stop string": (CHAT, chat("demo", "What is helexa?", stop=["AI fab", "zz"])),
    "a chat with penalties": (
        CHAT,
        chat("demo", "What is helexa?", frequency_penalty=0.7, logit_bias={"300": -5}),
    ),
    "a text": (COMPLETIONS, text("demo", "helexa is")),
    "a text of tokens": (COMPLETIONS, text("demo", [527, 220, 300])),
    "a text with a stop string": (COMPLETIONS, text("demo", "helexa is", stop="a fed")),
    "by lot with a seed": (CHAT, chat("demo", "Hello!", temperature=0.8, seed=11)),
    "a text by lot with a seed": (COMPLETIONS, text("demo", "hel", temperature=0.8, seed=3)),
    "characters in pieces": (CHAT, chat("wild", "\u4e16\u754c \U0001f642", max_tokens=80)),
    "characters in pieces by lot": (
        CHAT,
        chat("wild", "\u4e16", max_tokens=80, temperature=1.0, seed=5),
    ),
}


async def test_a_stream_that_is_cut_anywhere_goes_on_as_if_it_was_not(
    tmp_path: Path, models: Path
) -> None:
    async with two(tmp_path, models) as (first, second):
        for path, body in CASES.values():
            assert await cut_everywhere(first, second, path, body) > 5


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "maximum": 99}},
    "required": ["ok", "n"],
}
FORM = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
FORMED: dict[str, tuple[str, dict[str, Any]]] = {
    "a schema": (CHAT, chat("demo", "Hello!", response_format=FORM)),
    "a schema by lot": (
        CHAT,
        chat("demo", "Hello!", response_format=FORM, temperature=1, seed=3),
    ),
    "tools": (CHAT, chat("demo", "Hello!", tools=[WEATHER, LAMP])),
    "a call": (CHAT, chat("demo", "Hello!", tools=[WEATHER, LAMP], tool_choice="required")),
    "a named call by lot": (
        CHAT,
        chat("demo", "Hello!", tools=[LAMP], tool_choice=NAMED, temperature=1, seed=9),
    ),
    "thoughts": (CHAT, chat("thinks", "Count!", grammar=GRAMMAR)),
    "thoughts by lot": (CHAT, chat("thinks", "Count!", grammar=GRAMMAR, temperature=1, seed=2)),
    "two answers": (CHAT, chat("demo", "Hello!", n=2, temperature=0.9, seed=8)),
    "two prompts": (COMPLETIONS, text("demo", ["helexa", "What"], max_tokens=12)),
    "log probabilities": (CHAT, chat("demo", "Hello!", logprobs=True, top_logprobs=2)),
    "log probabilities of a text": (COMPLETIONS, text("demo", "helexa", logprobs=2)),
    "a grammar": (COMPLETIONS, text("demo", "helexa", grammar='root ::= [a-d]{5,20} "."')),
}


async def test_what_has_a_form_is_repeated_and_goes_on_as_if_it_was_not_cut(
    tmp_path: Path, models: Path
) -> None:
    served = {"demo": EXACT, "thinks": EXACT}
    async with two(tmp_path, models, served) as (first, second):
        for path, body in FORMED.values():
            assert await cut_everywhere(first, second, path, body, step=3) > 1


async def test_eight_at_a_time_go_on_as_if_each_was_alone(tmp_path: Path, models: Path) -> None:
    async with two(tmp_path, models) as (first, second):
        for more in ({}, {"temperature": 0.8, "seed": 4}):
            body = chat("demo", "What is helexa?", **more)
            assert await cut_everywhere(first, second, CHAT, body, at_once=8) > 5


USUAL = {name: ModelSettings(slots=8, context_tokens=1024) for name in ("demo", "thinks")}
FREE = {"temperature": 1.0}


def text_of(events: list[Any]) -> str:
    texts = said(events)["texts"]
    return texts.get((0, "content"), "") or texts.get((0, "text"), "")


async def test_what_was_drawn_by_lot_goes_on_where_it_ended_and_stays_right(
    tmp_path: Path, models: Path
) -> None:
    free = {
        "a chat": (CHAT, chat("demo", "What is helexa?", max_tokens=20, **FREE)),
        "a text": (COMPLETIONS, text("demo", "helexa is", max_tokens=20, **FREE)),
        "with tools": (CHAT, chat("demo", "Hello!", tools=[LAMP], max_tokens=20, **FREE)),
        "a schema": (CHAT, chat("demo", "Hello!", response_format=FORM, **FREE)),
    }
    async with node(tmp_path, models, USUAL) as only:
        for name, (path, body) in free.items():
            events = await streamed(only, path, body)
            for at in range(1, len(events) - 3, 3):
                if said([*events[:at], "[DONE]"])["texts"].get((0, 0, "name")):
                    break
                reply = await continued(only, path, body, events[:at])
                assert reply.status == 200, (name, at, reply.content)
                whole = said([*events[:at], *reply.events])
                assert (0, "finish") in whole["texts"], (name, at)
                assert whole["end"] == "[DONE]"
                assert whole["usage"]["prompt_tokens"] == said(events)["usage"]["prompt_tokens"]
                assert whole["usage"]["completion_tokens"] <= body["max_tokens"] + 1
                if name == "a schema" and whole["texts"][0, "finish"] == "stop":
                    answer = json.loads(text_of([*events[:at], *reply.events]))
                    assert isinstance(answer["ok"], bool)


async def test_a_thought_is_thought_on_and_counted(tmp_path: Path, models: Path) -> None:
    shaped = chat("thinks", "Count!", grammar=GRAMMAR, **FREE)
    body = chat("thinks", "Count!", **FREE)
    async with node(tmp_path, models, USUAL) as only:
        events = await streamed(only, CHAT, shaped)
        texts = said(events)["texts"]
        for at in range(2, len(events) - 3, 2):
            before = said([*events[:at], "[DONE]"])["texts"]
            thought, answer = before.get((0, "reasoning_content"), ""), before.get((0, "content"))
            reply = await continued(only, CHAT, body, events[:at])
            assert reply.status == 200, (at, reply.content)
            after = said(reply.events)["texts"]
            if answer:
                # The thought is over, and stays as it was.
                assert (0, "reasoning_content") not in after
                assert thought == texts[0, "reasoning_content"]
            assert after[0, "finish"] in ("stop", "length")
            usage = reply.events[-2]["usage"]
            thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
            assert usage["completion_tokens"] >= thoughts > 0
            assert usage["resumed_tokens"] <= usage["completion_tokens"] <= 60


def refused(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.error["code"]


async def test_what_cannot_go_on_exactly_is_refused_before_anything_is_sent(
    tmp_path: Path, models: Path
) -> None:
    called = chat("demo", "Hello!", tools=[LAMP], tool_choice=NAMED, **FREE)
    told = chat("demo", "Hello!", logprobs=True, **FREE)
    two_of = chat("demo", "Hello!", n=2, **FREE)
    seeded = chat("wild", "Hello!", temperature=1.0, seed=1)
    no = (409, "not_continuable")
    async with node(tmp_path, models, {"demo": EXACT, "wild": EXACT}) as only:
        for body in (called, told, two_of):
            events = await streamed(only, CHAT, body)
            reply = await continued(only, CHAT, body, events[:6])
            assert refused(reply) == no, body
            assert "without a seed" in reply.error["message"]
        events = await streamed(only, CHAT, seeded)
        # What is delivered is none of its own answers.
        other = await continued(only, CHAT, {**seeded, "seed": 2}, events[:12])
        strange = await continued(only, CHAT, seeded, events[:6], digest="sha256:" + "0" * 64)
        unknown = await continued(only, CHAT, seeded, events[:6], digest="")
        whole = await continued(only, CHAT, {**seeded, "stream": False}, events[:6])
        path = await continued(only, CHAT, seeded, events[:6], path="/v1/embeddings")
        nobody = await continued(only, CHAT, seeded, events[:6], model="nobody")
        async with api(only.live) as pool:
            public = await ask(pool, "POST", CONTINUE_PATH, b"{}")
    assert [refused(one) for one in (other, strange, unknown, whole)] == [no] * 4
    assert refused(path) == (400, "invalid_body")
    assert refused(nobody) == (404, "model_not_found")
    assert refused(public) == (404, "unknown_url")


async def test_who_waited_with_comments_hears_of_a_refusal_in_the_stream(
    tmp_path: Path, models: Path
) -> None:
    one = {"wild": ModelSettings(slots=1, context_tokens=1024, deterministic=True)}
    seeded = chat("wild", "Hello!", temperature=1.0, seed=1)
    async with node(tmp_path, models, one, keepalive_s=0.01) as only:
        events = await streamed(only, CHAT, seeded)
        wanted = continuation(CHAT, {**seeded, "seed": 2}, only.digest("wild"), events[:12])
        replica = await only.live.roster.replica("wild")
        async with replica.gate.slot():
            with anyio.fail_after(PATIENCE_S):
                response = await only.pool.request("POST", CONTINUE_PATH, (), wanted)
                first = await response.chunk()
        with response:
            rest = await response.read(1 << 20)
    assert first.startswith(b": keepalive")
    found = events_of(first + rest)
    assert len(found) == 1, first + rest
    (error,) = found
    assert error["error"]["code"] == "not_continuable"


async def test_an_engine_that_takes_no_tokens_repeats_what_was_delivered(
    tmp_path: Path, models: Path
) -> None:
    how = ModelSettings(slots=4, context_tokens=512, deterministic=True, runtime="mistral_rs")
    async with two(tmp_path, models, {"demo": how}) as (first, second):
        body = chat("demo", "What is helexa?")
        assert await cut_everywhere(first, second, CHAT, body, step=5) > 3


async def test_a_stream_that_breaks_off_twice_is_still_the_same(
    tmp_path: Path, models: Path
) -> None:
    async with two(tmp_path, models) as (first, second):
        for path, body in (CASES["a chat"], CASES["a text"], CASES["by lot with a seed"]):
            events = await streamed(first, path, body)
            for at in range(1, len(events) - 6, 4):
                middle = (await continued(second, path, body, events[:at])).events
                so_far = [*events[:at], *middle[:3]]
                last = await continued(first, path, body, so_far)
                assert said([*so_far, *last.events]) == said(events), at
                # Of all that was delivered, by whomever.
                assert resumed_of(last) > resumed_of(
                    await continued(first, path, body, so_far[:at])
                )


async def test_a_client_hears_comments_while_much_is_repeated(tmp_path: Path, models: Path) -> None:
    body = chat("wild", "Hello!", temperature=1.0, seed=1, max_tokens=400)
    async with node(tmp_path, models, {"wild": EXACT}, keepalive_s=0.001) as only:
        events = await streamed(only, CHAT, body)
        reply = await continued(only, CHAT, body, events[:-3])
    silent, _, rest = reply.content.partition(b"data: ")
    assert silent.count(b": keepalive") > 1
    assert rest
