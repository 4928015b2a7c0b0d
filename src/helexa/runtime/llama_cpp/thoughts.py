"""Thinking models on llama.cpp's server: how much they think, and how much they thought.

The server keeps thoughts apart by itself (`reasoning_content`), and counts them among the
other tokens of an answer. With each piece it can say how many tokens there were so far,
which is what they are told apart by here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import ReplicaSpec
from helexa.runtime.llama_cpp import templates
from helexa.runtime.openai import efforts

Json: TypeAlias = dict[str, Any]

_FORMATS: Final = ("none", "auto", "deepseek", "deepseek-legacy")
_TIMINGS: Final = b',"timings":{'
_USAGE: Final = b'"usage":{'
_ENDED: Final = b'"finish_reason":"'
_THOUGHT: Final = b'"reasoning_content":"'

_encode: Final = msgspec.json.Encoder().encode
_chunk: Final = msgspec.json.Decoder(Json)


def changes(raw: bodies.Fields, spec: ReplicaSpec, *, runtime: str) -> Json:
    """What `reasoning_effort` and `chat_template_kwargs.enable_thinking` come to.

    Raises CapabilityMissing, BodyMalformed.
    """
    check_format(raw)
    template = spec.files.chat_template
    effort = efforts.read(raw, spec, runtime=runtime)
    options = bodies.value(raw, "chat_template_kwargs", dict[str, Any]) or {}
    is_off = effort == "none" or options.get("enable_thinking") is False
    if is_off and templates.thinks(template):
        # Not every template can be told; where one cannot, its thoughts end as they begin. With 0
        # the engine loses the first token of the mark that ends them.
        return {"reasoning_budget_tokens": 1}
    return {}


def check_format(raw: bodies.Fields) -> None:
    """The engine answers as if it were broken to a `reasoning_format` that it does not know."""
    wanted = bodies.value(raw, "reasoning_format", str)
    if wanted is not None and wanted not in _FORMATS:
        raise BodyMalformed(
            reason=f"`reasoning_format` is one of {', '.join(_FORMATS)}.", field="reasoning_format"
        )


class _Timings(msgspec.Struct):
    predicted_n: int = 0


class _Choice(msgspec.Struct):
    index: int = 0


class _Piece(msgspec.Struct):
    choices: list[_Choice] = []
    timings: _Timings | None = None


_piece: Final = msgspec.json.Decoder(_Piece)


class ThoughtsCounted:
    """Of a stream that says `timings` with every piece: they leave it, and usage gains a count."""

    def __init__(self) -> None:
        self._thought: dict[int, int] = {}
        self._ended = 0
        """The choice that ended last; its usage comes right after."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        if _THOUGHT in payload:
            piece = _piece.decode(payload)
            if piece.timings is not None and piece.choices:
                self._thought[piece.choices[0].index] = piece.timings.predicted_n
        elif _ENDED in payload:
            piece = _piece.decode(payload)
            self._ended = piece.choices[0].index if piece.choices else 0
        if _USAGE in payload:
            return (self._with_count(payload),)
        at = payload.rfind(_TIMINGS)
        # It is the last member; a text that holds these words has its quotation marks escaped.
        return (payload[:at] + b"}",) if at > 0 else (payload,)

    def _with_count(self, payload: bytes) -> bytes:
        thought = self._thought.pop(self._ended, 0)
        chunk = _chunk.decode(payload)
        usage = chunk.get("usage")
        if thought and isinstance(usage, dict):
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        return _encode(chunk)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body
