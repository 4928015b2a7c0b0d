"""A neuron's supply of models without the neuron: a folder, its store, and pulls into it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from helexa.neuron.models.digests import Digests
from helexa.neuron.models.store import ModelStore
from helexa.neuron.models.supply.piece import PIECE_BYTES, Exchange
from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.models.supply.records import Record, Stage
from helexa.neuron.models.supply.standing import SupplyStanding
from helexa.neuron.models.supply.supply import pulling, pulls_of
from helexa.neuron.settings import NeuronSettings
from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelSource, SourceFile
from helexa.testing import tiny_gguf
from helexa.util.background import background

PATIENCE_S = 60.0


@dataclass
class Supply:
    folder: Path
    store: ModelStore
    pulls: Pulls
    in_use: set[str] = field(default_factory=set)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, holds: Callable[[], Any]) -> Any:
        """What is true of the pulls now or after one of the changes to come."""
        with anyio.fail_after(PATIENCE_S):
            while not (found := holds()):
                await self._changed.wait()
        return found

    async def pull(self, model: str, source: str, **more: Any) -> Record:
        """Until it is over, however it ends."""
        await self.start(model, source, **more)
        return await self.settled(model)

    async def start(
        self,
        model: str,
        source: str,
        *,
        quantisation: str = "",
        files: tuple[SourceFile, ...] = (),
        **more: Any,
    ) -> bool:
        wanted = ModelSource(source=source, quantisation=quantisation, files=files)
        return await self.pulls.pull(ModelId(model), wanted, **more)

    async def settled(self, model: str) -> Record:
        with anyio.fail_after(PATIENCE_S):
            record = await self.pulls.settled(ModelId(model))
        assert record is not None
        return record

    def absence(self, model: str) -> HelexaError:
        found = SupplyStanding(self.pulls, self.store.disk_bytes).absence(model)
        assert found is not None
        return found

    def standing(self) -> dict[str, Any]:
        standing = SupplyStanding(self.pulls, self.store.disk_bytes)
        return {one.model: one for one in standing.completed(())}

    @property
    def listed(self) -> list[str]:
        return sorted(self.store.models)

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(".pulls/*/*.part"))


@asynccontextmanager
async def supplied(
    folder: Path,
    hub: str = "http://127.0.0.1:1",
    *,
    exchange: Exchange | None = None,
    **more: Any,
) -> AsyncIterator[Supply]:
    wanted: dict[str, Any] = {"disk_reserve": 0, "hub": hub, "pull_stall_s": 5.0, **more}
    settings = NeuronSettings(home=folder.parent, models_dir=folder, **wanted)
    made_folder(folder)
    store = ModelStore(folder, Digests(folder.parent / "digests.json"), demo_folder=None)
    await store.scan()
    pulls = pulls_of(settings, store)
    supply = Supply(folder, store, pulls)
    async with background() as tasks:
        tasks.start_soon(store.watch, supply.changed)
        async with pulling(settings, pulls, lambda model: model in supply.in_use, exchange):
            yield supply


def made_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def tiny(tmp_path: Path, seed: int = 1, **more: Any) -> bytes:
    """The bytes of a model that is read as one."""
    return tiny_gguf.write(tmp_path / f"seed-{seed}" / "x.gguf", seed=seed, **more).read_bytes()


def noise(pieces: float, seed: int = 1) -> bytes:
    """So many pieces of what is no model: a pull does not look inside."""
    return random.Random(seed).randbytes(int(pieces * PIECE_BYTES))


def is_here(record: Record) -> bool:
    assert record.stage is Stage.HERE, record.reason
    return True


def secret_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path
