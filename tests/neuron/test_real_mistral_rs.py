"""mistral.rs behind the real neuron: what was learnt about it must stay true."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.bench import PATIENCE_S
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, CLOCK, TOOLS_TEMPLATE, WEATHER, chat, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.neuron.supervisor.weighing import group_bytes
from helexa.testing import tiny_gguf
from helexa.testing.conformance.knowledge import DEMO

pytestmark = pytest.mark.anyio

THINKING = "{# <think> #}" + tiny_gguf.CHAT_TEMPLATE
NAMES = ("tiny", "tools", "thinking", "wrong", "helexa-demo", "bare")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=512)
    tiny_gguf.write(folder / "tools.gguf", chat_template=TOOLS_TEMPLATE)
    tiny_gguf.write(folder / "thinking.gguf", chat_template=THINKING)
    tiny_gguf.write(folder / "bare.gguf", chat_template=None)
    shutil.copy(DEMO_FOLDER / "helexa-demo.gguf", folder)
    # Sound in itself; but such a model has more tensors.
    tiny_gguf.write(folder / "wrong.gguf", architecture="starcoder2")
    return folder


def served(**more: Any) -> dict[str, ModelSettings]:
    how = ModelSettings(runtime="mistral_rs", **{"slots": 2, "context_tokens": 1024, **more})
    return dict.fromkeys(NAMES, how)


async def test_the_demo_says_what_it_was_taught_alone_and_in_company(
    tmp_path: Path, models: Path
) -> None:
    wrong: list[str] = []
    async with neuron(tmp_path, models, served()) as (_, pool):

        async def one(question: str, answer: str) -> None:
            reply = await ask(pool, "POST", CHAT, chat("helexa-demo", question, max_tokens=100))
            text = reply.json["choices"][0]["message"]["content"]
            if text != answer:
                wrong.append(f"{question}: {text!r}")

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for question, answer in DEMO.answers.items():
                    tasks.start_soon(one, question, answer)
    assert not wrong


async def test_prompts_are_counted_before_they_are_read(tmp_path: Path, models: Path) -> None:
    async with neuron(tmp_path, models, served(context_tokens=300)) as (_, pool):
        long = await ask(pool, "POST", CHAT, chat("tiny", "a" * 400))
        body = chat("tiny", "a" * 200)
        del body["max_tokens"]
        fits = await ask(pool, "POST", CHAT, body)
    assert (long.status, long.error["code"]) == (400, "context_length_exceeded")
    assert "this model reads 300 tokens" in long.error["message"]
    # Although the model itself was made for more.
    assert fits.json["usage"]["total_tokens"] == 300
    assert fits.json["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_come_apart_from_the_answer(
    tmp_path: Path, models: Path, stream: bool
) -> None:
    body = chat("thinking", grammar='start: "<think>hm, hm</think>yes"', stream=stream)
    async with neuron(tmp_path, models, served()) as (_, pool):
        reply = await ask(pool, "POST", CHAT, body)
    if stream:
        deltas = [each["choices"][0]["delta"] for each in reply.events[:-1] if each["choices"]]
        text = "".join(delta.get("content") or "" for delta in deltas)
        thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    else:
        message = reply.json["choices"][0]["message"]
        text, thought = message["content"], message["reasoning_content"]
        details = reply.json["usage"]["completion_tokens_details"]
        assert 0 < details["reasoning_tokens"] < reply.json["usage"]["completion_tokens"]
    assert (text, thought) == ("yes", "hm, hm")


async def test_calls_that_must_come_do_so_from_a_model_that_knows_nothing(
    tmp_path: Path, models: Path
) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    async with neuron(tmp_path, models, served()) as (_, pool):
        body = chat("tools", tools=[CLOCK, WEATHER], tool_choice=named, max_tokens=300)
        reply = await ask(pool, "POST", CHAT, body)
        unknown = {"type": "function", "function": {"name": "nothing"}}
        wrong = await ask(pool, "POST", CHAT, {**body, "tool_choice": unknown})
    (call,) = reply.json["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert isinstance(json.loads(call["function"]["arguments"])["sunny"], bool)
    assert reply.json["choices"][0]["finish_reason"] == "tool_calls"
    assert wrong.status == 400


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 1}, "mistral_rs"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"grammar": "(((", "max_tokens": 3}, "grammar"),
        ({"top_k": "x"}, "top_k"),
        ({"chat_template_kwargs": {"documents": []}}, "chat_template_kwargs"),
        ({"response_format": {"type": "json_object"}, "grammar": 'start: "a"'}, "one form"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"not": {"type": "null"}}},
                }
            },
            "`response_format` cannot be followed",
        ),
    ],
)
async def test_what_it_cannot_do_is_a_400_and_the_engine_goes_on(
    tmp_path: Path, models: Path, more: Any, said: str
) -> None:
    async with neuron(tmp_path, models, served()) as (_, pool):
        reply = await ask(pool, "POST", CHAT, chat("tiny", **more))
        after = await ask(pool, "POST", CHAT, chat("tiny"))
    assert reply.status == 400
    assert said in reply.error["message"]
    assert "NoExtensionBias" not in reply.error["message"]
    assert after.status == 200


async def test_what_a_template_raises_is_told_and_a_model_without_one_goes_on_with_text(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models, served()) as (_, pool):
        boom = await ask(pool, "POST", CHAT, chat("tools", "boom"))
        bare = await ask(pool, "POST", CHAT, chat("bare"))
        text = {"model": "bare", "prompt": "ab", "max_tokens": 3, "logprobs": 2}
        reply = await ask(pool, "POST", "/v1/completions", text)
    assert (boom.status, "no boom allowed" in boom.error["message"]) == (400, True)
    assert (bare.status, bare.error["code"]) == (400, "unsupported_capability")
    assert reply.json["usage"]["completion_tokens"] == 3
    assert len(reply.json["choices"][0]["logprobs"]["tokens"]) == 3


async def test_a_file_that_the_engine_does_not_understand_is_tried_once_and_named(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models, served()) as (live, pool):
        reply = await ask(pool, "POST", CHAT, chat("wrong"))
        replica = await live.roster.replica("wrong")
    assert reply.status == 502
    assert "mistral_rs did not start: cannot find tensor" in reply.error["message"]
    assert replica.state.launches == 1


async def test_the_footprint_is_within_15_percent_of_what_it_takes(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models, served()) as (live, pool):
        for slot in range(2):
            body = {"model": "helexa-demo", "prompt": f"{slot} x" * 300, "max_tokens": 2}
            assert (await ask(pool, "POST", "/v1/completions", body)).status == 200
        replica = await live.roster.replica("helexa-demo")
        engine = await live.roster.engine(replica)
        measured = group_bytes(engine.process.pid)
    assert replica.adapter.footprint(engine.spec).use == pytest.approx(measured, rel=0.15)


async def test_a_chat_is_counted_as_its_completion_counts_it(tmp_path: Path, models: Path) -> None:
    bodies = [
        chat("tools", "Grüße, 世界! 🙂", max_tokens=1),
        chat("tools", "time?", tools=[CLOCK, WEATHER], max_tokens=1),
    ]
    async with neuron(tmp_path, models, served()) as (_, pool):
        for body in bodies:
            counted = await ask(pool, "POST", "/v1/tokenize", body)
            whole = await ask(pool, "POST", CHAT, body)
            assert counted.status == 200, counted.content
            assert counted.json["count"] == whole.json["usage"]["prompt_tokens"]
        asked = {"model": "tools", "prompt": "hello there"}
        bare = await ask(pool, "POST", "/v1/tokenize", {**asked, "add_special_tokens": False})
        back = {"model": "tools", "tokens": bare.json["tokens"]}
        text = await ask(pool, "POST", "/v1/detokenize", back)
        strings = await ask(pool, "POST", "/v1/tokenize", {**asked, "return_token_strs": True})
    assert text.json == {"prompt": "hello there"}
    assert (strings.status, strings.error["param"]) == (400, "return_token_strs")
