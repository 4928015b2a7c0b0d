"""An engine that says again what it was told, in arithmetic: a word is a token.

It keeps what every engine has to keep - counts, caps, stop strings, a context - and nothing
more, so it shows what the rest of a neuron does with an engine that keeps its word. Standard
library only: children use it.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 16
"""Of its vectors."""
_WORD: Final = re.compile(r"\S+\s*|\s+")


class TooLong(Exception):
    """More words than it reads."""

    def __init__(self, tokens: int) -> None:
        super().__init__(f"{tokens} tokens")
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class Echo:
    prompt_tokens: int
    pieces: Sequence[str]
    finish_reason: str


def answered(request: Mapping[str, Any], context_tokens: int) -> Echo:
    """Raises TooLong."""
    told = list(_told(request))
    prompt = sum(len(_words(each)) + 1 for each in told)
    if prompt > context_tokens:
        raise TooLong(prompt)
    caps = [request.get(name) for name in ("max_tokens", "max_completion_tokens")]
    cap = min([context_tokens - prompt, *(one for one in caps if one is not None)])
    words = _words(_cut(told[-1] if told else "", request.get("stop") or ()))
    return Echo(prompt, words[:cap], "length" if len(words) > cap else "stop")


def embedded(request: Mapping[str, Any], context_tokens: int) -> tuple[list[Any], int]:
    """Its vectors, and the tokens of its texts. Raises TooLong."""
    asked = request["input"]
    texts = [asked] if isinstance(asked, str) else asked
    longest = max(map(words_in, texts))
    if longest > context_tokens:
        raise TooLong(longest)
    vectors: list[Any] = [vector(text) for text in texts]
    if request.get("encoding_format") == "base64":
        vectors = [
            base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() for each in vectors
        ]
    return vectors, sum(map(words_in, texts))


def vector(text: str) -> Sequence[float]:
    """Of length 1, and the same for the same words."""
    numbers = [zlib.crc32(f"{at} {text}".encode()) / (1 << 31) - 1 for at in range(WIDTH)]
    length = sum(one * one for one in numbers) ** 0.5
    return [one / length for one in numbers]


def words_in(text: str) -> int:
    return len(_words(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _told(request: Mapping[str, Any]) -> Iterator[str]:
    for message in request.get("messages", ()):
        content = message.get("content") or ""
        if isinstance(content, str):
            yield content
        else:
            yield "".join(part.get("text", "") for part in content)
    prompt = request.get("prompt", ())
    yield from (prompt,) if isinstance(prompt, str) else map(str, prompt)


def _cut(text: str, stops: str | Sequence[str]) -> str:
    ends = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops)]
    return text[: min((end for end in ends if end >= 0), default=len(text))]
