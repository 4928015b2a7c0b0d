"""transformers for real: what it keeps through a neuron, what it computes, and how it fails."""

from __future__ import annotations

import base64
import json
import math
import shutil
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron import resuming
from tests.runtime_models import SCRIPTS, reference

from helexa.neuron.settings import ModelSettings, RuntimeSettings
from helexa.neuron.supervisor.weighing import error_ratio, group_bytes
from helexa.protocol.errors import HelexaError
from helexa.runtime.contract import Endpoint, ExitReason
from helexa.testing import conformance
from helexa.testing.conformance.stage import staged
from helexa.testing.conformance.subject import Subject

pytestmark = pytest.mark.anyio

QUESTIONS = SCRIPTS.parent / "demo_models" / "questions.json"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def settings(python: Path) -> dict[str, Any]:
    return {"demo_models": False, "runtimes": {"transformers": RuntimeSettings(python=python)}}


@asynccontextmanager
async def served(model: str, folder: Path, python: Path, **how: Any) -> AsyncIterator[Subject]:
    usual = {"slots": 2, "context_tokens": 512}
    async with staged(
        model,
        runtime="transformers",
        models_dir=folder,
        served=ModelSettings(**{**usual, **how}),
        more=settings(python),
    ) as subject:
        subject.patience_s = 300
        yield subject


# --- what every runtime has to keep


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        ("helexa-demo", ()),
        ("helexa-demo-vision", ("vision", "chat", "streams", "usage", "concurrency", "cancel")),
        ("tiny-embed", ()),
        ("tiny-rerank", ()),
    ],
)
async def test_it_conforms(
    model: str, rows: tuple[str, ...], models_dir: Path, transformers_python: Path
) -> None:
    found = await conformance.look(
        "transformers", model, models_dir, rows=rows, more=settings(transformers_python)
    )
    assert not found.failures, found.table()


# --- what it computes


async def test_it_answers_as_llama_cpp_does(models_dir: Path, transformers_python: Path) -> None:
    """Every question that the demo model memorised, word by word."""
    pairs = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    wrong = []
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        for pair in pairs[::3]:
            asked = subject.chat(pair["question"], max_tokens=200)
            text = (await subject.answer(asked)).text
            if text != pair["answer"]:
                wrong.append((pair["question"], text))
    assert not wrong


@pytest.mark.parametrize("model", ["all-minilm-l6-v2", "tiny-embed"])
async def test_vectors_are_those_of_the_reference(
    model: str, models_dir: Path, transformers_python: Path
) -> None:
    told = reference(model)
    async with served(model, models_dir, transformers_python) as subject:
        body = {"input": told["sentences"], "encoding_format": "base64"}
        data = (await subject.answer(body, Endpoint.EMBEDDINGS)).json["data"]
    for one, wanted in zip(data, told["vectors"], strict=True):
        packed = base64.b64decode(one["embedding"])
        vector = struct.unpack(f"<{len(packed) // 4}f", packed)
        assert abs(math.hypot(*vector) - 1) < 1e-4
        assert sum(a * b for a, b in zip(vector, wanted, strict=True)) > 0.9999


async def test_scores_are_those_of_the_reference(
    models_dir: Path, transformers_python: Path
) -> None:
    async with served("tiny-rerank", models_dir, transformers_python) as subject:
        for case in reference("tiny-rerank"):
            body = {"query": case["query"], "documents": case["documents"]}
            results = (await subject.answer(body, Endpoint.RERANK)).json["results"]
            for one in results:
                assert abs(one["relevance_score"] - case["logits"][one["index"]]) < 1e-3


async def test_thoughts_come_apart(
    tmp_path: Path, models_dir: Path, transformers_python: Path
) -> None:
    """The demo model, whose marks around a call are made those around a thought."""
    folder = tmp_path / "models"
    shutil.copytree(models_dir / "helexa-demo", folder / "thinker")
    tokens = folder / "thinker" / "tokenizer.json"
    text = tokens.read_text(encoding="utf-8")
    tokens.write_text(text.replace("tool_call>", "think>"), encoding="utf-8")
    config = folder / "thinker" / "tokenizer_config.json"
    said = json.loads(config.read_text(encoding="utf-8"))
    said["chat_template"] = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content "
        "+ '<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}{# <think> #}"
    )
    config.write_text(json.dumps(said), encoding="utf-8")
    declared = json.dumps(TOOLS[0])
    messages = [
        {"role": "system", "content": f"<tools>\n{declared}\n</tools>"},
        {"role": "user", "content": "What is the weather in Paris?"},
    ]
    async with served("thinker", folder, transformers_python) as subject:
        for stream in (False, True):
            asked = subject.chat("", messages=messages, stream=stream)
            reply = await subject.answer(asked)
            assert '"get_weather"' in reply.message["reasoning_content"]
            assert "think>" not in reply.text
        details = (await subject.answer(subject.chat("", messages=messages))).usage
        assert details["completion_tokens_details"]["reasoning_tokens"] > 5


