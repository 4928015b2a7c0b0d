"""A Responses request as a chat completion: what is sent for it, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.cortex.gateway.envelope import OPENAI, PassedOn
from helexa.cortex.gateway.translation.items import Messages
from helexa.cortex.gateway.translation.responses_asked import read
from helexa.cortex.gateway.translation.responses_names import renamed
from helexa.cortex.gateway.translation.responses_to_chat import Chat, answer_to, chat_of
from helexa.protocol.errors import (
    ErrorBody,
    HelexaError,
    ModalityUnsupported,
    ModelUnknown,
    PromptTooLong,
    QueueFull,
    RequestRejected,
)
from helexa.protocol.openai.responses import Item

USER = {"role": "user", "content": "hi"}


def asked_for(**fields: Any) -> Chat:
    return chat_of(read(json.dumps({"model": "m", "input": "hi", **fields}).encode()))


def chat(**fields: Any) -> dict[str, Any]:
    """What the fields become, without what every request has."""
    body = json.loads(asked_for(**fields).body)
    assert body.pop("model") == "m"
    if "input" not in fields:
        assert body.pop("messages") == [USER]
    return body


def said(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return chat(input=list(items))["messages"]


SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
TOOL = {"type": "function", **FUNCTION}
FORM = {"name": "n", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"instructions": None, "tools": None, "text": None, "store": None}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False, "stream_options": {"include_obfuscation": False}}, {"stream": False}),
        ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        (
            {"text": {"format": {"type": "json_schema", **FORM}}},
            {"response_format": {"type": "json_schema", "json_schema": FORM}},
        ),
        (
            {"tools": [TOOL]},
            {"tools": [{"type": "function", "function": FUNCTION}]},
        ),
        (
            {"tools": [{"type": "function", "name": "f", "strict": None}], "tool_choice": "none"},
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        ),
        (
            {"tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                }
            },
        ),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        (
            {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]},
            {"logprobs": True, "top_logprobs": 0},
        ),
        (
            {"parallel_tool_calls": False, "service_tier": "auto", "user": "u"},
            {"parallel_tool_calls": False, "service_tier": "auto", "user": "u"},
        ),
        (
            {"prompt_cache_key": "k", "safety_identifier": "s", "presence_penalty": 1},
            {"prompt_cache_key": "k", "safety_identifier": "s", "presence_penalty": 1},
        ),
        ({"store": True, "metadata": {"a": "b"}}, {}),
        ({"truncation": "disabled", "background": False}, {}),
        ({"max_tool_calls": 3}, {}),
        ({"seed": 7, "stop": ["x"], "top_k": 4, "x": None}, {"seed": 7, "stop": ["x"], "top_k": 4}),
    ],
)  # fmt: skip
def test_what_is_asked_is_asked_in_a_chats_words(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert chat(**fields) == expected


def test_a_schema_keeps_the_order_that_the_client_gave_it() -> None:
    schema = b'{"b":1.0,"a":{"d":1e5,"c":"\\u00e9"}}'
    tool = b'{"type":"function","name":"f","parameters":%s}' % schema
    form = b'{"format":{"type":"json_schema","name":"n","schema":%s}}' % schema
    body = b'{"model":"m","input":"hi","tools":[%s],"text":%s}' % (tool, form)
    assert chat_of(read(body)).body.count(schema) == 2


def item(**members: Any) -> dict[str, Any]:
    return {"input": [members]}


def part(members: dict[str, Any]) -> dict[str, Any]:
    return item(role="user", content=[members])


FILE = {"type": "input_file"}
MCP = {"type": "mcp"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [USER, {"role": "user"}]}, "input[1].content"),
    ({"input": [{}]}, "input[0].type"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
    ({"input": [{"type": "custom_tool_call"}]}, "input[0].type"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
    (item(type="reasoning", encrypted_content="x"), "input[0].encrypted_content"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]}, "input[0].name"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
    ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    (item(type="function_call_output", call_id="c", output="x"), "input[0].call_id"),
    (part({"type": "input_file", "file_data": "x"}), "input[0].content[0].type"),
    (part({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
    (part({"type": "input_image"}), "input[0].content[0].image_url"),
    (part({"type": "input_text"}), "input[0].content[0].text"),
    (part({"type": "input_audio"}), "input[0].content[0].type"),
    (part({"type": "refusal"}), "input[0].content[0].refusal"),
    (item(type="function_call_output", call_id="c", output=[FILE]), "input[0].output[0].type"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [TOOL, {"type": "file_search", "vector_store_ids": []}]}, "tools[1].type"),
    ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
    ({"tools": [MCP]}, "tools[0].type"),
    ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    ({"tools": [{"name": "f"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "function": {}}]}, "tools[0].function"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{**TOOL, "async": True}]}, "tools[0].async"),
    ({"tools": [{**TOOL, "output_schema": {}}]}, "tools[0].output_schema"),
    ({"tools": [{**TOOL, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"tool_choice": {"type": "allowed_tools", "tools": [MCP]}}, "tool_choice.tools[0]"),
    ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.server_label"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ({"text": {"other": 1}}, "text.other"),
    ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ({"reasoning": {"generate_summary": "concise"}}, "reasoning.generate_summary"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"truncation": "auto"}, "truncation"),
    ({"background": True}, "background"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"stream_options": {"other": True}}, "stream_options.other"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"include": ["everything"]}, "include[0]"),
    ({"metadata": {str(one): "" for one in range(17)}}, "metadata"),
    ({"metadata": {"k" * 65: ""}}, "metadata." + "k" * 64),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"context_management": []}, "context_management"),
    ({"moderation": {}}, "moderation"),
    ({"prompt_cache_options": {}}, "prompt_cache_options"),
    ({"background_options": {}}, "background_options"),
    ({"access_programs": {}}, "access_programs"),
    ({"image": {}}, "image"),
    ({"messages": []}, "messages"),
    ({"max_tokens": 1}, "max_tokens"),
    ({"max_completion_tokens": 1}, "max_completion_tokens"),
    ({"response_format": {}}, "response_format"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"logprobs": True}, "logprobs"),
    ({"functions": []}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"n": 2}, "n"),
    ({"modalities": ["text"]}, "modalities"),
    ({"audio": {}}, "audio"),
    ({"prediction": {}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"model": None}, "model"),
    ({"temperature": "hot"}, "temperature"),
    ({"instructions": ["x"]}, "instructions"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_what_a_chat_cannot_say_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejected) as refused:
        asked_for(**fields)
    assert refused.value.param == param
    assert refused.value.status == 400


def test_a_request_may_continue_and_say_nothing_new() -> None:
    asked = read(b'{"model":"m","previous_response_id":"resp_1"}')
    assert json.loads(chat_of(asked, [Item(role="user", content="a")]).body)["messages"] == [
        {"role": "user", "content": "a"}
    ]


# Items and messages.

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
calls = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
PICTURE = {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}


def parts() -> st.SearchStrategy[Any]:
    one = texts.map(lambda text: {"type": "text", "text": text}) | st.just(PICTURE)
    return texts | st.lists(one, min_size=2, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(texts)}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(texts)
    if draw(st.booleans()):
        message["tool_calls"] = [
            {"id": f"c{at}", "type": "function", "function": {"name": name, "arguments": text}}
            for at, (name, text) in enumerate(draw(calls))
        ]
    return message


def others() -> st.SearchStrategy[dict[str, Any]]:
    roles = st.sampled_from(["user", "system", "developer"])
    message = st.builds(lambda role, content: {"role": role, "content": content}, roles, parts())
    output = st.builds(
        lambda content: {"role": "tool", "tool_call_id": "c0", "content": content}, parts()
    )
    return message | output


def items_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The same in the words of Responses."""

    def part(one: dict[str, Any]) -> dict[str, Any]:
        if one["type"] == "image_url":
            url = one["image_url"]
            return {"type": "input_image", "image_url": url["url"], "detail": url["detail"]}
        return {"type": "input_text", "text": one["text"]}

    content = message["content"]
    if isinstance(content, list):
        content = [part(one) for one in content]
    if message["role"] == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message["tool_call_id"],
                "output": content,
            }
        ]
    found: list[dict[str, Any]] = []
    if "reasoning_content" in message:
        thoughts = [{"type": "reasoning_text", "text": message["reasoning_content"]}]
        found.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": thoughts})
    found.append({"role": message["role"], "content": content})
    found += (
        {"type": "function_call", "call_id": call["id"], **call["function"]}
        for call in message.get("tool_calls", ())
    )
    return found


