"""The models that servers of others have, as they are now: `[neuron.servers]`.

Each server is asked by a task of its own, at the start and every half minute, sooner
while it is down, and when somebody asks for a name that is not known. A server that is
down holds nobody up: its models are listed with the reason.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio

from helexa.neuron.models.server_look import Down, Look, Seen, Server, seen, unseen
from helexa.protocol.errors import NoCapacity
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles
from helexa.util.upstream import Pool

LOOK_EVERY_S: Final = 30.0
AGAIN_S: Final = 5.0
"""While it is down."""
FRESH_S: Final = 3.0
"""A look that is not older than this is not repeated because somebody asks."""
ASKED_WITHIN_S: Final = 3.0
"""So long somebody who asks for an unknown name waits for the servers to be asked again."""
MISSES_MAX: Final = 2
"""So often a server may be slow or broken before its models are taken for gone."""

log = logging.getLogger(__name__)


class _Watched:
    """One server, and how it was found."""

    def __init__(
        self, server: Server, clock: Callable[[], float], is_own: Callable[[str], bool]
    ) -> None:
        self.server = server
        self.seen = Seen()
        self.looked_at = -math.inf
        self.looked = anyio.Event()
        """Set after the next look."""
        self._wanted = anyio.Event()
        self._clock = clock
        self._look = Look(server, is_own)
        self._misses = 0
        self.trouble = ""
        """Why it cannot be used now."""

    def want(self) -> None:
        """Look soon."""
        self._wanted.set()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Until cancelled."""
        assert self.server.place is not None
        async with Pool(self.server.place.reach, connections_max=4).running() as pool:
            while True:
                self._wanted = anyio.Event()
                before, self.seen = self.seen, await self._found(pool)
                self.looked_at = self._clock()
                looked, self.looked = self.looked, anyio.Event()
                if self.seen != before:
                    changed()
                looked.set()
                with anyio.move_on_after(AGAIN_S if self._misses else LOOK_EVERY_S):
                    await self._wanted.wait()

    async def _found(self, pool: Pool) -> Seen:
        try:
            found = await self._look.at(pool)
        except Down as error:
            self._misses += 1
            if self._misses < MISSES_MAX and not error.is_sure and self.seen.models:
                return self.seen
            self._say(str(error), error.detail)
            return unseen(self.server, self.seen, str(error))
        self._misses = 0
        self._say("")
        return found

    def _say(self, why: str, detail: str = "") -> None:
        if why != self.trouble:
            extra = {"server": self.server.name, "reason": why, "detail": detail}
            if why:
                log.warning("server cannot be used", extra=extra)
            else:
                log.info("server can be used again", extra={"server": self.server.name})
            self.trouble = why


class Served:
    """`watch` keeps it true. On equal names the server that is configured first wins."""

    def __init__(
        self, servers: Sequence[Server], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.models: Mapping[ModelId, ModelFiles] = {}
        self.failed: Mapping[str, str] = {}
        """Name -> why it cannot be served."""
        self._clock = clock
        self.is_own: Callable[[str], bool] = lambda _node: False
        """Whether a cortex is one that this neuron works for; its models are ours already."""
        self._asked = [
            _Watched(one, clock, self._is_own) for one in servers if one.place is not None
        ]
        self._started = [_of_command(one) for one in servers if one.place is None]
        self._changed: Callable[[], None] = _nobody
        self._merge()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Until cancelled; says so after each change."""
        self._changed = changed
        async with anyio.create_task_group() as tasks:
            for one in self._asked:
                tasks.start_soon(one.watch, self._server_changed, name=one.server.name)

    @property
    def troubles(self) -> Mapping[str, str]:
        """By the names of servers that cannot be used: why, also where they have no models here."""
        return {one.server.name: one.trouble for one in self._asked if one.trouble}

    async def look(self) -> None:
        """Return when the servers were asked anew, or when that takes too long."""
        due = [one for one in self._asked if self._clock() - one.looked_at > FRESH_S]
        with anyio.move_on_after(ASKED_WITHIN_S):
            for one, looked in [(one, one.looked) for one in due]:
                one.want()
                await looked.wait()

    def refusal(self, model: str) -> NoCapacity | None:
        """Why one that a server should have cannot be asked for; None where none should."""
        reason = self.failed.get(model)
        if reason is None:
            return None
        return NoCapacity(reason=f"{model!r} cannot be served now: {reason}.", wait_s=5)

    def _is_own(self, node: str) -> bool:
        # Known later than the servers are.
        return self.is_own(node)

    def _server_changed(self) -> None:
        self._merge()
        self._changed()

    def _merge(self) -> None:
        models: dict[ModelId, ModelFiles] = {}
        failed: dict[str, str] = {}
        for each in (*(one.seen for one in self._asked), *self._started):
            for name, files in each.models.items():
                models.setdefault(name, files)
            for broken, reason in each.failed.items():
                failed.setdefault(broken, reason)
        self.models = models
        self.failed = {name: why for name, why in failed.items() if ModelId(name) not in models}


def _of_command(server: Server) -> Seen:
    """What a command serves besides files that lie here is what its settings name."""
    return seen(server, None)


def _nobody() -> None:
    """Nobody watches yet."""
