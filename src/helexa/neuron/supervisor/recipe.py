"""How each model is to be served: by which runtime, with which context, slots and arguments.

The words of an operator, of a cortex and of the file itself meet here, the
strongest last: the neuron's settings, the model's own settings, what a cortex
asked for. What a cortex asks is checked before it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from helexa.neuron.cores import Core
from helexa.neuron.settings import (
    ModelSettings,
    NeuronSettings,
    RuntimeSettings,
    ServerSettings,
)
from helexa.neuron.supervisor.placing import PlacementRefused, placement
from helexa.protocol.errors import CapabilityMissing, NoCapacity, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelConfig
from helexa.runtime import arguments, offers
from helexa.runtime.adapters import AdapterUnknown
from helexa.runtime.contract import (
    Ability,
    ArgumentValue,
    Capabilities,
    Installation,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
)

SERVER_RUNTIME: Final = "openai_compatible"
"""That runs what names a server."""

FindAdapter: TypeAlias = Callable[[ModelFiles, str], tuple[RuntimeAdapter, Capabilities] | None]
"""By a name, or the first that serves the files where the name is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    adapter: RuntimeAdapter
    offered: Capabilities
    spec: ReplicaSpec


class Recipes:
    """Kept until the neuron ends: a cortex says again what it wants at each load."""

    def __init__(
        self,
        settings: NeuronSettings,
        find_adapter: FindAdapter,
        *,
        threads: int = 0,
        keys: Mapping[str, str] | None = None,
        machine: Sequence[Core] = (),
    ) -> None:
        """`keys` are those that servers are shown, by the servers' names; `machine` has the cores
        that this neuron may use, none where that is unknown.
        """
        self._machine = machine
        self._settings = settings
        self._keys = keys or {}
        self._find_adapter = find_adapter
        self._threads = threads
        self._asked: dict[ModelId, ModelConfig] = {}

    def ask(self, files: ModelFiles, config: ModelConfig) -> None:
        """From the next load on. Raises RequestRejected and what `of` raises; then nothing changed.

        A config replaces an earlier one whole.
        """
        _check_ranges(config)
        try:
            self._recipe(files, config)
        except arguments.ArgumentRefused as error:
            raise RequestRejected(reason=f"{error}.", field="arguments") from error
        except AdapterUnknown as error:
            raise RequestRejected(reason=f"{error}.", field="runtime") from error
        except PlacementRefused as error:
            raise NoCapacity(reason=f"{files.model!r}: {error}.", wait_s=60) from error
        self._asked[files.model] = config

    def of(self, files: ModelFiles) -> Recipe:
        """Raises CapabilityMissing, or NoCapacity where its settings do not suit its runtime."""
        try:
            return self._recipe(files, self._asked.get(files.model, ModelConfig()))
        except (arguments.ArgumentRefused, AdapterUnknown, PlacementRefused) as error:
            raise NoCapacity(
                reason=f"{files.model!r} cannot be served as it is set: {error}.", wait_s=60
            ) from error

    def keep(self, models: Mapping[ModelId, ModelFiles]) -> None:
        """Forget what was asked for models that are gone."""
        for model in self._asked.keys() - models.keys():
            del self._asked[model]

    def _recipe(self, files: ModelFiles, asked: ModelConfig) -> Recipe:
        settings = self._settings.models.get(files.model, ModelSettings())
        files = _with_dimensions(files, settings)
        runtime = asked.runtime or settings.runtime
        if settings.server and not files.server and runtime in ("", SERVER_RUNTIME):
            runtime = SERVER_RUNTIME
            files = self._for_server(files, settings.server)
        found = self._find_adapter(files, runtime)
        if found is None:
            named = f"the runtime {runtime!r}" if runtime else "any runtime of this neuron"
            raise CapabilityMissing(model=files.model, capability=named)
        adapter, offered = found
        deterministic = _is_deterministic(files, settings, asked, found)
        trained = files.context_tokens_trained or self._settings.context_tokens
        name = (files.server or settings.server) if adapter.name == SERVER_RUNTIME else ""
        server = self._settings.servers.get(name, ServerSettings())
        spec = ReplicaSpec(
            files=files,
            context_tokens=asked.context_tokens
            or settings.context_tokens
            or (files.server and files.context_tokens_trained)
            or min(self._settings.context_tokens, trained),
            slots=asked.slots or settings.slots or server.slots or self._settings.slots,
            installation=self._installation(adapter.name, name),
            deterministic=deterministic,
            threads=self._threads,
            picture_pixels_max=min(
                self._settings.image_pixels_max, self._settings.images_pixels_max
            ),
            request_pixels_max=self._settings.images_pixels_max,
            placement=placement(settings, self._settings, self._machine),
            arguments=_arguments(adapter, settings, asked),
        )
        return Recipe(adapter=adapter, offered=offered, spec=spec)

    def _for_server(self, files: ModelFiles, server: str) -> ModelFiles:
        """Files on this disk that a command is to serve, with what the operator says it can do."""
        offered = self._settings.servers.get(server, ServerSettings()).offers
        return replace(files, told=offers.read(offered or _usual(files)))

    def _installation(self, runtime: str, server: str) -> Installation:
        """The operator's words on where the engine is, as far as they name this one."""
        of_runtime = self._settings.runtimes.get(runtime, RuntimeSettings())
        of_server = self._settings.servers.get(server, ServerSettings())
        return Installation(
            python=of_runtime.python,
            program=of_runtime.program,
            arguments=of_runtime.arguments,
            environment={**of_runtime.environment, **of_server.environment},
            url=of_server.url,
            key=self._keys.get(server, ""),
            command=of_server.command,
            ready_path=of_server.ready_path,
            ready_within_s=of_server.ready_within_s or 0.0,
        )


