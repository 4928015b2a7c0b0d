"""Where heads of prompts were read lately, so that what was computed once is found again.

Two sources: what this cortex sent where, known at once, and what neurons report that their
caches hold, which also tells of other cortexes' requests and of those before a restart. A
memory that is wrong costs one prompt read anew where it would have been anyway; so it is
bounded, keeps no clock, and forgets the oldest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final, Protocol

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ReplicaLoad

HEADS_MAX: Final = 65_536
"""Heads remembered; about 20 MB when full, and a conversation has a handful."""
HOLDERS_MAX: Final = 8
"""Neurons remembered for one head, the latest first."""
VOID_MAX: Final = 16_384
"""Unloaded models on neurons of which it is known that nothing older holds."""
REPORTED_MAX: Final = 128
"""Heads taken of one report about one model; the rest is not looked at."""


class Recalls(Protocol):
    """What a decision reads; it changes nothing."""

    def matches(self, model: ModelId, heads: Sequence[int], least: int = 1) -> Mapping[NodeId, int]:
        """For each neuron that may hold the first `least` of these heads or more: how many."""
        ...


class Recall:
    """`Neurons` is its one writer."""

    def __init__(self, heads_max: int = HEADS_MAX) -> None:
        self._heads_max = heads_max
        self._holders: OrderedDict[tuple[ModelId, int], tuple[_Seen, ...]] = OrderedDict()
        self._reported: dict[tuple[NodeId, ModelId], frozenset[int]] = {}
        # A neuron that unloads a model has lost all at once; finding every head of its would
        # take long, so what was seen up to the moment is void instead.
        self._void: OrderedDict[tuple[NodeId, ModelId], int] = OrderedDict()
        self._moment = 0

    def __len__(self) -> int:
        return len(self._holders)

    def sent(self, node: NodeId, model: ModelId, heads: Sequence[int]) -> None:
        """A prompt with these heads goes there."""
        self._moment += 1
        for head in heads:
            self._put(model, head, node)
        while len(self._holders) > self._heads_max:
            self._holders.popitem(last=False)

    def reported(self, node: NodeId, load: ReplicaLoad) -> None:
        """What the neuron itself says that it holds. Only news costs anything."""
        if not load.prefixes:
            return
        heads = frozenset(load.prefixes[:REPORTED_MAX])
        key = (node, load.model)
        news = heads - self._reported.get(key, frozenset())
        self._reported[key] = heads
        if news:
            self.sent(node, load.model, tuple(news))

    def forget(self, node: NodeId, model: ModelId) -> None:
        """The model is not loaded there any more, or anew."""
        self._reported.pop((node, model), None)
        self._void[node, model] = self._moment
        self._void.move_to_end((node, model))
        if len(self._void) > VOID_MAX:
            self._void.popitem(last=False)

    def drop(self, nodes: AbstractSet[NodeId]) -> None:
        """These neurons are not known any more."""
        for key in [one for one in self._reported if one[0] in nodes]:
            del self._reported[key]

    def matches(self, model: ModelId, heads: Sequence[int], least: int = 1) -> Mapping[NodeId, int]:
        found: dict[NodeId, int] = {}
        for count in range(len(heads), least - 1, -1):
            for node in self._holding(model, heads[count - 1]):
                found.setdefault(node, count)
        return found

    # ---

    def _holding(self, model: ModelId, head: int) -> Iterator[NodeId]:
        for node, moment in self._holders.get((model, head), ()):
            if moment > self._void.get((node, model), -1):
                yield node

    def _put(self, model: ModelId, head: int, node: NodeId) -> None:
        key = (model, head)
        others = [one for one in self._holders.get(key, ()) if one[0] != node]
        self._holders[key] = ((node, self._moment), *others[: HOLDERS_MAX - 1])
        self._holders.move_to_end(key)


_Seen = tuple[NodeId, int]
"""Who, and at which moment of this memory's own count."""


class _Nothing:
    def matches(
        self,
        model: ModelId,  # noqa: ARG002 - nothing is known of any
        heads: Sequence[int],  # noqa: ARG002
        least: int = 1,  # noqa: ARG002
    ) -> Mapping[NodeId, int]:
        return MappingProxyType({})


NOTHING: Final[Recalls] = _Nothing()