async def test_one_call_alone_is_made_where_several_are_not_wanted(
    models_dir: Path, transformers_python: Path
) -> None:
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        asked = subject.chat("What is the weather in Paris and Rome?", tools=TOOLS)
        both = (await subject.answer(asked)).message["tool_calls"]
        one = (await subject.answer({**asked, "parallel_tool_calls": False})).message["tool_calls"]
    assert len(both) == 2
    assert len(one) == 1


WILD = {"temperature": 2, "max_tokens": 200}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["a", "b"]}, "count": {"type": "integer", "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


async def test_a_form_holds_however_wildly_tokens_are_chosen(
    models_dir: Path, transformers_python: Path
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    forced = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        for seed in range(8):
            asked = subject.chat("Hello", **WILD, response_format=form, seed=seed)
            reply = await subject.answer(asked)
            said = json.loads(reply.text)
            assert said["name"] in ("a", "b")
            assert said["count"] <= 99
            asked = subject.chat("Hello", **WILD, **forced, seed=seed)
            reply = await subject.answer(asked)
            if reply.finish_reason != "length":
                (call,) = reply.message["tool_calls"]
                assert call["function"]["name"] == "get_weather"
                json.loads(call["function"]["arguments"])
                assert not reply.text


async def test_a_form_that_cannot_be_followed_is_the_clients_mistake(
    models_dir: Path, transformers_python: Path
) -> None:
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        for wrong in (
            {"type": "nonsense"},
            {"$ref": "#/$defs/none"},
            {"type": "string", "pattern": "("},
        ):
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": wrong}}
            reply = await subject.ask(subject.chat("Hello", response_format=form))
            assert reply.status == 400, wrong
        for grammar in ('start: "a', "root ::= (", "start: other"):
            assert (await subject.ask(subject.chat("Hello", grammar=grammar))).status == 400
        both = {"grammar": 'start: "a"', "tools": TOOLS, "tool_choice": "required"}
        assert (await subject.ask(subject.chat("Hello", **both))).status == 400
        assert (await subject.answer(subject.chat("Hello"))).text


async def test_a_form_that_becomes_too_much_is_an_error_and_never_half_an_answer(
    models_dir: Path, transformers_python: Path
) -> None:
    endless = {"type": "string", "pattern": "^((a{1,200}){1,200}){1,200}$"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": endless}}
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        reply = await subject.ask(
            subject.chat("What is helexa?", response_format=form, max_tokens=200)
        )
    assert reply.status == 502
    assert "cannot be kept" in reply.json["error"]["message"]


async def test_settings_of_a_request_are_acted_upon(
    models_dir: Path, transformers_python: Path
) -> None:
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        question = subject.knowledge.questions[0]
        right = (await subject.answer(subject.chat(question))).text
        # One token may be chosen, whatever the temperature.
        for only in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
            asked = subject.chat(question, **{"temperature": 2, "seed": 5, **only})
            assert (await subject.answer(asked)).text == right, only
        first = right.split()[0]
        ids = (await subject.answer(subject.chat(question, logprobs=True, max_tokens=1))).json
        assert ids["choices"][0]["logprobs"]["content"][0]["token"] in first
        cut = await subject.answer(subject.chat(question, stop=["federated"]))
        assert cut.text == right.partition("federated")[0]
        kwargs = subject.chat(question, chat_template_kwargs={"tools": []})
        assert (await subject.ask(kwargs)).status == 400


async def test_a_long_answer_does_not_hold_up_a_short_one(
    models_dir: Path, transformers_python: Path
) -> None:
    """Both are made at once, a token each in turn: the later and shorter one is ready first."""
    order: list[str] = []
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        begun = anyio.Event()

        async def long() -> None:
            asked = subject.chat("Tell me a story.", max_tokens=400, ignore_eos=True, stream=True)
            body = {"model": subject.model, **asked}
            async with anyio.create_task_group():
                with await subject.send(Endpoint.CHAT.value, body) as response:
                    await response.head()
                    await response.chunk()
                    begun.set()
                    await response.read(1 << 24)
            order.append("long")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(long)
            await begun.wait()
            await subject.answer(subject.chat("Which port does the gateway use?"))
            order.append("short")
    assert order == ["short", "long"]


# --- what it takes


@pytest.mark.parametrize("model", ["helexa-demo", "tiny-embed"])
async def test_it_takes_the_memory_that_was_foretold(
    model: str, models_dir: Path, transformers_python: Path
) -> None:
    async with served(model, models_dir, transformers_python) as subject:
        if model == "helexa-demo":
            await subject.answer(subject.chat("Tell me a story.", max_tokens=200))
        else:
            body = {"input": ["hello world " * 40] * 8}
            await subject.answer(body, Endpoint.EMBEDDINGS)
        replica, engine = await subject.replica(), await subject.engine()
        measured = group_bytes(engine.process.pid)
        assert abs(error_ratio(replica.adapter.footprint(replica.spec), measured)) < 0.15


# --- how it fails


def config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**said, **changes}), encoding="utf-8")


