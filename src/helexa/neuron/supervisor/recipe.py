"""How each model is to be served: by which runtime, with which context and slots.

The words of an operator, of a cortex and of the file itself meet here, the
strongest last: the neuron's settings, the model's own settings, what a cortex
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from helexa.neuron.settings import ModelSettings, NeuronSettings
from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelConfig
from helexa.runtime.contract import Capabilities, ModelFiles, ReplicaSpec, RuntimeAdapter

FindAdapter: TypeAlias = Callable[[ModelFiles], tuple[RuntimeAdapter, Capabilities] | None]


class Recipes:
    """Kept until the neuron ends: a cortex says again what it wants at each load."""

    def __init__(
        self, settings: NeuronSettings, find_adapter: FindAdapter, *, threads: int = 0
    ) -> None:
        self._settings = settings
        self._find_adapter = find_adapter
        self._threads = threads
        self._asked: dict[ModelId, ModelConfig] = {}

    def ask(self, files: ModelFiles, config: ModelConfig) -> None:
        """From the next load on."""
        self._asked[files.model] = config

    def forget_all_but(self, models: Mapping[ModelId, ModelFiles]) -> None:
        """What was asked for models that are gone."""
        for model in self._asked.keys() - models.keys():
            del self._asked[model]

    def offered(self, files: ModelFiles) -> tuple[RuntimeAdapter, Capabilities] | None:
        """None where no runtime of this neuron serves it."""
        return self._find_adapter(files)

    def adapter(self, files: ModelFiles) -> RuntimeAdapter:
        """Raises CapabilityMissing."""
        found = self.offered(files)
        if found is None:
            raise CapabilityMissing(model=files.model, capability="any runtime of this neuron")
        return found[0]

    def spec(self, files: ModelFiles) -> ReplicaSpec:
        settings = self._settings.models.get(files.model, ModelSettings())
        asked = self._asked.get(files.model, ModelConfig())
        trained = files.context_tokens_trained or self._settings.context_tokens
        return ReplicaSpec(
            files=files,
            context_tokens=asked.context_tokens
            or settings.context_tokens
            or min(self._settings.context_tokens, trained),
            slots=asked.slots or settings.slots or self._settings.slots,
            deterministic=bool(
                settings.deterministic if asked.deterministic is None else asked.deterministic
            ),
            threads=self._threads,
        )