@settings(deadline=None)
@given(st.lists(answers() | others(), min_size=1, max_size=6))
def test_a_conversation_in_items_is_the_conversation_in_messages(
    messages: list[dict[str, Any]],
) -> None:
    function = {"name": "f", "arguments": "{}"}
    # Every output is one of a call.
    first = {"id": "c0", "type": "function", "function": function}
    messages = [{"role": "assistant", "content": "a", "tool_calls": [first]}, *messages]
    items = [item for one in messages for item in items_of(one)]
    assert said(*items) == messages
    later = Messages()
    later.add(msgspec.convert(items, list[Item]), earlier=True)
    assert later.closed() == messages


def test_a_text_in_parts_is_a_text() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "phase": "final_answer",
         "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}]},
    ]  # fmt: skip
    assert said(*items) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


def test_a_refusal_is_what_the_assistant_said() -> None:
    no = {"type": "refusal", "refusal": "no"}
    text = {"type": "output_text", "text": "well"}
    assert said(
        {"role": "assistant", "content": [no]}, USER, {"role": "assistant", "content": [text, no]}
    ) == [
        {"role": "assistant", "content": "no"},
        USER,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "well"}, {"type": "text", "text": "no"}],
        },
    ]


def test_what_was_not_asked_for_is_a_number_that_schemas_want() -> None:
    def answered(**fields: Any) -> tuple[float, float]:
        asked = read(json.dumps({"model": "m", "input": "hi", **fields}).encode())
        response = answer_to(asked, id="resp_1", created_at=1, store=False)
        return response.temperature, response.top_p

    assert answered() == (1.0, 1.0)
    assert answered(temperature=0, top_p=0.5) == (0, 0.5)


