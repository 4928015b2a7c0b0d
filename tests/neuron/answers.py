"""Chat answers, streamed or whole, in one form that tests can look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.neuron.bench import Reply

from helexa.neuron.serving.assemble import assembled
from helexa.runtime.contract import Endpoint


def answer(reply: Reply, endpoint: Endpoint = Endpoint.CHAT) -> dict[str, Any]:
    """A whole answer of either; usage only where it was sent."""
    assert reply.status == 200, reply.content
    if b"text/event-stream" not in reply.headers.get(b"content-type", b""):
        return dict(reply.json)
    chunks = [event for event in reply.events if event != "[DONE]"]
    used = next((each["usage"] for each in reversed(chunks) if each.get("usage")), None)
    return assembled(endpoint, chunks, used)


def choice(reply: Reply) -> dict[str, Any]:
    (one,) = answer(reply)["choices"]
    return dict(one)


def calls(reply: Reply) -> list[tuple[str, Any]]:
    """Name and decoded arguments of each call, once all is as OpenAI has it."""
    one = choice(reply)
    found = one["message"].get("tool_calls") or []
    assert one["finish_reason"] == ("tool_calls" if found else one["finish_reason"])
    assert not found or not one["message"].get("content")
    assert all(call["type"] == "function" and call["id"] for call in found)
    return [(each["function"]["name"], arguments(each["function"])) for each in found]


def arguments(function: Mapping[str, Any]) -> Any:
    return json.loads(function["arguments"])
