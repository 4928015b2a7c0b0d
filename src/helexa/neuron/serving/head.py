"""What a neuron has to know of a request itself: a few fields, and what its kind of work needs."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.neuron.serving.counting import Bounds
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Endpoint, ReplicaSpec
from helexa.runtime.openai import limits

CONTEXT_UNKNOWN: Final = 1 << 24
"""More tokens than any server reads; counts above that are no counts."""
GENERATIONS: Final = (Endpoint.CHAT, Endpoint.COMPLETIONS)

NEEDS: Final = {
    Endpoint.CHAT: (WorkloadClass.CHAT_INTERACTIVE, "chat completions"),
    Endpoint.COMPLETIONS: (WorkloadClass.COMPLETION, "completions"),
    Endpoint.EMBEDDINGS: (WorkloadClass.EMBEDDING, "embeddings"),
    Endpoint.RERANK: (WorkloadClass.RERANK, "reranking"),
}

_SEVERAL: Final = {
    Endpoint.CHAT: "",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.EMBEDDINGS: "input",
    Endpoint.RERANK: "documents",
}
"""The member that may hold several prompts."""
PROMPTS: Final = {Endpoint.CHAT: "messages", Endpoint.COMPLETIONS: "prompt"}
"""The member that engines keep in their caches, as cortexes look at it, too."""


class _Options(msgspec.Struct):
    include_usage: bool | None = None


_ABSENT: Final = msgspec.Raw()


class Head(msgspec.Struct):
    """The few fields that a neuron has to know itself."""

    model: str = ""
    """Empty where a cortex chose one for a request that names several."""
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    models: msgspec.Raw = _ABSENT
    provider: msgspec.Raw = _ABSENT
    helexa: msgspec.Raw = _ABSENT

    @property
    def way(self) -> str:
        """The member, if any, that says where the request may go."""
        for name in ("models", "provider", "helexa"):
            if (said := getattr(self, name)) and bytes(said) != b"null":
                return name
        return ""

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


_head: Final = msgspec.json.Decoder(Head)


def read(body: bytes) -> Head:
    """Raises BodyMalformed."""
    return bodies.typed(_head, body)


def bounds(asked: Head, endpoint: Endpoint, body: bytes, spec: ReplicaSpec) -> Bounds:
    """What a client's request can use at most."""
    raw = bodies.fields(body)
    return Bounds(
        choices=max(1, asked.n or 1),
        prompts=bodies.prompts_in(raw, _SEVERAL[endpoint]),
        context_tokens=_context_tokens(spec),
        output_tokens=limits.output_tokens(raw) if endpoint in GENERATIONS else None,
    )


def _context_tokens(spec: ReplicaSpec) -> int:
    """That a request can use at most. A server elsewhere does not know what we say of it."""
    if not spec.files.server:
        return spec.context_tokens
    return max(spec.context_tokens, spec.files.context_tokens_trained or CONTEXT_UNKNOWN)