def _usual(files: ModelFiles) -> tuple[str, ...]:
    """What files are for, where nobody says."""
    if files.pooling:
        return ("rerank",) if files.pooling == "rank" else ("embedding",)
    return offers.USUAL


def _is_deterministic(
    files: ModelFiles,
    settings: ModelSettings,
    asked: ModelConfig,
    found: tuple[RuntimeAdapter, Capabilities],
) -> bool:
    """Raises CapabilityMissing where it is wanted and would mean nothing."""
    wanted = settings.deterministic if asked.deterministic is None else asked.deterministic
    adapter, offered = found
    if wanted and Ability.DETERMINISTIC not in offered.abilities:
        raise CapabilityMissing(
            model=files.model,
            capability="answers that do not depend on what else runs",
            runtime=adapter.name,
            field="deterministic",
        )
    return bool(wanted)


def _with_dimensions(files: ModelFiles, settings: ModelSettings) -> ModelFiles:
    """Raises ArgumentRefused for a length that its vectors do not have."""
    if not settings.dimensions:
        return files
    whole = files.embedding_length
    for length in settings.dimensions:
        if whole and length > whole:
            raise arguments.ArgumentRefused(
                f"dimensions has {length}, and its vectors have {whole} numbers"
            )
    return replace(
        files, dimensions=tuple(dict.fromkeys((*files.dimensions, *settings.dimensions)))
    )


def _arguments(
    adapter: RuntimeAdapter, settings: ModelSettings, asked: ModelConfig
) -> Mapping[str, ArgumentValue]:
    """Name by name the cortex's word; where it names a runtime, its words alone."""
    own = () if asked.runtime else settings.arguments
    return {**arguments.read(adapter, own), **arguments.read(adapter, asked.arguments)}


def _check_ranges(config: ModelConfig) -> None:
    """The bounds of `[neuron.models.NAME]` hold for a cortex, too."""
    for name, least, most in (("context_tokens", 64, 1 << 22), ("slots", 1, 256)):
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise RequestRejected(
                reason=f"{name} is a whole number from {least} to {most}, not {value}.", field=name
            )
