"""Children in the making: each is timed, can be asked how far it is, and is told of at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread

from helexa.neuron.supervisor.engine import Engine, Lent
from helexa.neuron.supervisor.events import LoadEnded, LoadOutcome, Tell
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.loading import Loading, this_load, warm_share
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelProgress
from helexa.runtime.contract import ReplicaSpec, RuntimeAdapter
from helexa.util.background import background

LaunchAny: TypeAlias = Callable[
    [RuntimeAdapter, ReplicaSpec, Path, Lent], AbstractAsyncContextManager[Engine]
]


class Launches:
    def __init__(
        self,
        launch: LaunchAny,
        run: Path,
        times: LoadTimes,
        *,
        clock: Callable[[], float],
        tell: Tell,
    ) -> None:
        self.times = times
        self._launch = launch
        self._run = run
        self._clock = clock
        self._tell = tell
        self._loading: dict[ModelId, Loading] = {}

    @asynccontextmanager
    async def launched(
        self, adapter: RuntimeAdapter, spec: ReplicaSpec, lent: Lent
    ) -> AsyncIterator[Engine]:
        """`helexa.neuron.supervisor.engine.launched`, timed. Raises OSError."""
        model = spec.files.model
        warm = await anyio.to_thread.run_sync(warm_share, spec.files.weights)
        load = this_load(adapter.name, spec, adapter.footprint(spec), warm)
        loading = self._loading[model] = Loading(load, self.times, self._clock)
        outcome = LoadOutcome.FAILED
        try:
            async with (
                self._launch(adapter, spec, self._run, lent) as engine,
                background() as tasks,
            ):
                loading.pid = engine.process.pid
                tasks.start_soon(loading.watch, name="load in progress")
                yield engine
        except anyio.get_cancelled_exc_class():
            outcome = LoadOutcome.STOPPED
            raise
        finally:
            self._end(loading, outcome)

    async def ready(self, model: ModelId) -> None:
        """It serves: remember how long that took."""
        loading = self._loading.get(model)
        if loading is not None:
            past = loading.ended()
            self._end(loading, LoadOutcome.READY)
            await self.times.note(past)

    def progress(self) -> tuple[ModelProgress, ...]:
        return tuple(
            ModelProgress(model=model, progress=loading.progress())
            for model, loading in sorted(self._loading.items())
        )

    def _end(self, loading: Loading, outcome: LoadOutcome) -> None:
        if not loading.is_over:
            loading.is_over = True
            model = loading.model
            if self._loading.get(model) is loading:
                del self._loading[model]
            self._tell(LoadEnded(model, outcome, self._clock() - loading.begun_at))
