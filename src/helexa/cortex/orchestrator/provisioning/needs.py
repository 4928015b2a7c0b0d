"""What a model takes, by the best word there is: memory, disk, and seconds to load."""

from __future__ import annotations

from typing import Final

from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelCapability

FILES_FACTOR: Final = 1.2
"""From the bytes of its files to what a model needs, working memory and context included."""
PROCESS_BYTES: Final = 64 << 20


class Needs:
    """Answers for one moment; each question that concerns many neurons is asked once."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._memory: dict[ModelId, int] = {}
        self._times: dict[ModelId, float] = {}

    def memory_bytes(self, capability: ModelCapability | None, model: ModelId) -> int:
        """By this neuron's word, another's, the entry's, or the size of its files.

        0 where nobody knows: then the neuron is asked, and refuses with the numbers.
        """
        if capability is not None and (capability.memory_bytes or capability.runtime):
            # Who names the runtime has reckoned, and none is a count as well: the model of a
            # server elsewhere takes nothing of the neuron that asks for it.
            return capability.memory_bytes
        found = self._memory.get(model)
        if found is None:
            found = self._memory[model] = self._memory_elsewhere(model)
        return found

    def _memory_elsewhere(self, model: ModelId) -> int:
        told = max((one.memory_bytes for one in self._announced(model)), default=0)
        entry = self._given.catalogue.entry(model)
        files = self.files_bytes(model)
        by_files = int(files * FILES_FACTOR) + PROCESS_BYTES if files else 0
        return told or entry.memory_bytes or by_files

    def files_bytes(self, model: ModelId) -> int:
        """0 where nobody knows."""
        sizes = [file.size for file in self._given.catalogue.entry(model).files]
        if sizes and all(sizes):
            return sum(sizes)
        return max((one.disk_bytes for one in self._announced(model)), default=0)

    def load_s(self, capability: ModelCapability | None, model: ModelId) -> float:
        """By this neuron's word, else the longest of the others'; 0 where nobody knows."""
        if capability is not None and capability.load_s:
            return capability.load_s
        found = self._times.get(model)
        if found is None:
            told = (one.load_s for one in self._announced(model))
            found = self._times[model] = max(told, default=0.0)
        return found

    def _announced(self, model: ModelId) -> list[ModelCapability]:
        view = self._given.view
        return [view.neurons[node].capabilities[model] for node in view.holders.get(model, ())]
