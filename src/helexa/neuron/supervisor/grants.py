"""The memory that each replica was promised, counted from before it starts until it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from helexa.neuron import budget
from helexa.neuron.supervisor.replica import Replica
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import Footprint


class Grants:
    def __init__(self, memory: Callable[[], budget.Memory]) -> None:
        self.memory = memory
        self._bytes: dict[ModelId, int] = {}

    @property
    def by_model(self) -> Mapping[ModelId, int]:
        return self._bytes

    def give(self, replica: Replica) -> None:
        """Raises DoesNotFit. One that has a grant keeps it."""
        model = replica.spec.files.model
        if model not in self._bytes:
            need = replica.adapter.footprint(replica.spec)
            self._bytes[model] = budget.admit(model, need, self.memory(), self._bytes)

    def check(self, model: ModelId, need: Footprint, *, freed: int) -> None:
        """Whether it would fit once the replica that it has now is gone. Raises DoesNotFit."""
        others = {other: size for other, size in self._bytes.items() if other != model}
        budget.admit(model, need, budget.returned(self.memory(), freed), others)

    def settle(self, replica: Replica) -> None:
        """Take it back where nothing came of it."""
        if not replica.state.holds_memory and not replica.is_asked:
            self._bytes.pop(replica.spec.files.model, None)
