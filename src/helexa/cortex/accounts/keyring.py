"""The keys of a cortex that may never be asked for one.

The database and what speaks to it are 14 MB of memory and a third of a second of
imports. A gateway opens them before it serves; a cortex with an orchestrator alone
only when its operator first lists or makes a key.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

if TYPE_CHECKING:
    # For the type alone: this import is what the file puts off.
    from helexa.cortex.accounts.keys import Keys


class Keyring:
    """Made by `keyring`."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._home = home
        self._stack = stack
        self._keys: Keys | None = None

    async def opened(self) -> Keys:
        """The keys; the first call opens them. Raises StoreUnusable."""
        if self._keys is None:
            # In a thread: peers would take a third of a second of silence for a bad link.
            keys = await to_thread.run_sync(importlib.import_module, "helexa.cortex.accounts.keys")
            # Nothing is awaited between this look and the opening, so it is opened once.
            if self._keys is None:
                self._keys = self._stack.enter_context(keys.open_keys(self._home))
        return self._keys


@contextmanager
def keyring(home: Path) -> Iterator[Keyring]:
    """The keys of the cortex whose own folder is `home`, closed with the block."""
    with ExitStack() as stack:
        yield Keyring(home, stack)
