"""The chunks of a continuation as if the first engine had gone on: its ids, names, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from helexa.protocol.continuation import RESUMED_KEY, Delivered
from helexa.protocol.errors import RuntimeMalformed

Json: TypeAlias = dict[str, Any]

_chunk: Final = msgspec.json.Decoder(Json)
encode: Final = msgspec.json.Encoder().encode


def decoded(payload: bytes) -> Json:
    """Raises RuntimeMalformed."""
    try:
        return _chunk.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed(reason="The runtime sent an event that is not JSON.") from error


@dataclass(frozen=True, slots=True)
class Voice:
    """Of the engine that began."""

    delivered: Delivered
    is_chat: bool

    def chunk(self, choices: list[Json], **more: Any) -> bytes:
        """One event of the same stream."""
        return encode(self.relabelled({**more, "choices": choices}))

    def relabelled(self, chunk: Json) -> Json:
        said = self.delivered
        chunk["id"], chunk["created"], chunk["model"] = said.id, said.created, said.model
        chunk["object"] = "chat.completion.chunk" if self.is_chat else "text_completion"
        if said.fingerprint:
            chunk["system_fingerprint"] = said.fingerprint
        else:
            chunk.pop("system_fingerprint", None)
        return chunk

    def piece(self, text: str) -> bytes:
        choice: Json = {"index": 0, "finish_reason": None}
        if self.is_chat:
            choice["delta"] = {"content": text}
        else:
            choice.update(text=text, logprobs=None)
        return self.chunk([choice])

    def finish(self, reason: str) -> bytes:
        choice: Json = {"index": 0, "finish_reason": reason}
        if self.is_chat:
            choice["delta"] = {}
        else:
            choice.update(text="", logprobs=None)
        return self.chunk([choice])

    def usage(self, usage: Mapping[str, Any], resumed: int) -> bytes:
        return self.chunk([], usage={**usage, RESUMED_KEY: resumed})


def counts(prompt: int, completion: int, cached: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
    }


def cached_in(usage: Mapping[str, Any]) -> int:
    return _detail(usage, "prompt_tokens_details", "cached_tokens")


def thoughts_in(usage: Mapping[str, Any]) -> int:
    return _detail(usage, "completion_tokens_details", "reasoning_tokens")


def _detail(usage: Mapping[str, Any], where: str, name: str) -> int:
    details = usage.get(where)
    found = details.get(name) if isinstance(details, dict) else None
    return found if isinstance(found, int) else 0