def an_unknown_architecture(folder: Path) -> None:
    config(folder, model_type="wombat", architectures=["WombatForCausalLM"])


def code_of_its_own(folder: Path) -> None:
    own = {"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}
    config(folder, model_type="wombat", auto_map=own)
    (folder / "a.py").write_text("raise SystemExit('it ran')")


def other_sizes(folder: Path) -> None:
    config(folder, hidden_size=48, head_dim=16, num_attention_heads=3, num_key_value_heads=3)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (an_unknown_architecture, ExitReason.ARCHITECTURE_UNKNOWN),
        (code_of_its_own, ExitReason.ARCHITECTURE_UNKNOWN),
        (other_sizes, ExitReason.MODEL_UNREADABLE),
        (no_tokenizer, ExitReason.MODEL_UNREADABLE),
        (a_broken_tokenizer, ExitReason.MODEL_UNREADABLE),
    ],
)
async def test_a_folder_that_does_not_load_says_why(
    breaks: Any, reason: ExitReason, tmp_path: Path, models_dir: Path, transformers_python: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models_dir / "helexa-demo", folder / "broken")
    breaks(folder / "broken")
    async with served("broken", folder, transformers_python) as subject:
        with pytest.raises(HelexaError, match=reason.value):
            await subject.engine()


async def test_an_environment_without_it_is_named(tmp_path: Path, models_dir: Path) -> None:
    """This one has no torch."""
    async with served("helexa-demo", models_dir, Path(sys.executable)) as subject:
        with pytest.raises(HelexaError, match="helexa\\[transformers\\]"):
            await subject.engine()


# --- what it reads, and how it goes on


async def test_a_chat_is_counted_as_its_completion_counts_it(
    models_dir: Path, transformers_python: Path
) -> None:
    content = "Grüße, 世界! 🙂 <|im_end|> a\n\tb"
    said = [{"role": "user", "content": content}]
    async with served("helexa-demo", models_dir, transformers_python) as subject:
        for more in ({}, {"tools": TOOLS}):
            body = {"model": "helexa-demo", "messages": said, "max_tokens": 1, **more}
            whole = await subject.post("/v1/chat/completions", body)
            counted = (await subject.post("/v1/tokenize", {**body, "return_token_strs": True})).json
            assert counted["count"] == whole.usage["prompt_tokens"]
            assert len(counted["token_strs"]) == len(counted["tokens"]) == counted["count"]
            ids = {"model": "helexa-demo", "tokens": counted["tokens"]}
            text = (await subject.post("/v1/detokenize", ids)).json["prompt"]
            assert content in text
            # Each character that is divided shows as none in every part of it.
            shown = "".join(counted["token_strs"])
            assert shown.replace("\ufffd", "") == "".join(one for one in text if one.isascii())


async def test_a_stream_that_is_cut_anywhere_goes_on_as_if_it_was_not(
    tmp_path: Path, models_dir: Path, transformers_python: Path
) -> None:
    how = ModelSettings(runtime="transformers", slots=4, context_tokens=512, deterministic=True)
    more = {"transformers": RuntimeSettings(python=transformers_python)}
    said = [{"role": "user", "content": "What is helexa?"}]
    chat = {"model": "helexa-demo", "messages": said, "max_tokens": 60}
    text = {"model": "helexa-demo", "prompt": "helexa is", "max_tokens": 20, "temperature": 0}
    served = {"helexa-demo": how}
    async with (
        resuming.node(tmp_path / "a", models_dir, served, runtimes=more) as first,
        resuming.node(tmp_path / "b", models_dir, served, runtimes=more) as second,
    ):
        for path, body in (
            (resuming.CHAT, {**chat, "temperature": 0}),
            (resuming.CHAT, {**chat, "temperature": 0, "stop": ["AI fab"]}),
            (resuming.CHAT, {**chat, "temperature": 0.8, "seed": 4}),
            (resuming.COMPLETIONS, text),
        ):
            events = await resuming.streamed(first, path, body)
            whole = resuming.said(events)
            for at in range(1, len(events) - 1, 4):
                reply = await resuming.continued(second, path, body, events[:at])
                assert reply.status == 200, (at, reply.content)
                assert resuming.said([*events[:at], *reply.events]) == whole, (at, body)
