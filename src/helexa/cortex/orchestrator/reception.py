"""One neuron's link, from its first frame to its end.

A reception opens the best data path that both nodes have before it answers the
registration, so that a neuron in the fleet view can always be asked.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Protocol

import anyio

from helexa.cortex.orchestrator.fleet import CapabilitiesAnnounced, FleetEvent, HealthReported
from helexa.mesh.sessions.session import Inbound, Session
from helexa.protocol.errors import NotAllowed, RequestRejected
from helexa.protocol.ids import NodeId, new_request_id
from helexa.protocol.messages import (
    AnnounceCapabilities,
    ExecuteRequest,
    Goodbye,
    Ok,
    ProvisioningResponse,
    Register,
    Registered,
    ReportHealth,
    Unsupported,
    Wire,
)
from helexa.protocol.work import MODELS_PER_NEURON_MAX, DataPath, ModelCapability
from helexa.util.host import host_mark
from helexa.util.upstream import Headers, Pool, Streams, Unix, UpstreamError

REGISTER_WITHIN_S: Final = 10.0
CONNECTIONS_PER_NEURON_MAX: Final = 4_096
WAITING_PER_NEURON_MAX: Final = 1_024
PATH_CHECK_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    health_every_s: float
    lost_after_s: float


@dataclass(frozen=True, slots=True)
class Way:
    """How requests reach one neuron: its pool, and the headers that path wants."""

    kind: str
    pool: Pool
    headers: Headers


class Owner(Protocol):
    """Who keeps the view: the one that a reception reports to."""

    def now_s(self) -> float: ...

    def post(self, event: FleetEvent) -> None: ...

    def enter(self, reception: Reception, register: Register) -> None:
        """A registration replaces what an earlier link of the same neuron said."""
        ...

    def is_current(self, reception: Reception) -> bool: ...

    def leave(self, reception: Reception, reason: str) -> None:
        """Idempotent, and nothing for a reception that a newer link replaced."""
        ...


class Reception:
    """Made per inbound or dialled link; `attend` runs for the life of it."""

    def __init__(self, owner: Owner, timing: Timing, name: str) -> None:
        self.node: NodeId | None = None
        self.session: Session | None = None
        self.way: Way | None = None
        self._owner = owner
        self._timing = timing
        self._name = name
        self._register: Register | None = None
        self._asked = anyio.Event()
        self._opened = anyio.Event()
        self._goodbye = ""

    async def on_message(self, inbound: Inbound) -> Wire | None:
        """The session's inbound handler. HelexaErrors become `Refused` there."""
        message = inbound.message
        match message:
            case Register():
                return await self._on_register(inbound.session, message)
            case AnnounceCapabilities():
                _check_count(message.capabilities)
                self._post(
                    lambda node, now_s: CapabilitiesAnnounced(
                        node=node, capabilities=message.capabilities, now_s=now_s
                    )
                )
                return None
            case ReportHealth():
                self._post(
                    lambda node, now_s: HealthReported(node=node, load=message.load, now_s=now_s)
                )
                return None
            case ProvisioningResponse() | Ok():
                return None
            case Goodbye():
                self._goodbye = message.reason or "said goodbye"
                self._owner.leave(self, self._goodbye)
                return None
            case _:
                return Unsupported(tag=type(message).__name__)

    async def attend(self, session: Session) -> None:
        """Run for the life of the link. Ends it when no registration comes in time."""
        self.session = session
        try:
            with anyio.move_on_after(REGISTER_WITHIN_S):
                await self._asked.wait()
            if self._register is None:
                _log.warning("neuron_never_registered", extra={"node": session.peer})
                return
            async with AsyncExitStack() as stack:
                self.way = await self._open(session, self._register.paths, stack)
                self._opened.set()
                closed = await session.wait_closed()
                reason = self._goodbye or f"link lost: {closed.reason}"
                self._owner.leave(self, reason)
                _log.info("neuron_left", extra={"node": session.peer, "reason": reason})
        finally:
            self._owner.leave(self, "this cortex closed the link")
            self.way = None

    async def _on_register(self, session: Session, message: Register) -> Wire:
        if message.descriptor.node != session.peer:
            raise NotAllowed
        _check_count(message.capabilities)
        if self._register is not None:
            raise RequestRejected("This link is registered already.")
        self._register = message
        self._asked.set()
        await self._opened.wait()
        self.node = message.descriptor.node
        self._owner.enter(self, message)
        assert self.way is not None
        _log.info(
            "neuron_registered",
            extra={
                "node": self.node,
                "called": message.descriptor.name,
                "path": self.way.kind,
                "models": len(message.capabilities),
            },
        )
        return Registered(
            health_every_s=self._timing.health_every_s,
            lost_after_s=self._timing.lost_after_s,
            name=self._name,
        )

    def _post(self, event: Callable[[NodeId, float], FleetEvent]) -> None:
        # A frame of a link that a newer one replaced says nothing about the neuron any more.
        if self.node is not None and self._owner.is_current(self):
            self._owner.post(event(self.node, self._owner.now_s()))

    async def _open(
        self, session: Session, paths: Sequence[DataPath], stack: AsyncExitStack
    ) -> Way:
        """The neuron's Unix socket where this host has it, else streams of the mesh link."""
        for path in paths:
            if path.kind == "unix" and path.host and path.host == host_mark():
                way = await self._open_unix(path, stack)
                if way is not None:
                    return way

        async def open_stream() -> Any:
            return await session.open_data(ExecuteRequest(request=new_request_id()))

        pool = await stack.enter_async_context(_pool(Streams(open_stream)).running())
        return Way("mesh", pool, ())

    async def _open_unix(self, path: DataPath, stack: AsyncExitStack) -> Way | None:
        headers = ((b"x-helexa-token", path.token.encode()),)
        pool = await stack.enter_async_context(_pool(Unix(path.address)).running())
        nonce = secrets.token_hex(16)
        try:
            with anyio.fail_after(PATH_CHECK_S):
                asked = (*headers, (b"x-helexa-nonce", nonce.encode()))
                with await pool.request("GET", "/helexa/v1/path", asked, b"") as response:
                    await response.head()
                    proof = await response.read(1024)
        except (UpstreamError, TimeoutError) as error:
            _log.info("data_path_unusable", extra={"kind": "unix", "reason": str(error)})
            return None
        expected = hmac.new(path.token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        # Whoever answers there must hold this neuron's token: a descriptor could name any socket.
        if response.status != 200 or not hmac.compare_digest(proof.strip(), expected.encode()):
            _log.warning("data_path_unproven", extra={"kind": "unix", "node": self.node})
            return None
        return Way("unix", pool, headers)


def _pool(dial: Any) -> Pool:
    return Pool(
        dial,
        connections_max=CONNECTIONS_PER_NEURON_MAX,
        waiting_max=WAITING_PER_NEURON_MAX,
    )


def _check_count(capabilities: Sequence[ModelCapability]) -> None:
    if len(capabilities) > MODELS_PER_NEURON_MAX:
        raise RequestRejected(
            f"A neuron announces at most {MODELS_PER_NEURON_MAX} models, not {len(capabilities)}."
        )
