"""Which models a name leads to: itself, an alias' models by weight, and what stands in for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from helexa.cortex.orchestrator.catalogue import Catalogue, Way
from helexa.protocol.ids import ModelId

_RANGE: Final = 1 << 64


def choices(
    catalogue: Catalogue,
    name: ModelId,
    mark: str,
    random: Callable[[], float],
    also: tuple[ModelId, ...] = (),
) -> tuple[ModelId, ...]:
    """Each model once, the wanted ones first; never empty, for a name may be known elsewhere.

    An alias' models are drawn by weight, and by the mark of the session or the request where
    there is one: a conversation stays with its model, and a request that waits for one too.
    A fallback's own fallbacks are not looked for. `also` are the request's own, which go
    before the catalogue's.
    """
    if not catalogue.entries:
        return tuple(dict.fromkeys((name, *also))) if also else (name,)
    first = tuple(model for one in (name, *also) for model in _meant(catalogue, one, mark, random))
    rest = [
        model
        for one in first
        if (entry := catalogue.entries.get(one)) is not None
        for other in entry.fallbacks
        for model in _meant(catalogue, ModelId(other), mark, random)
    ]
    return tuple(dict.fromkeys((*first, *rest))) if rest else first


def reachable(catalogue: Catalogue, name: ModelId) -> tuple[ModelId, ...]:
    """All that `choices` may return, in no order that means anything."""
    return choices(catalogue, name, "", lambda: 0.0)


def _meant(
    catalogue: Catalogue, name: ModelId, mark: str, random: Callable[[], float]
) -> Iterator[ModelId]:
    ways = catalogue.aliases.get(name)
    if ways is None:
        yield name
    elif len(ways) == 1:
        yield ways[0].model
    else:
        # The k-th root of a random number, k its weight: sorted, the first is each with the
        # probability of its weight, and so on among the rest (Efraimidis and Spirakis).
        drawn = sorted(
            (math.log(_part(name, way, mark, random)) / way.weight, way.model) for way in ways
        )
        yield from (model for _, model in reversed(drawn))


def _part(name: ModelId, way: Way, mark: str, random: Callable[[], float]) -> float:
    """A number in (0, 1]: random, or the mark's own for this model."""
    if not mark:
        return 1.0 - random()
    text = f"{mark}\0{name}\0{way.model}".encode()
    return (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") + 1) / _RANGE
