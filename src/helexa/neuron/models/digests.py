"""SHA-256 of weights, computed once per file and remembered by path, size and time.

Hashing reads every byte, so it happens in a thread, one file at a time, and what
was computed survives a restart.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from helexa.neuron.models.listing import File, Listed

_CHUNK: Final = 1 << 20
_REMEMBERED_MAX: Final = 10_000


class Digests:
    """Use inside `running()`: leaving it ends a hash in the making."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, str] = _remembered(memory)
        self._one_at_a_time = anyio.Lock()
        self._stopping = threading.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._stopping.set()

    async def of(self, listed: Listed) -> str:
        """`sha256:` and 64 digits; `sha256sum` says the same for a model of one file.

        Raises OSError when a file cannot be read.
        """
        weights = await self._of_files(listed.parts)
        if listed.projector is None:
            return f"sha256:{weights}"
        projector = await self._of_files((listed.projector,))
        # Two halves make the model: another projector gives other answers.
        both = hashlib.sha256(f"{weights} {projector}".encode()).hexdigest()
        return f"sha256:{both}"

    async def _of_files(self, files: Sequence[File]) -> str:
        key = "\n".join(f"{file.path}\t{file.size}\t{file.mtime_ns}" for file in files)
        async with self._one_at_a_time:
            if key not in self._known:
                found = await anyio.to_thread.run_sync(
                    self._hash, [file.path for file in files], abandon_on_cancel=True
                )
                while len(self._known) >= _REMEMBERED_MAX:
                    self._known.pop(next(iter(self._known)))
                self._known[key] = found
                await anyio.to_thread.run_sync(self._remember)
            return self._known[key]

    def _hash(self, paths: Sequence[Path]) -> str:
        total = hashlib.sha256()
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    if self._stopping.is_set():
                        raise OSError("stopped")
                    total.update(chunk)
        return total.hexdigest()

    def _remember(self) -> None:
        draft = self._memory.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self._known))
        draft.replace(self._memory)


def _remembered(memory: Path) -> dict[str, str]:
    """What cannot be read is only slower: it is computed again."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
