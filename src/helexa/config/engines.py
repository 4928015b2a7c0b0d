"""What makes no engine of `[neuron.runtimes.NAME]`, nor a place for a model to run at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from helexa.config.lines import KeyPath
from helexa.config.origin import Origin, Problem
from helexa.neuron.settings import ModelSettings, NeuronSettings, RuntimeSettings
from helexa.runtime import adapters, installed
from helexa.runtime.contract import ReplaceableAdapter

if TYPE_CHECKING:
    from helexa.config.load import Value

Where = Callable[[KeyPath], Origin]


def problems(
    settings: NeuronSettings,
    values: Mapping[str, Value],
    where: Where,
    roles: Collection[str],
) -> Iterator[Problem]:
    """Reasons for which a neuron with these could not do what they say."""
    if not {"neuron", "up"} & set(roles):
        return
    for name, runtime in settings.runtimes.items():
        for key, message in _wrong_with(name, runtime):
            yield _problem(("neuron", "runtimes", name, key), message, where)
    for name, model in settings.models.items():
        if message := _too_many(model):
            yield _problem(("neuron", "models", name, "device_count"), message, where)
    if settings.sandbox != "none":
        # Brings what starts processes; most configurations ask for no sandbox.
        from helexa.neuron.supervisor import sandbox

        try:
            sandbox.check(settings.sandbox)
        except sandbox.SandboxUnusable as error:
            yield Problem(values["neuron.sandbox"].origin, "", str(error))


def _problem(path: KeyPath, message: str, where: Where) -> Problem:
    return Problem(where(path), ".".join(map(str, path)), message)


def _wrong_with(name: str, runtime: RuntimeSettings) -> Iterator[tuple[str, str]]:
    if runtime.program is not None and not isinstance(adapters.load(name), ReplaceableAdapter):
        yield "program", f"the runtime {name} takes none; python names its environment"
    elif runtime.program is not None and (flaw := installed.flaw_of_program(runtime.program)):
        yield "program", flaw
    if runtime.python is not None and (flaw := installed.flaw_of_program(runtime.python)):
        yield "python", flaw


def _too_many(model: ModelSettings) -> str:
    if model.devices is None or (model.device_count or 0) <= len(model.devices):
        return ""
    return f"is {model.device_count}, and devices names {len(model.devices)}"
