"""Messages that no model can make sense of are refused by their place, alike on every runtime."""

from __future__ import annotations

from typing import Any

import pytest
from tests.runtime.test_adapters_conform import ADAPTERS
from tests.runtime.test_asked import sent

from helexa.protocol.errors import BodyMalformed, HelexaError
from helexa.runtime.contract import Endpoint, RuntimeAdapter

USER = {"role": "user", "content": "hi"}
ELSEWHERE = "openai_compatible"


def calls(*ids: str | None) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    named = [{"id": one} if one is not None else {} for one in ids]
    made = [{**one, "type": "function", "function": function} for one in named]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(of: Any = None) -> dict[str, Any]:
    return {"role": "tool", "content": "r", **({} if of is None else {"tool_call_id": of})}


@ADAPTERS
@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([USER, result("a")], "messages[1].tool_call_id"),
        ([USER, result()], "messages[1].tool_call_id"),
        ([USER, calls("a"), result("b")], "messages[2].tool_call_id"),
        ([USER, calls("a"), result()], "messages[2].tool_call_id"),
        ([USER, calls("a"), result("")], "messages[2].tool_call_id"),
        ([USER, calls("a"), result(3)], "messages[2].tool_call_id"),
        ([USER, result("a"), calls("a"), result("a")], "messages[1].tool_call_id"),
        ([USER, calls("a")], "messages[1].tool_calls[0].id"),
        ([USER, calls(None)], "messages[1].tool_calls[0]"),
        ([USER, calls("a", "b"), result("a")], "messages[1].tool_calls[1].id"),
        ([USER, calls("a"), USER], "messages[1].tool_calls[0].id"),
    ],
)
def test_a_result_needs_its_call_and_the_last_call_its_result(
    adapter: RuntimeAdapter, messages: list[dict[str, Any]], field: str
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.CHAT, messages=messages)
    assert refused.value.field == field


@ADAPTERS
@pytest.mark.parametrize(
    "messages",
    [
        [USER, calls("a", "b"), result("b"), result("a")],
        [USER, calls("a"), result("a"), {"role": "assistant", "content": "x"}, USER],
        [USER, calls("a"), result("a"), calls("a"), result("a")],
        [USER, calls("a"), USER, {"role": "assistant", "content": "x"}, USER],
        [USER, calls(None), result()],
        [USER, calls(None, None), result(), USER],
        [USER, {"role": "assistant", "content": "x", "tool_calls": []}, USER],
    ],
)
def test_results_that_have_their_calls_pass_as_they_are(
    adapter: RuntimeAdapter, messages: list[dict[str, Any]]
) -> None:
    assert sent(adapter, Endpoint.CHAT, messages=messages)["messages"] == messages


@ADAPTERS
@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "file", "file": {"file_id": "x"}}, "messages[0].content[1]"),
        ({"type": "refusal", "refusal": "no"}, "messages[0].content[1].type"),
        ({"type": "anything"}, "messages[0].content[1].type"),
    ],
)
def test_a_part_that_is_not_read_is_refused_by_its_place(
    adapter: RuntimeAdapter, part: dict[str, Any], field: str
) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
    if adapter.name == ELSEWHERE:
        assert sent(adapter, Endpoint.CHAT, messages=messages)["messages"] == messages
        return
    with pytest.raises(HelexaError) as refused:
        sent(adapter, Endpoint.CHAT, messages=messages)
    assert (refused.value.status, refused.value.param) == (400, field)


@ADAPTERS
def test_what_a_model_is_not_offered_to_see_is_refused_by_its_place(
    adapter: RuntimeAdapter,
) -> None:
    part = {"type": "video_url", "video_url": {"url": "https://example.org/x"}}
    with pytest.raises(HelexaError) as refused:
        sent(adapter, Endpoint.CHAT, messages=[{"role": "user", "content": [part]}])
    assert refused.value.param == "messages[0].content[0]"
