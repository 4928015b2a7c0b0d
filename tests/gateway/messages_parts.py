"""What Anthropic's clients make of a stream: the events, and the message that they add up to."""

from __future__ import annotations

import json
from typing import Any

from helexa.cortex.gateway.translation import partial_json


def events_in(body: bytes) -> list[dict[str, Any]]:
    """Their data; each name is held against the data's type."""
    assert body.endswith(b"\n\n") or not body
    found = []
    for event in body.decode().split("\n\n")[:-1]:
        if event.startswith(":"):
            continue
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def added_up(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events come to; checks their order on the way."""
    first, *middle, delta, last = [one for one in events if one["type"] != "ping"]
    assert first["type"] == "message_start"
    assert last == {"type": "message_stop"}
    message: dict[str, Any] = first["message"]
    assert message["content"] == []
    assert message["stop_reason"] is None
    blocks: list[dict[str, Any]] = message["content"]
    is_open = False
    inputs: dict[int, str] = {}
    for event in middle:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"])
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                add(blocks[-1], event["delta"], inputs, event["index"])
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                is_open = False
            case other:
                raise AssertionError(f"{other} inside a message")
    assert not is_open
    for index, text in inputs.items():
        try:
            blocks[index]["input"] = json.loads(text)
        except ValueError:
            blocks[index]["input"] = partial_json.completed(text)
    assert delta["type"] == "message_delta"
    message.update(delta["delta"])
    message["usage"].update(delta["usage"])
    return message


def add(block: dict[str, Any], delta: dict[str, Any], inputs: dict[int, str], index: int) -> None:
    kinds = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
    if delta["type"] == "input_json_delta":
        assert block["type"] == "tool_use"
        inputs[index] = inputs.get(index, "") + delta["partial_json"]
    else:
        name = kinds[delta["type"]]
        assert name in block
        block[name] += delta[name]
