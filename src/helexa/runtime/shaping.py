"""Which method of an adapter makes the child's request for which kind of work."""

from __future__ import annotations

from typing import assert_never

from helexa.protocol.errors import CapabilityMissing
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
                return adapter.embedding(body, spec)
        case Endpoint.RERANK:
            if isinstance(adapter, Rerank):
                return adapter.rerank(body, spec)
        case _:
            assert_never(endpoint)
    raise CapabilityMissing(model=spec.files.model, capability=endpoint.value, runtime=adapter.name)
