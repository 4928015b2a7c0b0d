"""What a cortex does with the mesh sessions that reach it: one reception for each neuron's."""

from __future__ import annotations

import logging

from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Reception
from helexa.mesh.session import Inbound, Session
from helexa.mesh.transport import Stream
from helexa.protocol.errors import NotAllowed
from helexa.protocol.messages import ExecuteRequest, Role, Wire

_log = logging.getLogger(__name__)


class Links:
    """The cortex's `helexa.mesh.node.Host`."""

    def __init__(self, neurons: Neurons) -> None:
        self._neurons = neurons
        self._receptions: dict[Session, Reception] = {}

    async def on_session(self, session: Session) -> None:
        if session.hello.role is not Role.NEURON:
            # Membership between cortexes has its own way in, beside this one.
            await session.close(reason="this cortex takes no sessions from other cortexes yet")
            return
        try:
            await self._reception(session).attend(session)
        finally:
            self._receptions.pop(session, None)

    async def on_message(self, inbound: Inbound) -> Wire | None:
        if inbound.session.hello.role is not Role.NEURON:
            raise NotAllowed
        return await self._reception(inbound.session).on_message(inbound)

    async def on_stream(self, session: Session, request: ExecuteRequest, _stream: Stream) -> None:
        # Neurons execute; they do not ask to be executed for.
        _log.warning(
            "stream_refused", extra={"node": session.peer, "request": str(request.request)}
        )

    def _reception(self, session: Session) -> Reception:
        # A message can be handled before the session's own task ran for the first time.
        found = self._receptions.get(session)
        if found is None:
            found = self._receptions[session] = self._neurons.reception()
        return found
