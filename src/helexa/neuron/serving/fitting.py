"""What is done about a request before any engine is asked, so that all engines are alike.

Pictures are judged and fetched, what vectors or scores are wanted is read. Nothing runs
for it: no model is loaded and no place is held while a picture comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helexa.neuron.serving import ranking, vectors
from helexa.neuron.serving.pictures.judging import Pictures
from helexa.protocol.pictures.headers import TYPES
from helexa.protocol.pictures.places import may_hold
from helexa.runtime.contract import (
    Capabilities,
    Endpoint,
    ReplicaSpec,
    RuntimeAdapter,
    SeeingAdapter,
)


@dataclass(frozen=True, slots=True)
class Fit:
    body: bytes
    """The client's own, but for what is done here."""
    finish: Callable[[bytes], bytes] | None = None
    """Makes of an engine's whole answer the one that was asked for. Raises RuntimeMalformed."""
    took_time: bool = False
    """Whatever was known of replicas may have changed."""


async def fitted(
    endpoint: Endpoint,
    body: bytes,
    adapter: RuntimeAdapter,
    spec: ReplicaSpec,
    offered: Capabilities,
    pictures: Pictures,
) -> Fit:
    """Raises a 400 for what no engine should see, and what fetching pictures raises."""
    match endpoint:
        case Endpoint.EMBEDDINGS:
            wanted, inner = vectors.asked(body, spec.files, offered, runtime=adapter.name)
            return Fit(inner, wanted.settled)
        case Endpoint.RERANK:
            order, inner = ranking.asked(body)
            return Fit(inner, order.settled)
        case Endpoint.CHAT if may_hold(body):
            types = adapter.picture_types if isinstance(adapter, SeeingAdapter) else TYPES
            inner = await pictures.settled(body, spec.files.model, offered, types)
            return Fit(inner, took_time=True)
        case _:
            return Fit(body)
