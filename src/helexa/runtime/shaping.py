"""Which method of an adapter makes the child's request for which kind of work."""

from __future__ import annotations

from typing import Final, assert_never

from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import (
    Chat,
    ChildRequest,
    Embedding,
    Endpoint,
    ReplicaSpec,
    Rerank,
    RuntimeAdapter,
    Text,
)
from helexa.runtime.openai.abilities import OF_THE_WAY

_OF_THE_WAY: Final = tuple(b'"%s"' % name.encode() for name in OF_THE_WAY)


def shaped(
    adapter: RuntimeAdapter, endpoint: Endpoint, body: bytes, spec: ReplicaSpec
) -> ChildRequest:
    """The child's request for a client's body. Raises a 400 for what cannot be asked of it."""
    match endpoint:
        case Endpoint.CHAT:
            if isinstance(adapter, Chat):
                return adapter.chat(body, spec)
        case Endpoint.COMPLETIONS:
            if isinstance(adapter, Text):
                return adapter.text(body, spec)
        case Endpoint.EMBEDDINGS:
            if isinstance(adapter, Embedding):
                return adapter.embedding(_without_way(body), spec)
        case Endpoint.RERANK:
            if isinstance(adapter, Rerank):
                return adapter.rerank(_without_way(body), spec)
        case _:
            assert_never(endpoint)
    raise CapabilityMissing(model=spec.files.model, capability=endpoint.value, runtime=adapter.name)


def _without_way(body: bytes) -> bytes:
    """Bodies for text lose these with all that is idle; these would pass as they are."""
    if not any(name in body for name in _OF_THE_WAY):
        return body
    raw = bodies.fields(body)
    for name in OF_THE_WAY:
        raw.pop(name, None)
    return bodies.with_changes(raw, {})
