"""One link out of several transports: the best path that both nodes have.

Transports are tried in this node's order, each with a head start before the
next joins in; the first link wins. A path that died in use stands at the end of
the order for a while, so that a node whose TCP is cut comes back over QUIC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, Link, LinkClosed, Transport
from helexa.protocol.ids import NodeId

HEAD_START_S: Final = 0.3
"""A handshake within one continent is done by then; a firewall that drops says nothing."""
DISTRUST_S: Final = 30.0
DISTRUSTED_MAX: Final = 4_096


class Dialler:
    """Remembers nothing but which paths died a moment ago."""

    def __init__(
        self, transports: Mapping[str, Transport], *, head_start_s: float = HEAD_START_S
    ) -> None:
        self._transports = transports
        self._head_start_s = head_start_s
        self._distrusted: dict[tuple[NodeId, str], float] = {}

    async def dial(self, ticket: Ticket, *, timeout_s: float) -> tuple[str, Link]:
        """The transport's name and the link. Raises DialFailed within about `timeout_s`.

        The text names the reason of each transport that was tried.
        """
        names = self._order(ticket)
        if not names:
            offered, ours = ", ".join(ticket.addresses) or "none", ", ".join(self._transports)
            raise DialFailed(f"the ticket offers the transports {offered}; open here: {ours}")
        race = _Race(ticket, timeout_s)
        async with anyio.create_task_group() as tasks:
            for name in names:
                failed = anyio.Event()
                tasks.start_soon(race.run, name, self._transports[name], tasks, failed)
                if name != names[-1]:
                    with anyio.move_on_after(self._head_start_s):
                        await failed.wait()
        if race.won is None:
            raise DialFailed("; ".join(f"{name}: {race.reasons[name]}" for name in names))
        return race.won

    def distrust(self, peer: NodeId, transport: str) -> None:
        """The link over this transport died without a goodbye: try the others first now."""
        if len(self._distrusted) >= DISTRUSTED_MAX:
            self._distrusted.clear()
        self._distrusted[peer, transport] = anyio.current_time() + DISTRUST_S

    def _order(self, ticket: Ticket) -> list[str]:
        now_s = anyio.current_time()
        both = [name for name in self._transports if ticket.addresses.get(name)]
        return sorted(both, key=lambda name: self._distrusted.get((ticket.node, name), 0.0) > now_s)


class _Race:
    def __init__(self, ticket: Ticket, timeout_s: float) -> None:
        self.won: tuple[str, Link] | None = None
        self.reasons: dict[str, str] = {}
        self._ticket = ticket
        self._timeout_s = timeout_s

    async def run(
        self, name: str, transport: Transport, tasks: TaskGroup, failed: anyio.Event
    ) -> None:
        addresses = self._ticket.addresses[name]
        try:
            link = await transport.dial(self._ticket.node, addresses, timeout_s=self._timeout_s)
        except (DialFailed, LinkClosed) as error:
            self.reasons[name] = str(error)
            failed.set()
            return
        if self.won is None:
            self.won = name, link
            tasks.cancel_scope.cancel()
        else:
            with anyio.CancelScope(shield=True):
                await link.close(reason="another path was faster")
