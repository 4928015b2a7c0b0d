"""Whether the models folder can be served, asked of the parts that will serve it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Final

import anyio

from helexa.cli.finding import Finding
from helexa.config import Config
from helexa.neuron import budget, hardware
from helexa.neuron.hardware import cpu
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.store import ModelStore
from helexa.neuron.supervisor.grants import Machine
from helexa.neuron.supervisor.roster import Roster, World
from helexa.protocol.work import ModelState
from helexa.runtime import adapters
from helexa.util.units import format_bytes

NAMED_MAX: Final = 20
"""Findings about single models; the rest is counted."""


def of_models(config: Config) -> list[Finding]:
    memory = _memory(config)
    room = budget.free(memory, {})
    findings = [Finding("ok", "memory", _words(memory, room))]
    folder = config.neuron.models_dir
    if not folder.exists():
        fix = f"mkdir -p {folder}"
        return [*findings, Finding("ok", "models", f"{folder} is made at the first start", fix)]
    if not os.access(folder, os.R_OK | os.X_OK):
        fix = f"sudo chmod a+rX {folder}"
        return [*findings, Finding("error", "models", f"{folder} cannot be read", fix)]
    store = ModelStore(folder, Digests(config.neuron.home / "digests.json"), demo_folder=None)
    anyio.run(store.scan)
    wrong = [*_unreadable(store), *_unfit(store, config, memory, room)]
    if len(wrong) > NAMED_MAX:
        more = Finding("warning", "models", f"and {len(wrong) - NAMED_MAX} more")
        wrong = [*wrong[:NAMED_MAX], more]
    count = f"{len(store.models)} can be read" if store.models else "no models"
    return [*findings, Finding("ok", "models", f"{folder}: {count}"), *wrong]


def _unreadable(store: ModelStore) -> Iterator[Finding]:
    # A warning: the neuron starts and serves the others.
    for name, reason in store.failed.items():
        fix = "fetch the file again, or remove it"
        yield Finding("warning", "models", f"{name}: {reason}", fix)


def _unfit(
    store: ModelStore, config: Config, memory: budget.Memory, room: int
) -> Iterator[Finding]:
    machine = Machine(devices=hardware.fingerprint().devices)
    settings = config.neuron
    world = World(
        memory=lambda: memory,
        threads=1,
        machine=machine,
        find_adapter=partial(
            adapters.adapter_for, order=settings.runtime_order, elsewhere=settings.runtimes
        ),
    )
    for one in Roster(store, config.neuron, world).capabilities():
        if one.model not in store.models:
            continue
        if one.state is ModelState.FAILED:
            yield Finding("warning", "models", f"{one.model}: {one.reason}")
        elif one.memory_bytes > room:
            yield Finding(
                "warning",
                "models",
                f"{one.model} needs {format_bytes(one.memory_bytes)} with {one.slots} slots of "
                f"{one.context_tokens} tokens; {format_bytes(room)} is free",
                f'[neuron.models."{one.model}"] with smaller context_tokens or slots',
            )


def _memory(config: Config) -> budget.Memory:
    """As the neuron itself counts it, limits of the container included."""
    total = hardware.fingerprint().memory_bytes
    settings = config.neuron
    if settings.memory_limit:
        total = min(total, settings.memory_limit + settings.memory_reserve)
    return budget.Memory(
        total=total,
        available=cpu.memory_available(hardware.SYSTEM_ROOT),
        reserve=settings.memory_reserve,
    )


def _words(memory: budget.Memory, room: int) -> str:
    return (
        f"{format_bytes(room)} for models ({format_bytes(memory.available)} available, "
        f"{format_bytes(memory.reserve)} kept for the rest)"
    )
