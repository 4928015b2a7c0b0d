"""How each model of this neuron stands, in the words that cortexes and clients are told.

It looks at what the roster keeps and changes none of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from helexa.neuron.supervisor.catalogue import Catalogue
from helexa.neuron.supervisor.grants import Grants
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.loading import this_load
from helexa.neuron.supervisor.pace import Pace
from helexa.neuron.supervisor.recipe import Recipe, Recipes
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.step import Phase
from helexa.neuron.supervisor.weighing import Scales
from helexa.protocol.errors import CapabilityMissing, DoesNotFit, NoCapacity
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.work import ModelCapability, ModelState, ReplicaLoad
from helexa.runtime import installed
from helexa.runtime.contract import ModelFiles

STATES: Final = {
    Phase.STOPPED: ModelState.UNLOADED,
    Phase.STARTING: ModelState.LOADING,
    Phase.WAITING: ModelState.LOADING,
    Phase.READY: ModelState.LOADED,
    Phase.STOPPING: ModelState.UNLOADING,
    Phase.FAILED: ModelState.FAILED,
}


class Standing:
    """The mappings are the roster's own, and seen as they are when somebody asks."""

    def __init__(
        self,
        store: Catalogue,
        recipes: Recipes,
        replicas: Mapping[ModelId, Replica],
        leaving: Collection[ModelId],
        *,
        grants: Grants,
        times: LoadTimes,
        scales: Scales,
    ) -> None:
        self._store = store
        self._recipes = recipes
        self._replicas = replicas
        self._grants = grants
        self._leaving = leaving
        self._times = times
        self._scales = scales
        self.tokens_per_s, self.first_token_s = Pace(), Pace()

    def capabilities(self) -> tuple[ModelCapability, ...]:
        """Every model on disk, the broken ones with their reason."""
        models = self._store.models
        found = [self.capability(files) for _, files in sorted(models.items())]
        found += [
            ModelCapability(model=ModelId(name), state=ModelState.FAILED, reason=reason)
            for name, reason in sorted(self._store.failed.items())
            if is_model_id(name) and name not in models
        ]
        return tuple(found)

    def capability(self, files: ModelFiles) -> ModelCapability:
        try:
            recipe = self._recipes.of(files)
        except CapabilityMissing:
            return _unserved(files, f"no runtime of this neuron serves {_kind(files)}")
        except NoCapacity as error:
            return _unserved(files, error.message)
        replica = self._replicas.get(files.model)
        adapter, spec = recipe.adapter, recipe.spec
        if replica is not None:
            adapter, spec = replica.adapter, replica.spec
        offered = adapter.serves(spec.files) or recipe.offered
        need = adapter.footprint(spec)
        state = self._state(files.model)
        reason = replica.state.reason if replica is not None else ""
        code = replica.state.reason_code if replica is not None else ""
        if state in (ModelState.UNLOADED, ModelState.FAILED) and (never := self._never(recipe)):
            state, (reason, code) = ModelState.FAILED, never
        load_s = self._times.load_s(this_load(adapter.name, spec, need))
        return ModelCapability(
            model=files.model,
            state=state,
            digest=self._store.digest(files.model),
            runtime=adapter.name,
            architecture=files.architecture,
            parameters=files.parameters,
            quantisation=files.quantisation,
            classes=offered.classes,
            modalities=offered.modalities,
            context_tokens=spec.context_tokens,
            slots=spec.slots,
            tools=offered.tools,
            structured_output=offered.structured_output,
            reasoning=offered.reasoning,
            memory_bytes=self._grants.holds(files.model) or self._grants.would_hold(adapter, spec),
            tokens_per_s=round(self.tokens_per_s.of(files.model), 1),
            first_token_s=round(self.first_token_s.of(files.model), 4),
            reason=reason,
            reason_code=code,
            abilities=tuple(sorted(one.value for one in offered.abilities)),
            load_s=round(load_s, 2),
        )

    def _never(self, recipe: Recipe) -> tuple[str, str] | None:
        """Why it could not be loaded, however often somebody tried, with the word for it."""
        lack = installed.missing(recipe.adapter, recipe.spec.installation)
        if lack is not None:
            return lack.detail, lack.reason.value
        if said := self._grants.never(recipe.adapter, recipe.spec):
            return said, DoesNotFit.code
        return None

    def uses_devices(self) -> bool:
        """Whether any model of this neuron would go to a device."""
        if not self._grants.machine.devices:
            return False
        for files in self._store.models.values():
            try:
                recipe = self._recipes.of(files)
            except (CapabilityMissing, NoCapacity):
                continue
            if self._grants.would_lend(recipe.adapter, recipe.spec):
                return True
        return False

    def loads(self) -> tuple[ReplicaLoad, ...]:
        """Those that are loaded, being loaded or asked for."""
        return tuple(
            ReplicaLoad(
                model=model,
                running=replica.gate.running,
                waiting=replica.gate.waiting,
                slots=replica.gate.slots,
                idle_s=round(replica.idle_s, 3),
                queue_s=round(replica.gate.queue_s, 4),
                memory_bytes=self._scales.bytes_of(model),
                kv_share=round(engine.load.kv_share or 0.0, 4) if engine else 0.0,
                cached_tokens=(engine.load.cached_tokens or 0) if engine else 0,
            )
            for model, replica in sorted(self._replicas.items())
            for engine in (replica.engine,)
            if replica.state.phase is not Phase.STOPPED or replica.gate.present_count
        )

    def _state(self, model: ModelId) -> ModelState:
        replica = self._replicas.get(model)
        if replica is None:
            return ModelState.UNLOADED
        state = STATES[replica.state.phase]
        if model in self._leaving and state is ModelState.LOADED:
            return ModelState.DRAINING
        return state


def _kind(files: ModelFiles) -> str:
    return repr(files.architecture) if files.format == "gguf" else f"{files.format} files"


def _unserved(files: ModelFiles, reason: str) -> ModelCapability:
    return ModelCapability(
        model=files.model,
        state=ModelState.FAILED,
        architecture=files.architecture,
        parameters=files.parameters,
        quantisation=files.quantisation,
        reason=reason,
    )
