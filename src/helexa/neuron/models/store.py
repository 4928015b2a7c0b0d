"""The models on disk, as they are now: listed by name, described by their metadata.

The folder is looked at every few seconds and when somebody asks for a name that
is not known. Files are opened only when their size or time changed. What cannot
be read is kept with the reason, because a model that is silently missing costs
its operator an evening.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from helexa.neuron.models import gguf, safetensors
from helexa.neuron.models.describe import described
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.listing import Listed, list_models
from helexa.protocol.errors import HelexaError, ModelUnknown, NoCapacity
from helexa.protocol.ids import ModelId, is_model_id
from helexa.runtime.contract import ModelFiles

SCAN_EVERY_S: Final = 2.0
_RESCAN_AFTER_S: Final = 0.5
DEMO_FOLDER: Final = Path(__file__).parent / "demo"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Contents:
    models: Mapping[ModelId, ModelFiles] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name -> why it cannot be served."""


@dataclass(frozen=True, slots=True)
class _Seen:
    listed: Listed
    files: ModelFiles | None
    reason: str


class ModelStore:
    """`scan` once before use; `watch` keeps it true."""

    def __init__(self, folder: Path, digests: Digests, *, demo_folder: Path | None) -> None:
        self._contents = _Contents()
        self._folder = folder
        self._demo_folder = demo_folder
        self._digests = digests
        self._seen: dict[ModelId, _Seen] = {}
        self._scanning = anyio.Lock()
        self._clock = time.monotonic
        self._scan_due = 0.0
        self._digest_of: dict[ModelId, tuple[Listed, str]] = {}
        self._refreshed = anyio.Event()
        self.absence: Callable[[str], HelexaError | None] = _unexplained
        """Why a model is not here, where somebody knows it."""

    @property
    def models(self) -> Mapping[ModelId, ModelFiles]:
        return self._contents.models

    @property
    def failed(self) -> Mapping[str, str]:
        """Name -> why it cannot be served."""
        return self._contents.failed

    async def scan(self) -> bool:
        """Look at the folder; returns whether anything changed."""
        async with self._scanning:
            seen, refused = await anyio.to_thread.run_sync(self._look)
            self._seen = seen
            models = {name: each.files for name, each in seen.items() if each.files is not None}
            failed = {str(name): each.reason for name, each in seen.items() if each.reason}
            found = _Contents(models, {**refused, **failed})
            changed = found != self._contents
            self._contents = found
        if changed:
            log.info("models", extra={"found": len(models), "failed": len(found.failed)})
        return changed

    async def watch(self, changed: Callable[[], None]) -> None:
        """Scan every few seconds, and when asked to, until cancelled."""
        while True:
            with anyio.move_on_after(SCAN_EVERY_S):
                await self._refreshed.wait()
            is_asked = self._refreshed.is_set()
            if is_asked:
                self._refreshed = anyio.Event()
            if await self.scan() or is_asked:
                changed()

    def refresh(self) -> None:
        """Look soon, and tell whoever watches, whether the folder changed or what is said of it."""
        self._refreshed.set()

    def holds(self, model: ModelId) -> bool:
        """Whether there are files of that name, good or bad."""
        return model in self.models or model in self.failed

    def disk_bytes(self, model: ModelId) -> int:
        """Of its files; 0 where there are none."""
        seen = self._seen.get(model)
        return seen.listed.size if seen is not None else 0

    def get(self, model: str) -> ModelFiles:
        """Raises ModelUnknown, NoCapacity with the reason for a file that cannot be served, or
        what `absence` says.
        """
        files = self.models.get(ModelId(model))
        if files is not None:
            return files
        if (absence := self.absence(model)) is not None:
            raise absence
        reason = self.failed.get(model)
        if reason is not None:
            raise NoCapacity(reason=f"{model!r} cannot be served: {reason}.", wait_s=60)
        raise ModelUnknown(model=model)

    async def find(self, model: str) -> tuple[ModelFiles, bool]:
        """`get`, after another look at the folder where the name is new.

        The flag says whether that look changed anything.
        """
        known = model in self.models or not is_model_id(model)
        if known or self._clock() < self._scan_due:
            return self.get(model), False
        # Asking for names that do not exist must not keep the disk busy.
        self._scan_due = self._clock() + _RESCAN_AFTER_S
        changed = await self.scan()
        return self.get(model), changed

    def digest(self, model: ModelId) -> str:
        """Empty until `compute_digest` has returned for the files as they are."""
        listed, digest = self._digest_of.get(model, (None, ""))
        seen = self._seen.get(model)
        return digest if seen is not None and seen.listed == listed else ""

    async def compute_digest(self, model: ModelId) -> None:
        """Returns without one where the files are gone."""
        seen = self._seen.get(model)
        if seen is None:
            return
        try:
            digest = await self._digests.of(seen.listed)
        except OSError as error:
            log.warning("no digest", extra={"model": model, "reason": str(error)})
            return
        self._digest_of[model] = (seen.listed, digest)

    def _look(self) -> tuple[dict[ModelId, _Seen], dict[str, str]]:
        listed: dict[ModelId, Listed] = {}
        refused: dict[str, str] = {}
        # The operator's folder comes last: it wins on equal names.
        for folder in (self._demo_folder, self._folder):
            if folder is None:
                continue
            try:
                listing = list_models(folder)
            except OSError as error:
                refused[folder.name] = f"the folder cannot be read: {error.strerror or error}"
                continue
            listed.update(listing.models)
            refused.update(listing.refused)
        seen = {name: self._looked_at(name, each) for name, each in sorted(listed.items())}
        return seen, refused

    def _looked_at(self, model: ModelId, listed: Listed) -> _Seen:
        before = self._seen.get(model)
        if before is not None and before.listed == listed:
            return before
        try:
            return _Seen(listed, _described(model, listed), "")
        except gguf.ModelUnreadable as error:
            return _Seen(listed, None, str(error))


def _unexplained(model: str) -> None:
    del model


def _described(model: ModelId, listed: Listed) -> ModelFiles:
    if listed.folder is not None:
        return safetensors.described(model, listed.folder, listed.parts)
    # Every part is read to its end of data, because a missing end shows nowhere else.
    parts = [gguf.read(file.path) for file in listed.parts]
    if parts[0].text("general.architecture") in ("", "clip"):
        raise gguf.ModelUnreadable("it holds no language model (its architecture is not named)")
    projector = gguf.read(listed.projector.path) if listed.projector is not None else None
    return described(
        model,
        listed.parts[0].path,
        parts[0],
        weights_bytes=sum(part.file_bytes for part in parts),
        parameters=sum(part.parameters for part in parts),
        matrices=sum((part.matrices for part in parts), gguf.Matrices()),
        projector=listed.projector.path if listed.projector else None,
        projector_bytes=listed.projector.size if listed.projector else 0,
        projector_metadata=projector,
    )
