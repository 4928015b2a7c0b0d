"""Answers in a form that was asked for, on the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.neuron.answers import answer, choice
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, chat, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.runtime.contract import Endpoint
from helexa.testing import gguf_copies, tiny_gguf

pytestmark = pytest.mark.anyio

TEXTS = "/v1/completions"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "kind": {"enum": ["mesh", "node"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
        "size": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 99}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[ab]{2,3}$"},
    },
    "required": ["name", "kind", "tags", "size", "code"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "pattern": "^(x|y)$"}},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("form-models")
    gguf_copies.write(DEMO_FOLDER / "helexa-demo.gguf", folder / "demo.gguf", {})
    tiny_gguf.write(folder / "tiny.gguf")
    return folder


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, **more}}


def is_by_schema(text: str) -> bool:
    found = json.loads(text)
    size = found["size"]
    return (
        list(found) == ["name", "kind", "tags", "size", "code"]
        and len(found["name"]) <= 10
        and found["kind"] in ("mesh", "node")
        and 1 <= len(found["tags"]) <= 3
        and set(found["tags"]) <= {"x", "y"}
        and (size is None or 1 <= size <= 99)
        and 2 <= len(found["code"]) <= 3
        and set(found["code"]) <= {"a", "b"}
    )


async def test_answers_follow_their_schema_every_time(tmp_path: Path, models: Path) -> None:
    good = 0
    async with neuron(tmp_path, models) as (_, pool):
        for at in range(32):
            asked = chat("demo", "What is helexa?", max_tokens=200, seed=at, temperature=1.2)
            asked |= {"response_format": form(SCHEMA, strict=at % 3 == 0), "stream": at % 2 == 0}
            one = choice(await ask(pool, "POST", CHAT, asked))
            assert one["finish_reason"] == "stop"
            good += is_by_schema(one["message"]["content"])
    assert good == 32


async def test_an_object_is_an_object_unless_it_is_cut_short(tmp_path: Path, models: Path) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        for stream in (False, True):
            asked = chat("demo", "What is helexa?", response_format={"type": "json_object"})
            one = choice(await ask(pool, "POST", CHAT, {**asked, "stream": stream}))
            if one["finish_reason"] == "length":
                assert one["message"]["content"].startswith("{")
            else:
                assert isinstance(json.loads(one["message"]["content"]), dict)
            endless = chat("demo", "x", response_format=form({"type": "array"}), max_tokens=20)
            cut = choice(await ask(pool, "POST", CHAT, {**endless, "stream": stream}))
            assert cut["finish_reason"] in ("length", "stop")
            assert cut["message"]["content"].startswith("[")


async def test_a_text_completion_follows_a_schema_or_a_grammar_too(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        wanted: dict[str, Any] = {"model": "demo", "prompt": "helexa is", "max_tokens": 40}
        for stream in (False, True):
            wanted["stream"] = stream
            by_schema = {**wanted, "response_format": form({"type": "boolean"})}
            by_grammar = {**wanted, "grammar": 'root ::= "yes" | "no"'}
            for asked, texts in ((by_schema, {"true", "false"}), (by_grammar, {"yes", "no"})):
                reply = await ask(pool, "POST", TEXTS, asked)
                text = answer(reply, Endpoint.COMPLETIONS)["choices"][0]["text"]
                assert text.strip() in texts


async def test_a_grammar_holds_in_a_chat(tmp_path: Path, models: Path) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        for stream in (False, True):
            asked = chat("demo", "Hello!", grammar='root ::= "yes" | "no"', stream=stream)
            one = choice(await ask(pool, "POST", CHAT, asked))
            assert one["message"]["content"] in ("yes", "no")
            assert one["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"grammar": "root ::= ((("}, "grammar", "cannot follow the grammar"),
        ({"grammar": 'root ::= root "a"'}, "grammar", "leads back to itself"),
        ({"grammar": 5}, "grammar", "Expected `str`"),
        (
            {"response_format": form({"$ref": "#/none"})},
            "response_format.json_schema.schema.$ref",
            "leads to nothing",
        ),
        (
            {"response_format": form({"$ref": "http://x/"})},
            "response_format.json_schema.schema.$ref",
            "leads out of the schema",
        ),
        (
            {"response_format": form({"$ref": "#"})},
            "response_format.json_schema.schema",
            "leads back to itself",
        ),
        (
            {"grammar": 'root ::= "a"', "response_format": form({"type": "object"})},
            "grammar",
            "exclude one another",
        ),
        ({"reasoning_format": "bogus"}, "reasoning_format", "is one of none"),
        (
            {"response_format": form({"type": "text"})},
            "response_format.json_schema.schema.type",
            "one of object",
        ),
        (
            {"response_format": form({"type": "number", "minimum": 1}, strict=True)},
            "response_format.json_schema.schema.minimum",
            "cannot be enforced by the runtime llama_cpp",
        ),
        (
            {"response_format": form({"not": {}}, strict=True)},
            "response_format.json_schema.schema.not",
            "cannot be enforced",
        ),
        (
            {"response_format": form({"type": "string", "format": "email"}, strict=True)},
            "response_format.json_schema.schema.format",
            "cannot be enforced",
        ),
        (
            {"response_format": form({"properties": {}, "required": ["a"]}, strict=True)},
            "response_format.json_schema.schema.required",
            "not among its properties",
        ),
    ],
)
async def test_a_form_that_cannot_be_kept_is_refused_and_the_engine_goes_on(
    tmp_path: Path, models: Path, more: dict[str, Any], param: str | None, words: str
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        for stream in (False, True):
            reply = await ask(pool, "POST", CHAT, chat("demo", "x", stream=stream, **more))
            assert (reply.status, reply.error["param"]) == (400, param)
            assert words in reply.error["message"]
        assert (await ask(pool, "POST", CHAT, chat("demo", "x"))).status == 200


NONE_LONG_ENOUGH = {"type": "string", "minLength": 5, "maxLength": 2}


@pytest.mark.parametrize("endpoint", [CHAT, TEXTS])
async def test_a_form_that_the_engine_would_unfold_without_end_never_reaches_it(
    tmp_path: Path, models: Path, endpoint: str
) -> None:
    schema = "response_format.json_schema.schema"
    tool = {"name": "f", "parameters": {"properties": {"a": NONE_LONG_ENOUGH}}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"response_format": form(NONE_LONG_ENOUGH)}, f"{schema}.minLength"),
        ({"response_format": form({"items": NONE_LONG_ENOUGH})}, f"{schema}.items.minLength"),
        ({"response_format": form({"pattern": "^a{5,2}$"})}, f"{schema}.pattern"),
        (
            {"response_format": {"type": "json_object", "schema": {"minItems": 5, "maxItems": 2}}},
            "response_format.schema.minItems",
        ),
        ({"json_schema": NONE_LONG_ENOUGH}, "json_schema.minLength"),
        ({"grammar": 'root ::= "a"{5,2}'}, "grammar"),
        (
            {"tools": [{"type": "function", "function": tool}]},
            "tools[0].function.parameters.properties.a.minLength",
        ),
        (
            {"response_format": form({"type": "integer", "minimum": 5, "maximum": 2})},
            f"{schema}.minimum",
        ),
    ]
    async with neuron(tmp_path, models) as (_, pool):
        for more, param in cases:
            asked = {**chat("tiny", "x"), "prompt": "x", **more}
            reply = await ask(pool, "POST", endpoint, asked)
            assert (reply.status, reply.error["param"]) == (400, param)
        assert (await ask(pool, "POST", CHAT, chat("tiny", "x"))).status == 200


async def test_each_way_of_sampling_does_something(tmp_path: Path, models: Path) -> None:
    question = chat("demo", "What is helexa?", max_tokens=24)

    async def text(**more: Any) -> str:
        one = choice(await ask(pool, "POST", CHAT, {**question, **more}))
        return str(one["message"]["content"])

    served = {"demo": ModelSettings(slots=2, deterministic=True, context_tokens=1024)}
    async with neuron(tmp_path, models, served) as (_, pool):
        plain = await text()
        for stream in (False, True):
            assert await text(stream=stream) == plain
            stopped = await text(stop=["fabric", "nothing"], stream=stream)
            assert plain.startswith(stopped)
            assert "fabric" not in stopped
            probable = await ask(
                pool,
                "POST",
                CHAT,
                {**question, "logprobs": True, "top_logprobs": 2, "stream": stream},
            )
            tokens = choice(probable)["logprobs"]["content"]
            assert "".join(each["token"] for each in tokens).strip() == plain.strip()
            assert all(len(each["top_logprobs"]) == 2 for each in tokens)
            first = {str(tokens[0]["id"]): -100}
            assert not (await text(logit_bias=first, stream=stream)).startswith(tokens[0]["token"])
            again = {"model": "tiny", "max_tokens": 24, "stream": stream}
            for penalty in ("frequency_penalty", "presence_penalty"):
                assert await text(**again, **{penalty: 2.0}) != await text(**again)
            warm = {"temperature": 1.5, "seed": 5, "stream": stream}
            assert await text(**warm) == await text(**warm)
            two = {**question, "n": 2, "temperature": 1.5, "seed": 3, "stream": stream}
            several = answer(await ask(pool, "POST", CHAT, two))["choices"]
            assert [each["index"] for each in several] == [0, 1]
            assert all(each["message"]["content"] for each in several)


async def test_log_probabilities_of_a_text_are_in_its_own_form(
    tmp_path: Path, models: Path
) -> None:
    wanted = {"model": "demo", "prompt": "helexa is", "max_tokens": 5, "logprobs": 3}
    async with neuron(tmp_path, models) as (_, pool):
        for stream in (False, True):
            reply = await ask(pool, "POST", TEXTS, {**wanted, "stream": stream})
            one = answer(reply, Endpoint.COMPLETIONS)["choices"][0]
            said = one["logprobs"]
            assert "".join(said["tokens"]) == one["text"]
            assert len(said["token_logprobs"]) == len(said["text_offset"]) == 5
            assert all(len(each) == 3 for each in said["top_logprobs"])
            assert said["text_offset"][1] == len(said["tokens"][0])


async def test_an_answer_is_gone_on_with_by_text_and_by_ids(tmp_path: Path, models: Path) -> None:
    served = {"demo": ModelSettings(slots=2, deterministic=True, context_tokens=1024)}
    async with neuron(tmp_path, models, served) as (_, pool):
        question = chat("demo", "What is helexa?", logprobs=True, top_logprobs=1)
        whole = choice(await ask(pool, "POST", CHAT, question))
        text = whole["message"]["content"]
        tokens = whole["logprobs"]["content"]
        begun = "".join(each["token"] for each in tokens[:8])
        for stream in (False, True):
            going = chat("demo", "What is helexa?", continue_final_message=True, stream=stream)
            going["messages"].append({"role": "assistant", "content": begun})
            rest = choice(await ask(pool, "POST", CHAT, going))["message"]["content"]
            assert begun + rest == text
            ids = {"model": "demo", "prompt": [each["id"] for each in tokens[:8]], "max_tokens": 4}
            reply = await ask(pool, "POST", TEXTS, {**ids, "temperature": 0, "stream": stream})
            gone_on = answer(reply, Endpoint.COMPLETIONS)
            assert gone_on["choices"][0]["text"]
            assert reply.status == 200
