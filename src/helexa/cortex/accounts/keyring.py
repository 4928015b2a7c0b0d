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
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from helexa.cortex.settings import LimitsSettings

if TYPE_CHECKING:
    # For the type alone: this import is what the file puts off.
    from helexa.cortex.accounts.keys import Keys

LIMITS: Final = LimitsSettings()


class Keyring:
    """Made by `keyring`."""

    def __init__(self, home: Path, defaults: LimitsSettings, stack: ExitStack) -> None:
        self._home = home
        self._defaults = defaults
        self._stack = stack
        self._keys: Keys | None = None

    async def opened(self) -> Keys:
        """The keys; the first call opens them. Raises StoreUnusable."""
        if self._keys is None:
            # In a thread: peers would take a third of a second of silence for a bad link.
            keys = await to_thread.run_sync(importlib.import_module, "helexa.cortex.accounts.keys")
            # Nothing is awaited between this look and the opening, so it is opened once.
            if self._keys is None:
                self._keys = self._stack.enter_context(keys.open_keys(self._home, self._defaults))
        return self._keys


@contextmanager
def keyring(home: Path, defaults: LimitsSettings = LIMITS) -> Iterator[Keyring]:
    """The keys of the cortex whose own folder is `home`, closed with the block.

    `defaults` hold for keys that say nothing else.
    """
    with ExitStack() as stack:
        yield Keyring(home, defaults, stack)