def test_two_answers_in_a_row_stay_two() -> None:
    one = {"role": "assistant", "content": "a"}
    assert said(one, one) == [one, one]


def test_thoughts_without_an_answer_are_an_answer_that_says_nothing() -> None:
    thoughts = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    assert said(thoughts, USER) == [
        {"role": "assistant", "content": "", "reasoning_content": "Hm."},
        USER,
    ]
    assert said({"type": "reasoning", "summary": []}, USER) == [USER]


# Names.

CONVERSATION = [
    USER,
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    {"role": "assistant", "content": "a"},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "d", "name": "g", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "1"},
]


@pytest.mark.parametrize(
    ("chats", "ours"),
    [
        ("messages", "input"),
        ("messages[0]", "instructions"),
        ("messages[0].content", "instructions"),
        ("messages[1].content[0].image_url.url", "input[0].content[0].image_url"),
        ("messages[2].content", "input[2].content"),
        ("messages[2].reasoning_content", "input[1].content"),
        ("messages[2].tool_calls[1].function.arguments", "input[4].arguments"),
        ("messages[2].tool_calls[0].function.name", "input[3].name"),
        ("messages[2].tool_calls[0].id", "input[3].call_id"),
        ("messages[2].tool_calls[0]", "input[3]"),
        ("messages[3].tool_call_id", "input[5].call_id"),
        ("messages[3].content[1].text", "input[5].output[1].text"),
        ("messages[9]", "input"),
        ("max_tokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("response_format.type", "text.format.type"),
        ("response_format.json_schema.schema.properties.a", "text.format.schema.properties.a"),
        ("reasoning_effort", "reasoning.effort"),
        ("verbosity", "text.verbosity"),
        ("tools[1].function.parameters.properties.a", "tools[1].parameters.properties.a"),
        ("tools[1].function", "tools[1]"),
        ("tools[1].functions", "tools[1].functions"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("tool_choice.allowed_tools.tools[0]", "tool_choice.tools[0]"),
        ("logprobs", "top_logprobs"),
        ("temperature", "temperature"),
        ("max_tokens_more", "max_tokens_more"),
        (None, None),
    ],
)  # fmt: skip
def test_an_error_names_what_the_client_sent(chats: str | None, ours: str | None) -> None:
    origins = asked_for(input=CONVERSATION, instructions="Be brief.").origins
    message = f"`{chats}` is wrong; send `none`." if chats else "It is wrong."
    given = RequestRejected(message, chats)
    relayed = ErrorBody(message=message, type="x", param=chats, code="bad_request")
    passed = PassedOn(msgspec.json.encode({"error": relayed}), relayed, 422, b"3")
    for error in (given, passed):
        told = renamed(error, origins)
        body = json.loads(OPENAI.body(told))["error"]
        assert body["param"] == ours
        assert body["code"] == "bad_request"
        assert told.status == error.status
        assert told.retry_after_s == error.retry_after_s
        assert body["message"] == (message if chats is None else f"`{ours}` is wrong; send `none`.")


def test_what_an_earlier_response_holds_has_its_name() -> None:
    asked = read(b'{"model":"m","input":"hi","previous_response_id":"resp_1"}')
    origins = chat_of(asked, [Item(role="user", content="a")]).origins
    told = renamed(RequestRejected("x", "messages[0].content"), origins)
    assert told.param is None or told.param == "previous_response_id"
    assert json.loads(OPENAI.body(told))["error"]["param"] == "previous_response_id"
    told = renamed(RequestRejected("x", "messages[1].content"), origins)
    assert json.loads(OPENAI.body(told))["error"]["param"] == "input"


@pytest.mark.parametrize(
    "error", [PromptTooLong(5, 4), ModalityUnsupported("m", "image")], ids=lambda one: one.code
)
def test_an_error_about_the_messages_is_about_the_input(error: HelexaError) -> None:
    told = renamed(error, asked_for().origins)
    body = json.loads(OPENAI.body(told))["error"]
    assert (body["param"], body["code"], told.status) == ("input", error.code, 400)


@pytest.mark.parametrize("error", [ModelUnknown("m"), QueueFull("`x` waits.")])
def test_an_error_without_a_chats_name_is_the_same(error: HelexaError) -> None:
    assert renamed(error, asked_for().origins) is error


# What stands in the answer again.


def test_the_answer_says_what_was_asked() -> None:
    fields = {
        "instructions": "Be brief.",
        "tools": [TOOL, {"type": "function", "name": "g"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", **FORM, "strict": True}},
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"a": "b"},
        "temperature": 0,
        "top_p": 0.5,
        "max_output_tokens": 5,
        "parallel_tool_calls": False,
    }
    asked = read(json.dumps({"model": "m", "input": "hi", **fields}).encode())
    response = answer_to(asked, id="resp_1", created_at=5, store=True)
    told = json.loads(msgspec.json.encode(response))
    second = {
        "type": "function",
        "name": "g",
        "description": None,
        "parameters": None,
        "strict": False,
    }
    form = {**fields["text"]["format"], "description": None}  # type: ignore[index]
    assert {name: told[name] for name in fields} == {
        **fields,
        "tools": [TOOL, second],
        "text": {"format": form, "verbosity": "medium"},
    }
    assert (told["status"], told["output"], told["usage"]) == ("in_progress", [], None)
