"""Who may do what on the links of a neuron."""

from __future__ import annotations

import anyio

from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream
from helexa.neuron.allegiance import Allegiance
from helexa.neuron.announce import Announcer
from helexa.neuron.control import NeuronControl
from helexa.neuron.exchange.exchange import PieceExchange
from helexa.protocol.errors import NotAllowed
from helexa.protocol.messages import ExecuteRequest, Wire
from helexa.util.http_server import HttpServer


class Host:
    """What happens on the links of this neuron: `helexa.mesh.node.Host`.

    The link has proven the peer's key. A peer that this neuron does not work for gets the
    pieces that a cortex admitted it to; where that is nothing, it learns that it is not
    welcome, and nothing else.
    """

    def __init__(
        self,
        announcer: Announcer,
        control: NeuronControl,
        allegiance: Allegiance,
        exchange: PieceExchange,
    ) -> None:
        self.opened = anyio.Event()
        self.streams: HttpServer | None = None
        self.pieces: HttpServer | None = None
        self._exchange = exchange
        self._announcer = announcer
        self._control = control
        self._allegiance = allegiance

    async def on_session(self, session: Session) -> None:
        # A cortex may dial in while the sockets are still being opened.
        await self.opened.wait()
        if self._allegiance.obeys(session):
            await self._announcer.attend(session)
        elif self._exchange.wants(session.peer):
            await self._exchange.attend(session)
        else:
            await session.close(
                CloseCode.DENIED, "this neuron serves only cortexes whose ticket it was given"
            )

    async def on_message(self, inbound: Inbound) -> Wire | None:
        if not self._allegiance.obeys(inbound.session):
            raise NotAllowed
        await self.opened.wait()
        return await self._control.answer(inbound.message)

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        del request  # What is wanted stands in the HTTP request behind it.
        if self._allegiance.obeys(session):
            if self.streams is not None:
                await self.streams.serve_stream(stream)
        elif self.pieces is not None and self._exchange.admits(session.peer):
            await self.pieces.serve_stream(stream, session.peer)
