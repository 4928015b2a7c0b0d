"""Joining by a ticket, step by step, each with a time limit and a word on what to try.

    read the ticket            is it one, and does it offer a transport that is open here
    reach it by X at Y         one step an address, all at once
    check its key              whoever answers proves to be the node of the ticket
    agree on a version         the handshake
    be admitted                its operator's rules: let in, denied, or waiting for a person
    learn who is there         the first other members

What a step does comes in as a function. What can be wrong with the other side -
gone, silent, hostile, another node - ends as a step that failed, in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import anyio

from helexa.mesh.discovery import advice
from helexa.mesh.discovery._reach import Dial, Race, within
from helexa.mesh.discovery.join_report import JoinReport, Outcome, Step, as_json, step_of
from helexa.mesh.sessions.asks import AnswerTimeout, PeerRefused, PeerUnsupported
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed, VersionMismatch
from helexa.mesh.ticket import Ticket, TicketMalformed
from helexa.mesh.transport import DialFailed, LinkClosed
from helexa.protocol.ids import NodeId

REACH_S: Final = 5.0
CONNECT_S: Final = 8.0
ADMIT_S: Final = 8.0
SYNC_S: Final = 10.0
TRIES_MAX: Final = 16
"""Addresses of one ticket that are dialled; the best come first in it."""

_VERDICTS: Final[Mapping[int | None, Outcome]] = {
    int(CloseCode.DENIED): Outcome.DENIED,
    int(CloseCode.PENDING): Outcome.PENDING,
}

T = TypeVar("T")

__all__ = [
    "Admitted",
    "Connect",
    "Dial",
    "JoinReport",
    "OnStep",
    "Outcome",
    "Reply",
    "Step",
    "Synced",
    "as_json",
    "join",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other cortex makes of this one: OK, DENIED, PENDING or FAILED."""

    outcome: Outcome
    detail: str = ""
    clock_ahead_s: float | None = None
    """This node's clock less the other's, where that is what it objects to."""


class Connect(Protocol):
    """How a session is made: `MeshNode.connect`."""

    async def __call__(self, ticket: Ticket, *, timeout_s: float) -> int:
        """Have a session with the node; the protocol version that it speaks.

        Raises DialFailed, HandshakeFailed, LinkClosed.
        """
        ...


class Admitted(Protocol):
    """How the other cortex's verdict is learned."""

    async def __call__(self, node: NodeId) -> Reply:
        """Wait until the node said whether it lets this one in.

        Raises LinkClosed, AnswerTimeout, PeerRefused, PeerUnsupported.
        """
        ...


class Synced(Protocol):
    """How the first news of the mesh is awaited."""

    async def __call__(self, node: NodeId) -> int:
        """Wait for the first members learned of it; how many are known. Raises as `Admitted`."""
        ...


OnStep = Callable[[Step], None]


async def join(
    ticket_text: str,
    dial: Dial,
    connect: Connect,
    admitted: Admitted,
    synced: Synced,
    *,
    own: NodeId,
    transports: Collection[str],
    on_step: OnStep = lambda _step: None,
    reach_s: float = REACH_S,
    connect_s: float = CONNECT_S,
    admit_s: float = ADMIT_S,
    sync_s: float = SYNC_S,
) -> JoinReport:
    """Join the mesh of the cortex whose ticket this is.

    `own` is this node's id and `transports` are those open here. Every step is
    told to `on_step` when it ended and is in the report again. Ends within
    about the sum of the four limits, in seconds, and raises nothing for
    whatever the other side does.
    """
    joining = _Joining(own, on_step)
    ticket = joining.read(ticket_text, transports)
    joined = (
        ticket is not None
        and await joining.reach(ticket, transports, dial, reach_s)
        and await joining.connect(ticket, connect, connect_s)
        and await joining.be_admitted(ticket, admitted, admit_s)
        and await joining.sync(ticket, synced, sync_s)
    )
    return JoinReport(steps=tuple(joining.steps), joined=joined)


