"""Answers of servers that are OpenAI-compatible by half, as the whole would be.

Asked for a stream, some answer with one JSON body all the same. It becomes the stream
that it should have been, so that one way leads on from here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helexa.protocol import sse
from helexa.protocol.errors import Busy, HelexaError, RuntimeMalformed

WAIT_MOST_S: Final = 3_600

_answer: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


def as_stream(body: bytes) -> bytes:
    """A whole answer as server-sent events. Raises RuntimeMalformed for what is none."""
    try:
        answer = _answer.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed(reason="The runtime answered something that is not JSON.") from error
    choices = answer.get("choices")
    if "error" in answer:
        return sse.event(_encode({"error": answer["error"]}))
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise RuntimeMalformed(reason="The runtime answered something that is no completion.")
    if answer.get("object") == "chat.completion":
        answer["object"] = "chat.completion.chunk"
    usage = answer.pop("usage", None)
    events = [_encode({**answer, "choices": [_piece(one)]}) for one in choices]
    if usage is not None:
        events.append(_encode({**answer, "choices": [], "usage": usage}))
    return b"".join(map(sse.event, [*events, sse.DONE]))


def told_to_wait(error: HelexaError, retry_after: bytes | None) -> HelexaError:
    """With the wait that a server asked for, where the refusal is one that passes."""
    if isinstance(error, Busy) and retry_after is not None and len(retry_after) <= 12:
        # A date is left out: it says when by a clock that need not be ours.
        seconds = retry_after.strip().partition(b".")[0]
        if seconds.isdigit():
            error.wait_s = max(1, min(int(seconds), WAIT_MOST_S))
    return error


def _piece(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice
    delta = dict(message)
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)
        ]
    piece = {name: value for name, value in choice.items() if name != "message"}
    return {**piece, "delta": delta}
