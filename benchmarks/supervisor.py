"""A neuron's supervisor over the real runtime, without the neuron's sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from helexa.neuron import budget
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.store import ModelStore
from helexa.neuron.settings import ModelSettings, NeuronSettings, RuntimeSettings
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.roster import Roster, World
from helexa.runtime import adapters


@asynccontextmanager
async def roster(
    folder: Path,
    models: Mapping[str, ModelSettings],
    runtimes: Mapping[str, RuntimeSettings] | None = None,
) -> AsyncIterator[Roster]:
    """Over the models in `folder`, in which it also remembers."""
    memory = budget.Memory(total=1 << 40, available=1 << 40, reserve=0)
    settings = NeuronSettings(
        home=folder, models_dir=folder, models=dict(models), runtimes=dict(runtimes or {})
    )
    digests = Digests(folder / "digests.json")
    store = ModelStore(folder, digests, demo_folder=None)
    run = Path(tempfile.mkdtemp(prefix="hx-"))
    world = World(
        memory=lambda: memory,
        run=run,
        threads=len(os.sched_getaffinity(0)),
        load_times=LoadTimes(folder / "loads.json"),
        find_adapter=partial(adapters.adapter_for, elsewhere=settings.runtimes),
    )
    live = Roster(Undigested(store), settings, world)
    try:
        await store.scan()
        async with digests.running(), live.running():
            yield live
    finally:
        shutil.rmtree(run, ignore_errors=True)


class Undigested:
    """The store, but nothing is hashed: that would fill the page cache behind our back."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def compute_digest(self, model: str) -> None: ...
