"""Neurons whose streams break off, and neurons that go on with them, by script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from tests.gateway.parts import DONE, SSE_HEAD
from tests.util.http_parts import Caller, Script

from helexa.protocol.continuation import CONTINUE_PATH, RESUMED_KEY, Continuation

WORDS = ("Once", " upon", " a", " time", " there", " was", " \u00e9", ".")
PROMPT_TOKENS = 11
DIGEST = "sha256:aa"


def chunk(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "chatcmpl-7", "created": 5, "model": "m", "choices": [choice], **more}
    return b"data: %s\n\n" % json.dumps(event).encode()


def usage(completion: int, resumed: int = 0) -> bytes:
    counts = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    if resumed:
        counts[RESUMED_KEY] = resumed
    event = {"id": "chatcmpl-7", "created": 5, "model": "m", "choices": [], "usage": counts}
    return b"data: %s\n\n" % msgspec.json.encode(event)


def answer(words: Sequence[str] = WORDS, *, role: bool = True, resumed: int = 0) -> list[bytes]:
    """The events of a whole answer, or of the rest of one."""
    return [
        *([chunk({"role": "assistant", "content": None})] if role else []),
        *(chunk({"content": word}) for word in words),
        chunk({}, "stop"),
        usage(len(words) + resumed, resumed),
        DONE,
    ]


def in_band(code: str) -> bytes:
    error = {"message": f"It {code}.", "type": "server_error", "param": None, "code": code}
    return b"data: %s\n\n" % json.dumps({"error": error}).encode()


def breaking(
    after: int, *, last: bytes = b"", ends: Callable[[Caller], None] = Caller.reset
) -> Script:
    """A neuron that dies in each answer after so many events; `last` is half of another, or an
    error."""

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        for event in answer()[:after]:
            await caller.say_chunk(event)
        if last:
            await caller.say_chunk(last)
        ends(caller)

    return script


def cleanly(caller: Caller) -> None:
    """As if the answer had come to its end."""
    caller.writer.write(b"0\r\n\r\n")


def handed(request: bytes) -> Continuation:
    """What a neuron was asked to go on with."""
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST " + CONTINUE_PATH.encode())
    return msgspec.json.decode(body, type=Continuation)


def going_on(*, stops_after: int | None = None) -> Script:
    """A neuron that goes on with any answer, and may die in it, too."""

    async def script(caller: Caller) -> None:
        while True:
            request = await caller.request()
            (choice,) = handed(request).delivered.choices
            done = len(choice.content)
            await caller.say(SSE_HEAD)
            events = answer(WORDS[done:], role=False, resumed=done)
            if choice.finish_reason:
                events = events[-2:]
            for event in events[:stops_after]:
                await caller.say_chunk(event)
            if stops_after is not None:
                caller.reset()
                return
            await caller.say(b"0\r\n\r\n")

    return script
