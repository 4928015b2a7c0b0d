"""What this neuron tells each cortex: who it is, what it can do, how it stands, that it leaves.

Capabilities go out in full on every change; changes that come together make one
announcement. Health goes out as often as the cortex asked for.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import msgspec

from helexa.mesh.sessions.session import Session
from helexa.mesh.transport import LinkClosed
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.frames import FRAME_BYTES_MAX
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Goodbye,
    Register,
    Registered,
    ReportHealth,
)
from helexa.protocol.work import (
    MODELS_PER_NEURON_MAX,
    DataPath,
    Load,
    ModelCapability,
    NeuronDescriptor,
)
from helexa.util.background import background

REGISTER_WITHIN_S: Final = 15.0
SETTLE_S: Final = 0.02
"""Changes within this time go out together: a load is three of them in a row."""
HEALTH_LEAST_S: Final = 0.1
GOODBYE_WITHIN_S: Final = 1.0
ANNOUNCED_BYTES_MAX: Final = FRAME_BYTES_MAX * 3 // 4
"""The rest of a frame is for the descriptor and the paths."""
_size: Final = msgspec.msgpack.Encoder()

log = logging.getLogger(__name__)


class Paths(Protocol):
    """Ways to this neuron's work socket, made for one cortex and taken back from it."""

    def offer(self, cortex: NodeId) -> tuple[DataPath, ...]: ...

    def withdraw(self, cortex: NodeId, paths: tuple[DataPath, ...]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What there is to tell; each is asked for when it is needed."""

    descriptor: NeuronDescriptor
    load: Callable[[int], Load]
    """By sequence number."""
    ticket: Callable[[], str] = str
    """Where other neurons can dial this one; empty where they cannot."""


class Announcer:
    def __init__(self, roster: Roster, told: Told, paths: Paths) -> None:
        self._roster = roster
        self._told = told
        self._paths = paths
        self._sessions: set[Session] = set()
        self._changes: set[anyio.Event] = set()
        roster.observe(self._changed)

    @property
    def cortexes(self) -> frozenset[NodeId]:
        """Where this neuron is registered now."""
        return frozenset(session.peer for session in self._sessions)

    async def attend(self, session: Session) -> None:
        """Live with one cortex until its session ends. Raises what `Session.ask` raises."""
        paths = self._paths.offer(session.peer)
        try:
            register = Register(
                descriptor=self._told.descriptor,
                capabilities=self._capabilities(),
                paths=paths,
                ticket=self._told.ticket(),
            )
            registered = await session.ask(register, timeout_s=REGISTER_WITHIN_S)
            if not isinstance(registered, Registered):
                await session.close(reason="no answer to a registration")
                return
            log.info("registered", extra={"cortex": session.peer, "called": registered.name})
            self._sessions.add(session)
            async with background() as tasks:
                sequence = itertools.count(1)
                tasks.start_soon(self._announce, session, sequence, name="announce")
                tasks.start_soon(self._report, session, registered, sequence, name="health")
                await session.wait_closed()
        finally:
            self._sessions.discard(session)
            self._paths.withdraw(session.peer, paths)

    async def goodbye(self, reason: str) -> None:
        """Tell all, briefly: one that does not read must not hold a shutdown up."""

        async def say(session: Session) -> None:
            with suppress(LinkClosed):
                await session.tell(Goodbye(reason=reason))

        with anyio.move_on_after(GOODBYE_WITHIN_S, shield=True):
            async with anyio.create_task_group() as tasks:
                for session in self._sessions:
                    tasks.start_soon(say, session)

    def _capabilities(self) -> tuple[ModelCapability, ...]:
        """All that fit into a frame: a cortex refuses a longer list, and then knows nothing."""
        capabilities = self._roster.capabilities()[:MODELS_PER_NEURON_MAX]
        while len(_size.encode(capabilities)) > ANNOUNCED_BYTES_MAX:
            capabilities = capabilities[: len(capabilities) * 3 // 4]
        return capabilities

    def _changed(self) -> None:
        for change in self._changes:
            change.set()

    async def _announce(self, session: Session, sequence: Iterator[int]) -> None:
        # What changed between the registration and here is told at once.
        told = None
        with suppress(LinkClosed):
            while True:
                change = anyio.Event()
                self._changes.add(change)
                try:
                    capabilities = self._capabilities()
                    if capabilities != told:
                        # Whoever places models reckons with both: what is free, told first, is
                        # then never more than what the list of the loaded leaves.
                        await session.tell(ReportHealth(load=self._told.load(next(sequence))))
                        await session.tell(AnnounceCapabilities(capabilities=capabilities))
                        told = capabilities
                    await change.wait()
                finally:
                    self._changes.discard(change)
                await anyio.sleep(SETTLE_S)

    async def _report(
        self, session: Session, registered: Registered, sequence: Iterator[int]
    ) -> None:
        with suppress(LinkClosed):
            while True:
                await session.tell(ReportHealth(load=self._told.load(next(sequence))))
                await anyio.sleep(max(HEALTH_LEAST_S, registered.health_every_s))
