"""llama.cpp's scores of documents as shares of one, which is what clients of rerankers expect.

Its server gives what the model's last layer says, which is any number, where libraries
that the models are published with give the logistic function of it. A model that says yes
or no in words is the exception: that server gives its share of yes already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.errors import RuntimeMalformed
from helexa.protocol.openai import body as bodies

SHARES_ALREADY: Final = ("qwen3", "qwen3vl")
"""Architectures, by the words of their files."""


class _Score(msgspec.Struct):
    index: int
    relevance_score: float


_results: Final = msgspec.json.Decoder(list[_Score])
_encode: Final = msgspec.json.Encoder().encode


class Shares:
    """A `Rewrite`."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        return (payload,)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        fields: dict[str, Any] = dict(bodies.fields(body))
        try:
            results = _results.decode(fields["results"])
        except (KeyError, msgspec.MsgspecError) as error:
            raise RuntimeMalformed(
                reason="The runtime answered something that holds no scores."
            ) from error
        for one in results:
            one.relevance_score = logistic(one.relevance_score)
        fields["results"] = results
        return _encode(fields)


def logistic(value: float) -> float:
    # The plain formula overflows for what is very unlikely.
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    odds = math.exp(value)
    return odds / (1 + odds)