class _Joining:
    def __init__(self, own: NodeId, on_step: OnStep) -> None:
        self.steps: list[Step] = []
        self._own = own
        self._on_step = on_step
        self._since_s = anyio.current_time()

    def read(self, text: str, transports: Collection[str]) -> Ticket | None:
        name = "read the ticket"
        try:
            ticket = Ticket.parse(text)
        except TicketMalformed as error:
            self._failed(name, str(error), f"copy it again; {advice.NEW_TICKET}")
            return None
        if ticket.node == self._own:
            self._failed(name, "it is this node's own", "take it to another cortex")
            return None
        offered = [each for each, some in ticket.addresses.items() if some]
        if not set(offered) & set(transports):
            detail = f"it offers {', '.join(offered) or 'no transport'}; open here: "
            fix = "open one of its transports here: [mesh] transports"
            self._failed(name, detail + ", ".join(transports), fix)
            return None
        self._end(name, Outcome.OK, f"of node {ticket.node[:10]}")
        return ticket

    async def reach(
        self, ticket: Ticket, transports: Collection[str], dial: Dial, limit_s: float
    ) -> bool:
        ways = [
            (each, address)
            for each, some in ticket.addresses.items()
            if each in transports
            for address in some
        ]
        race = Race(ticket.node, dial, limit_s)
        steps = await race.run(ways[:TRIES_MAX])
        for step in steps:
            self._tell(step)
        self._since_s = anyio.current_time()
        name = "check its key"
        if race.reached:
            self._end(name, Outcome.OK, f"it holds {ticket.node[:10]}")
        elif any(advice.is_wrong_key(step.detail) for step in steps):
            self._failed(name, "who answers is not the node of the ticket", advice.on_wrong_key())
        return race.reached

    async def connect(self, ticket: Ticket, connect: Connect, limit_s: float) -> bool:
        name = "agree on a version"
        try:
            version = await within(limit_s, connect(ticket, timeout_s=limit_s))
        except VersionMismatch as error:
            self._failed(name, str(error), advice.on_versions(str(error)))
        except HandshakeFailed as error:
            # Whoever says nothing gets another advice than who says what no node says.
            silent = "within" in str(error)
            self._failed(name, str(error), advice.SILENT if silent else advice.on_close(""))
        except DialFailed as error:
            self._failed(name, str(error), advice.on_close(str(error)))
        except LinkClosed as closed:
            # A door may be shut before the first word.
            self._closed("be admitted" if closed.code in _VERDICTS else name, closed)
        except TimeoutError:
            self._failed(name, f"not done within {limit_s:g} s", advice.SILENT)
        else:
            self._end(name, Outcome.OK, f"version {version}")
            return True
        return False

    async def be_admitted(self, ticket: Ticket, admitted: Admitted, limit_s: float) -> bool:
        name = "be admitted"
        reply = await self._ask(name, limit_s, admitted(ticket.node), advice.SILENT)
        if reply is None:
            return False
        fix = self._fix(reply.outcome, reply.detail)
        if reply.clock_ahead_s is not None:
            fix = advice.on_clock(reply.clock_ahead_s)
        self._end(name, reply.outcome, reply.detail, fix)
        return reply.outcome is Outcome.OK

    async def sync(self, ticket: Ticket, synced: Synced, limit_s: float) -> bool:
        name = "learn who is there"
        members = await self._ask(name, limit_s, synced(ticket.node), advice.NO_MEMBERS)
        if members is None:
            return False
        self._end(name, Outcome.OK, f"{members} members known")
        return True

    async def _ask(self, name: str, limit_s: float, answer: Awaitable[T], silent: str) -> T | None:
        try:
            return await within(limit_s, answer)
        except (TimeoutError, AnswerTimeout):
            self._failed(name, f"no answer within {limit_s:g} s", silent)
        except LinkClosed as closed:
            self._closed(name, closed)
        except (PeerRefused, PeerUnsupported) as error:
            self._failed(name, str(error), advice.on_close(str(error)))
        return None

    def _closed(self, name: str, closed: LinkClosed) -> None:
        outcome = _VERDICTS.get(closed.code, Outcome.FAILED)
        self._end(name, outcome, closed.reason, self._fix(outcome, closed.reason))

    def _fix(self, outcome: Outcome, detail: str) -> str:
        match outcome:
            case Outcome.OK:
                return ""
            case Outcome.DENIED:
                return advice.on_denied()
            case Outcome.PENDING:
                return advice.on_pending(self._own)
            case _:
                return advice.on_close(detail)

    def _failed(self, name: str, detail: str, fix: str) -> None:
        self._end(name, Outcome.FAILED, detail, fix)

    def _end(self, name: str, outcome: Outcome, detail: str, fix: str = "") -> None:
        now_s = anyio.current_time()
        self._tell(step_of(name, outcome, now_s - self._since_s, detail, fix))
        self._since_s = now_s

    def _tell(self, step: Step) -> None:
        self.steps.append(step)
        self._on_step(step)
