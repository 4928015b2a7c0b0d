"""Tools on the real engine: what is asked for of calls holds, streamed and whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.answers import answer, calls, choice
from tests.neuron.bench import PATIENCE_S, Reply
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, TOOLS_TEMPLATE, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.testing import gguf_copies, tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

TIMES = 32
CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Berlin", "Quito", "Delhi")
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TAGGED = TOOLS_TEMPLATE.replace(
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments|tojson }}}',
    "<function={{ call.function.name }}>\n{{ call.function.arguments|tojson }}\n</function>",
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}
LAMP = {
    "type": "function",
    "function": {
        "name": "set_lamp",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "on": {"type": "boolean"},
                "colour": {"enum": ["red", "green"]},
                "level": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["on", "colour", "level"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "set_lamp"}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tool-models")
    demo = DEMO_FOLDER / "helexa-demo.gguf"
    gguf_copies.write(demo, folder / "demo.gguf", {})
    gguf_copies.write(demo, folder / "plain.gguf", {"tokenizer.chat_template": PLAIN})
    gguf_copies.write(demo, folder / "tagged.gguf", {"tokenizer.chat_template": TAGGED})
    tiny_gguf.write(folder / "wild.gguf", chat_template=TOOLS_TEMPLATE)
    return folder


@asynccontextmanager
async def asked(tmp_path: Path, models: Path) -> AsyncIterator[Pool]:
    served = {name: ModelSettings(slots=4, context_tokens=1024) for name in ("demo", "plain")}
    async with neuron(tmp_path, models, served) as (_, pool):
        yield pool


def body(model: str, content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 200, "temperature": 0, **more}


async def many(pool: Pool, bodies: list[dict[str, Any]]) -> list[Reply]:
    replies: list[Reply] = []
    limit = anyio.CapacityLimiter(4)

    async def one(each: dict[str, Any]) -> None:
        async with limit:
            replies.append(await ask(pool, "POST", CHAT, each))

    with anyio.fail_after(4 * PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for each in bodies:
                tasks.start_soon(one, each)
    return replies


def is_by_schema(name: str, arguments: Any) -> bool:
    if name == "get_weather":
        return set(arguments) == {"city"} and isinstance(arguments["city"], str)
    return (
        set(arguments) == {"on", "colour", "level"}
        and isinstance(arguments["on"], bool)
        and arguments["colour"] in ("red", "green")
        and 1 <= arguments["level"] <= 9
    )


@pytest.mark.parametrize("model", ["demo", "plain", "tagged"])
async def test_calls_that_are_required_or_named_are_made_every_time(
    tmp_path: Path, models: Path, model: str
) -> None:
    """By the template's own opening, by a schema it is told of, and by one it is not told of."""
    bodies = [
        body(
            model,
            f"Hello {CITIES[at % len(CITIES)]}!",
            tools=[WEATHER, LAMP],
            tool_choice="required" if at % 2 else NAMED,
            stream=at % 4 < 2,
            seed=at,
            temperature=1.0,
        )
        for at in range(TIMES)
    ]
    async with asked(tmp_path, models) as pool:
        replies = await many(pool, bodies)
    made = [calls(reply) for reply in replies]
    assert sum(len(each) >= 1 for each in made) == TIMES
    assert all(is_by_schema(*call) for each in made for call in each)
    named = [each for each in made if [name for name, _ in each] == ["set_lamp"]]
    assert len(named) >= TIMES // 2


async def test_a_streamed_call_begins_with_its_name_and_goes_on_in_pieces(
    tmp_path: Path, models: Path
) -> None:
    asked_for = body("plain", "Light!", tools=[LAMP], tool_choice="required", stream=True)
    usage = {"stream_options": {"include_usage": True}}
    async with asked(tmp_path, models) as pool:
        reply = await ask(pool, "POST", CHAT, {**asked_for, **usage})
    deltas = [each["choices"][0]["delta"] for each in reply.events[:-1] if each["choices"]]
    pieces = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert pieces[0]["function"] == {"name": "set_lamp", "arguments": ""}
    assert len(pieces) > 3
    assert all(piece["index"] == 0 and "id" not in piece for piece in pieces[1:])
    assert answer(reply)["usage"]["completion_tokens"] > 5


