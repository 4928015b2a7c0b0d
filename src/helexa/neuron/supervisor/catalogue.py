"""What the roster needs to know of the models on disk; `models.store` is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles


class Catalogue(Protocol):
    @property
    def models(self) -> Mapping[ModelId, ModelFiles]: ...

    @property
    def failed(self) -> Mapping[str, str]:
        """Name -> why it cannot be served."""
        ...

    def get(self, model: str) -> ModelFiles:
        """Raises ModelUnknown, or NoCapacity with the reason for one that cannot be served."""
        ...

    async def find(self, model: str) -> tuple[ModelFiles, bool]:
        """`get`, after a look at the disk where the name is new; whether that changed anything."""
        ...

    async def watch(self, changed: Callable[[], None]) -> None:
        """Keep it true until cancelled, and say so after each change."""
        ...

    def digest(self, model: ModelId) -> str:
        """`sha256:...` of the weights, empty until computed."""
        ...

    async def compute_digest(self, model: ModelId) -> None: ...
