"""Thoughts on the real engine: apart from the answer, counted, and done without where asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.neuron.answers import answer, calls, choice
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, chat, neuron

from helexa.neuron.models import gguf
from helexa.neuron.models.store import DEMO_FOLDER
from helexa.testing import gguf_copies

pytestmark = pytest.mark.anyio

CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"utc": {"type": "boolean"}},
            "required": ["utc"],
        },
    },
}
DEMO = DEMO_FOLDER / "helexa-demo.gguf"
THOUGHT = "I count one two three four"
GRAMMAR = f'root ::= "<think>\\n{THOUGHT}</think>\\n\\nfive" [a-z ]{{0,8}} "."'
HEADER = "{{- '<|im_start|>assistant\\n' -}}"


def thinking(template: str, *, begins: str) -> str:
    """The demo model's template, with thoughts in answers, and `begins` before a new one."""
    before, _, last = template.rpartition(HEADER)
    past = (
        "{%- if message.reasoning_content -%}{{- '<think>\\n' + message.reasoning_content + "
        "'\\n</think>\\n\\n' -}}{%- endif -%}"
    )
    return before.replace(HEADER, HEADER + past) + HEADER + begins + last


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thinking-models")
    template = gguf.read(DEMO).text("tokenizer.chat_template")
    ways = {
        "free": "",
        "always": "{{- '<think>\\n' -}}",
        "told": "{%- if enable_thinking is defined and enable_thinking is false -%}"
        "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}",
    }
    for name, begins in ways.items():
        changed = {"tokenizer.chat_template": thinking(template, begins=begins)}
        gguf_copies.write(DEMO, folder / f"{name}.gguf", changed)
    gguf_copies.write(DEMO, folder / "plain.gguf", {})
    return folder


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [1, 2])
async def test_thoughts_come_apart_from_the_answer_and_are_counted(
    tmp_path: Path, models: Path, stream: bool, choices: int
) -> None:
    asked = chat("free", "Count!", grammar=GRAMMAR, n=choices, max_tokens=80, stream=stream)
    if stream:
        asked["stream_options"] = {"include_usage": True}
    async with neuron(tmp_path, models) as (_, pool):
        reply = await ask(pool, "POST", CHAT, asked)
    whole = answer(reply)
    for one in whole["choices"]:
        assert one["message"]["reasoning_content"].strip() == THOUGHT
        assert one["message"]["content"].startswith("five")
        assert one["finish_reason"] == "stop"
    used = whole["usage"]
    thought = used["completion_tokens_details"]["reasoning_tokens"]
    # The mark and the thought are most of it; what follows is at least two tokens a choice.
    assert used["completion_tokens"] / 2 < thought <= used["completion_tokens"] - 2 * choices
    if stream:
        assert b'"timings":{' not in reply.content.partition(b'"usage"')[0].rpartition(b"data:")[0]


async def test_what_was_thought_is_reasoning_to_who_accounts_for_it(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (live, pool):
        with_thoughts = chat("free", "Count!", grammar=GRAMMAR, max_tokens=80)
        before = await ask(pool, "POST", CHAT, with_thoughts)
        after = (await ask(pool, "GET", "/metrics")).content.decode()
        capability = live.roster.capability("free")
    assert capability.reasoning
    thought = before.json["usage"]["completion_tokens_details"]["reasoning_tokens"]
    said = [line for line in after.splitlines() if "reasoning" in line and "#" not in line]
    assert any(line.endswith((f" {thought}", f" {thought}.0")) for line in said), said


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["free", "always", "told", "plain"])
@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "none"},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
async def test_thinking_is_left_out_where_that_is_asked(
    tmp_path: Path, models: Path, stream: bool, model: str, asked: dict[str, Any]
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        body = chat(model, "What is helexa?", stream=stream, **asked)
        one = choice(await ask(pool, "POST", CHAT, body))
    assert one["message"]["content"]
    assert len(one["message"].get("reasoning_content") or "") <= 8
    assert "think>" not in one["message"]["content"]


async def test_a_model_that_always_thinks_does_and_its_thoughts_can_be_limited(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        endless = choice(await ask(pool, "POST", CHAT, chat("always", "What is helexa?")))
        body = chat("always", "What is helexa?", thinking_budget_tokens=4)
        short = await ask(pool, "POST", CHAT, body)
    assert endless["message"]["reasoning_content"]
    assert not endless["message"]["content"]
    assert choice(short)["message"]["content"]
    assert short.json["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 8


async def test_an_effort_that_a_model_does_not_know_is_refused(
    tmp_path: Path, models: Path
) -> None:
    async with neuron(tmp_path, models) as (_, pool):
        for model in ("free", "plain"):
            high = await ask(pool, "POST", CHAT, chat(model, "x", reasoning_effort="high"))
            odd = await ask(pool, "POST", CHAT, chat(model, "x", reasoning_effort="much"))
            assert (high.status, high.error["param"]) == (400, "reasoning_effort")
            assert high.error["code"] == "unsupported_capability"
            assert "llama_cpp" in high.error["message"]
            assert (odd.status, odd.error["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("model", ["free", "always", "told"])
@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_models_keep_a_schema_and_make_required_calls(
    tmp_path: Path, models: Path, model: str, stream: bool
) -> None:
    brief = {"thinking_budget_tokens": 4, "stream": stream, "max_tokens": 120}
    form = {"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": "boolean"}}}
    async with neuron(tmp_path, models) as (_, pool):
        shaped = await ask(pool, "POST", CHAT, chat(model, "x", response_format=form, **brief))
        call = {"tools": [CLOCK], "tool_choice": "required", "parallel_tool_calls": False}
        called = await ask(pool, "POST", CHAT, chat(model, "x", **call, **brief))
    assert choice(shaped)["message"]["content"] in ("true", "false")
    ((name, arguments),) = calls(called)
    assert name == "get_time"
    assert isinstance(arguments["utc"], bool)
