"""The surfaces that are served as chats: every text, call and picture arrives as it was meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passthrough.chain import Chain, chain
from tests.passthrough.json_texts import TEXTS, members_of

few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
SCHEMA = '{"type":"object","properties":{"b":{"type":"number","maximum":1.50},"a":{}} }'
"""A spelling that nobody would choose."""
words = TEXTS.filter(str.strip)


@pytest.fixture(scope="module")
def whole() -> Iterator[Chain]:
    with chain() as made:
        yield made


def said(message: dict[str, Any]) -> str:
    """All that a message of a chat says."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


def turns(chat: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["role"], said(one)) for one in chat["messages"]]


@few
@given(first=words, second=words, third=words, system=words, parts=st.booleans())
def test_a_conversation_of_responses(
    whole: Chain, first: str, second: str, third: str, system: str, parts: bool
) -> None:
    def user(text: str) -> Any:
        return [{"type": "input_text", "text": text}] if parts else text

    body = {
        "model": "m",
        "instructions": system,
        "input": [
            {"role": "user", "content": user(first)},
            {"role": "assistant", "content": [{"type": "output_text", "text": second}]},
            {"type": "message", "role": "user", "content": user(third)},
        ],
        "x_own": [1.0, -0.0],
    }
    received = whole.received("/v1/responses", json.dumps(body).encode())
    assert turns(json.loads(received)) == [
        ("system", system),
        ("user", first),
        ("assistant", second),
        ("user", third),
    ]
    assert dict(members_of(received))["x_own"] == "[1.0, -0.0]"


@few
@given(first=words, second=words, third=words, system=words, parts=st.booleans())
def test_a_conversation_of_messages(
    whole: Chain, first: str, second: str, third: str, system: str, parts: bool
) -> None:
    def user(text: str) -> Any:
        return [{"type": "text", "text": text}] if parts else text

    body = {
        "model": "m",
        "max_tokens": 5,
        "system": user(system),
        "messages": [
            {"role": "user", "content": user(first)},
            {"role": "assistant", "content": user(second)},
            {"role": "user", "content": user(third)},
        ],
    }
    received = whole.received("/v1/messages", json.dumps(body).encode())
    assert turns(json.loads(received)) == [
        ("system", system),
        ("user", first),
        ("assistant", second),
        ("user", third),
    ]


ARGUMENTS = '{"city": "P\\u00e4ris",  "n": 1.50}'


@few
@given(result=words, about=words)
def test_a_call_and_its_result_of_responses(whole: Chain, result: str, about: str) -> None:
    body = (
        '{"model":"m","tools":[{"type":"function","name":"f","description":%s,"parameters":%s,'
        '"strict":false}],"input":[{"role":"user","content":"hi"},{"type":"function_call",'
        '"call_id":"c","name":"f","arguments":%s},{"type":"function_call_output","call_id":"c",'
        '"output":%s}]}'
    )
    body %= (json.dumps(about), SCHEMA, json.dumps(ARGUMENTS), json.dumps(result))
    received = whole.received("/v1/responses", body.encode())
    chat = json.loads(received)
    assert chat["messages"][1]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
    assert said(chat["messages"][2]) == result
    assert chat["tools"][0]["function"]["description"] == about
    assert json.loads(SCHEMA) == chat["tools"][0]["function"]["parameters"]
    assert list(chat["tools"][0]["function"]["parameters"]["properties"]) == ["b", "a"]


@few
@given(result=words, about=words)
def test_a_call_and_its_result_of_messages(whole: Chain, result: str, about: str) -> None:
    body = (
        '{"model":"m","max_tokens":5,"tools":[{"name":"f","description":%s,"input_schema":%s}],'
        '"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":'
        '"tool_use","id":"c","name":"f","input":%s}]},{"role":"user","content":[{"type":'
        '"tool_result","tool_use_id":"c","content":%s}]}]}'
    )
    body %= (json.dumps(about), SCHEMA, ARGUMENTS, json.dumps(result))
    received = whole.received("/v1/messages", body.encode())
    assert SCHEMA in received, "a schema is passed on in its own spelling"
    chat = json.loads(received)
    arguments = chat["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == json.loads(ARGUMENTS)
    assert said(chat["messages"][2]) == result
    assert chat["tools"][0]["function"]["description"] == about