async def test_a_call_that_is_cut_short_says_length(tmp_path: Path, models: Path) -> None:
    async with asked(tmp_path, models) as pool:
        for model in ("demo", "plain"):
            short = body(model, "Light!", tools=[LAMP], tool_choice="required", max_tokens=8)
            assert choice(await ask(pool, "POST", CHAT, short))["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_model_chooses_calls_and_reads_their_results(
    tmp_path: Path, models: Path, stream: bool
) -> None:
    question = body("demo", "What is the weather in Paris?", tools=[WEATHER], stream=stream)
    async with asked(tmp_path, models) as pool:
        first = await ask(pool, "POST", CHAT, question)
        assert calls(first) == [("get_weather", {"city": "Paris"})]
        call = choice(first)["message"]
        call = {"role": "assistant", "content": None, "tool_calls": call["tool_calls"]}
        result = {
            "role": "tool",
            "tool_call_id": call["tool_calls"][0]["id"],
            "content": "sunny",
        }
        messages = [*question["messages"], call, result]
        second = choice(await ask(pool, "POST", CHAT, {**question, "messages": messages}))
        none = {**question, "tool_choice": "none"}
        unasked = choice(await ask(pool, "POST", CHAT, none))
    assert "sunny" in second["message"]["content"]
    assert second["finish_reason"] == "stop"
    assert not unasked["message"].get("tool_calls")


@pytest.mark.parametrize("stream", [False, True])
async def test_several_calls_come_unless_one_is_wanted(
    tmp_path: Path, models: Path, stream: bool
) -> None:
    both = body("demo", "What is the weather in Paris and in Rome?", tools=[WEATHER], stream=stream)
    async with asked(tmp_path, models) as pool:
        several = await ask(pool, "POST", CHAT, {**both, "parallel_tool_calls": True})
        single = await ask(pool, "POST", CHAT, {**both, "parallel_tool_calls": False})
    cities = [arguments["city"] for _, arguments in calls(several)]
    assert cities == ["Paris", "Rome"]
    assert calls(single) == [("get_weather", {"city": "Paris"})]


async def test_allowed_tools_are_the_only_ones_to_choose_from(tmp_path: Path, models: Path) -> None:
    question = body("demo", "What is the weather in Paris?", tools=[WEATHER, LAMP])
    allowed = {"type": "function", "function": {"name": "set_lamp"}}
    async with asked(tmp_path, models) as pool:
        for mode, count in (("required", 1), ("auto", 0)):
            only = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [allowed]}}
            made = calls(await ask(pool, "POST", CHAT, {**question, "tool_choice": only}))
            assert {name for name, _ in made} <= {"set_lamp"}
            assert len(made) >= count


async def test_what_cannot_be_done_with_tools_is_refused_by_its_name(
    tmp_path: Path, models: Path
) -> None:
    loose = {**LAMP["function"], "parameters": {"type": "object", "properties": {
        "x": {"type": "string", "pattern": "a+"}}}}  # fmt: skip
    wrong = {
        "tools": {"model": "plain", "tools": [WEATHER]},
        "tool_choice": {"tools": [WEATHER], "tool_choice": NAMED},
        "messages": {
            "tools": [WEATHER],
            "tool_choice": "required",
            "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        },
        "grammar": {"tools": [WEATHER], "grammar": 'root ::= "a"'},
        "response_format": {"tools": [WEATHER], "response_format": {"type": "json_object"}},
        "logprobs": {"tools": [WEATHER], "logprobs": True},
        "tools[0].function.parameters.properties.x.pattern": {
            "tools": [{"type": "function", "function": loose}]
        },
    }
    async with asked(tmp_path, models) as pool:
        for field, more in wrong.items():
            reply = await ask(pool, "POST", CHAT, {**body("demo", "x"), **more})
            assert (reply.status, reply.error["param"]) == (400, field)
        # A reference that leads nowhere is said by its place.
        lost = {"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}}
        tool = {"type": "function", "function": {"name": "a", "parameters": lost}}
        reply = await ask(pool, "POST", CHAT, body("demo", "x", tools=[tool]))
        assert reply.status == 400
        assert "leads to nothing" in reply.error["message"]
