"""Log probabilities of a text completion, from the form of chats to the older form of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

Json: TypeAlias = dict[str, Any]

_chunk: Final = msgspec.json.Decoder(Json)
_encode: Final = msgspec.json.Encoder().encode


class TextLogprobs:
    """For an engine that writes `{"content": [..]}` where OpenAI writes four lists side by side."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}

    def event(self, payload: bytes) -> Sequence[bytes]:
        if b'"logprobs":{' not in payload:
            return (payload,)
        chunk = _chunk.decode(payload)
        for choice in chunk.get("choices") or ():
            self._turn(choice)
        return (_encode(chunk),)

    def _turn(self, choice: Json) -> None:
        said = choice.get("logprobs") or {}
        tokens = said.get("content")
        if not isinstance(tokens, list):
            return
        index = choice.get("index", 0)
        offset = self._offsets.get(index, 0)
        offsets = []
        for each in tokens:
            offsets.append(offset)
            offset += len(each.get("token", ""))
        self._offsets[index] = offset
        choice["logprobs"] = {
            "tokens": [each.get("token", "") for each in tokens],
            "token_logprobs": [each.get("logprob") for each in tokens],
            "top_logprobs": [
                {one.get("token", ""): one.get("logprob") for one in each.get("top_logprobs") or ()}
                for each in tokens
            ],
            "text_offset": offsets,
        }

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body
