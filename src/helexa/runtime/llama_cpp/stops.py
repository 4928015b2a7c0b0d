"""Which of the client's stop sequences ended an answer of llama.cpp's server.

Its chat answers do not say it, but for a report about the whole request that comes with the
last event to whoever asks for it. The word is taken out of that, by the name that vLLM has
for it, and the report is left out: it repeats the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import ReplicaSpec

CONTEXT_TOKENS_MAX: Final = 1 << 18
"""The report of a longer prompt could be longer than an event may be."""
_REPORT: Final = b'"__verbose":'

_chunk: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


def wanted(raw: bodies.Fields, spec: ReplicaSpec) -> bool:
    """Whether to ask for the report."""
    if spec.context_tokens > CONTEXT_TOKENS_MAX:
        return False
    return bool(bodies.value(raw, "stop", str | list[str]))


class StopNamed:
    """`stop_reason` in a choice that a stop sequence ended."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        if _REPORT not in payload:
            return (payload,)
        chunk = _chunk.decode(payload)
        report = chunk.pop("__verbose", None)
        if isinstance(report, dict) and report.get("stop_type") == "word":
            for choice in chunk.get("choices") or ():
                choice["stop_reason"] = report.get("stopping_word")
        return (_encode(chunk),)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body
