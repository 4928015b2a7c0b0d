"""All models of this neuron under one roof: those on its disk, and those that servers have.

A file that lies here wins over a server's model of the same name: it is what the operator
put there, and it does not depend on anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import anyio

from helexa.neuron.models.served import Served
from helexa.neuron.models.store import ModelStore
from helexa.protocol.errors import ModelUnknown
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles

log = logging.getLogger(__name__)


class Library:
    """`supervisor.catalogue.Catalogue`; of nothing but the store where there are no servers."""

    def __init__(self, store: ModelStore, served: Served) -> None:
        self._store = store
        self._served = served
        self._merged: tuple[object, object, Mapping[ModelId, ModelFiles]] = (None, None, {})
        self._hidden: frozenset[ModelId] = frozenset()

    @property
    def models(self) -> Mapping[ModelId, ModelFiles]:
        own, theirs = self._store.models, self._served.models
        if not theirs:
            return own
        # Both are replaced, never changed, so what was merged holds as long as they do.
        if self._merged[0] is not own or self._merged[1] is not theirs:
            self._merged = own, theirs, {**theirs, **own}
            self._tell(frozenset(own.keys() & theirs.keys()))
        return self._merged[2]

    @property
    def failed(self) -> Mapping[str, str]:
        """Name -> why it cannot be served."""
        found = {**self._served.failed, **self._store.failed}
        return {name: why for name, why in found.items() if ModelId(name) not in self.models}

    def get(self, model: str) -> ModelFiles:
        """Raises ModelUnknown, or NoCapacity with the reason for one that cannot be served."""
        files = self.models.get(ModelId(model))
        if files is not None:
            return files
        try:
            return self._store.get(model)
        except ModelUnknown:
            if (refusal := self._served.refusal(model)) is not None:
                raise refusal from None
            raise

    async def find(self, model: str) -> tuple[ModelFiles, bool]:
        """`get`, after a look where the name is new; whether the disk shows a change."""
        if ModelId(model) in self._served.models and not self._store.holds(ModelId(model)):
            return self.get(model), False
        try:
            return await self._store.find(model)
        except ModelUnknown:
            # A change there is told by whoever watches the servers.
            await self._served.look()
            return self.get(model), False

    async def watch(self, changed: Callable[[], None]) -> None:
        """Keep both true until cancelled, and say so after each change."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._store.watch, changed, name="models folder")
            tasks.start_soon(self._served.watch, changed, name="servers")

    def digest(self, model: ModelId) -> str:
        """Of weights on this disk; what a server has is not known to the bit."""
        return self._store.digest(model)

    async def compute_digest(self, model: ModelId) -> None:
        await self._store.compute_digest(model)

    def _tell(self, hidden: frozenset[ModelId]) -> None:
        for model in hidden - self._hidden:
            log.warning(
                "a server's model is hidden by a file of the same name", extra={"model": model}
            )
        self._hidden = hidden
