"""What is asked for here: waiting and running requests, arrivals, last use, by model.

Counters that the request path touches, and nothing else: each call costs a few dictionary
look-ups. `wants` makes of them what the planner reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from helexa.cortex.orchestrator.provisioning.plan import Want
from helexa.protocol.ids import ModelId

RATE_OVER_S: Final = 60.0
"""Arrivals are smoothed over about this long."""
FORGOTTEN_S: Final = 86_400.0
"""A model that nobody asked for so long has no demand worth a memory."""
MODELS_MAX: Final = 16_384


@dataclass(slots=True)
class _Model:
    waits: list[float] = field(default_factory=list)
    """When those who wait came, in that order."""
    in_flight: int = 0
    rate_per_s: float = 0.0
    rated_s: float = 0.0
    used_s: float = 0.0


class Demand:
    """All times are of one monotonic clock, passed in."""

    def __init__(self) -> None:
        self._models: dict[ModelId, _Model] = {}
        self.queues: Callable[[], Mapping[ModelId, tuple[int, float]]] = dict
        """How many wait for a slot of each model that is served, and about how long."""

    def waits(self, model: ModelId, now_s: float) -> None:
        """A request began to wait for the model. `served` ends it."""
        self._of(model, now_s).waits.append(now_s)

    def served(self, model: ModelId, came_s: float, now_s: float) -> None:
        """One that came to wait at `came_s` waits no longer, for whatever reason."""
        found = self._of(model, now_s)
        found.waits.remove(came_s)
        found.used_s = now_s

    def started(self, model: ModelId, now_s: float) -> None:
        """A request was sent to a neuron."""
        self.missed(model, now_s)
        self._of(model, now_s).in_flight += 1

    def missed(self, model: ModelId, now_s: float) -> None:
        """Another model stood in for it."""
        found = self._of(model, now_s)
        found.used_s = now_s
        found.rate_per_s = _faded(found, now_s) + 1 / RATE_OVER_S
        found.rated_s = now_s

    def ended(self, model: ModelId, now_s: float) -> None:
        """A request that was sent is over."""
        found = self._of(model, now_s)
        found.in_flight = max(0, found.in_flight - 1)
        found.used_s = now_s

    def wants(self, now_s: float) -> Mapping[ModelId, Want]:
        for model in [
            model
            for model, one in self._models.items()
            if not one.waits and not one.in_flight and now_s - one.used_s > FORGOTTEN_S
        ]:
            del self._models[model]
        queues = self.queues()
        return {
            model: Want(
                queued=queues.get(model, (0, 0.0))[0],
                queue_s=queues.get(model, (0, 0.0))[1],
                waiting=len(one.waits),
                oldest_s=now_s - one.waits[0] if one.waits else 0.0,
                in_flight=one.in_flight,
                rate_per_s=_faded(one, now_s),
                idle_s=0.0 if one.waits or one.in_flight else now_s - one.used_s,
            )
            for model, one in self._models.items()
        }

    def _of(self, model: ModelId, now_s: float) -> _Model:
        found = self._models.get(model)
        if found is None:
            while len(self._models) >= MODELS_MAX:
                oldest = min(self._models, key=lambda one: self._models[one].used_s)
                del self._models[oldest]
            found = self._models[model] = _Model(rated_s=now_s, used_s=now_s)
        return found


def _faded(model: _Model, now_s: float) -> float:
    return model.rate_per_s * math.exp((model.rated_s - now_s) / RATE_OVER_S)
