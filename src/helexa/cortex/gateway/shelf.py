"""Where responses are kept for the clients that asked for them: what the gateway needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helexa.cortex.store.kept import Kept


class Shelf(Protocol):
    """Every account has its own; one never sees that there is another's."""

    def offer(self, kept: Kept) -> bool:
        """Whether it will be kept. Takes microseconds, and can be read from then on."""
        ...

    async def line(self, account: str, response_id: str) -> Sequence[Kept]:
        """The whole conversation up to this response, the oldest first.

        Empty where any of it is not kept, or no longer. Raises HelexaError where that cannot
        be found out now, or where it is too much.
        """
        ...

    async def one(self, account: str, response_id: str) -> Kept | None:
        """Raises HelexaError where that cannot be found out now."""
        ...

    async def remove(self, account: str, response_id: str) -> bool:
        """False where there is none. Raises HelexaError where that cannot be done now."""
        ...
