"""The whole answer from its stream, for a client that did not ask for one.

The child always streams, because only a stream notices that its client has
gone. Putting the pieces together again is a pure function of the chunks; fields
that are not known here are kept, the last value of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helexa.runtime.contract import Endpoint

Json = dict[str, Any]

_APART = ("choices", "object", "usage", "timings", "__verbose")
"""The last two are llama.cpp's, about itself."""
_OBJECTS = {Endpoint.CHAT: "chat.completion", Endpoint.COMPLETIONS: "text_completion"}


def assembled(endpoint: Endpoint, chunks: Iterable[Json], usage: Json | None) -> Json:
    """One answer in OpenAI's shape; `usage` replaces what the chunks said of it."""
    answer: Json = {"id": "", "object": _OBJECTS[endpoint], "created": 0, "model": ""}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name not in _APART:
                answer[name] = value
        for piece in chunk.get("choices") or ():
            index = piece.get("index", 0)
            if endpoint is Endpoint.CHAT:
                _add_chat(choices.setdefault(index, _chat_choice(index)), piece)
            else:
                _add_text(choices.setdefault(index, _text_choice(index)), piece)
    answer["choices"] = [_finished(choices[index]) for index in sorted(choices)]
    if usage is not None:
        answer["usage"] = usage
    return answer


def _chat_choice(index: int) -> Json:
    # OpenAI's own answers always have these fields, and strict clients ask for them.
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _text_choice(index: int) -> Json:
    return {"index": index, "text": "", "logprobs": None, "finish_reason": None}


def _add_chat(choice: Json, piece: Json) -> None:
    for name, value in piece.items():
        match name:
            case "delta":
                _add_delta(choice["message"], value or {})
            case "logprobs":
                choice["logprobs"] = _joined_logprobs(choice["logprobs"], value)
            case "index":
                pass
            case _:
                _keep(choice, name, value)


def _add_text(choice: Json, piece: Json) -> None:
    for name, value in piece.items():
        match name:
            case "text":
                choice["text"] += value or ""
            case "logprobs":
                choice["logprobs"] = _joined_logprobs(choice["logprobs"], value)
            case "index":
                pass
            case _:
                _keep(choice, name, value)


def _add_delta(message: Json, delta: Json) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _add_call(message.setdefault("tool_calls", []), call)
        elif name == "role":
            _keep(message, name, value)
        elif isinstance(value, str):
            # `content`, `reasoning_content`, `refusal`, and whatever text comes next year.
            message[name] = (message.get(name) or "") + value
        else:
            _keep(message, name, value)


def _add_call(calls: list[Json], piece: Json) -> None:
    # By index: parallel calls may come in any order, and interleaved.
    index = piece.get("index", len(calls))
    call = next((one for one in calls if one["index"] == index), None)
    if call is None:
        call = {"index": index, "type": "function", "function": {"name": "", "arguments": ""}}
        calls.append(call)
        calls.sort(key=_index)
    for name, value in piece.items():
        if name == "function":
            function = value or {}
            for part, text in function.items():
                if isinstance(text, str):
                    call["function"][part] = call["function"].get(part, "") + text
        elif name != "index":
            _keep(call, name, value)


def _finished(choice: Json) -> Json:
    # The numbers are for putting streamed calls together; a whole message has a list.
    for call in choice.get("message", {}).get("tool_calls", ()):
        del call["index"]
    return choice


def _index(call: Json) -> int:
    index: int = call["index"]
    return index


def _joined_logprobs(old: Json | None, new: Json | None) -> Json | None:
    """Lists grow: `content` of chats, and the parallel lists of older completions."""
    if new is None:
        return old
    joined = dict(old or {})
    for name, value in new.items():
        if isinstance(value, list) and isinstance(joined.get(name), list):
            joined[name] = [*joined[name], *value]
        elif value is not None or name not in joined:
            joined[name] = value
    return joined


def _keep(into: Json, name: str, value: Any) -> None:
    # A later null does not take back what was said.
    if value is not None or name not in into:
        into[name] = value
