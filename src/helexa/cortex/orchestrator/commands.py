"""What neurons are told to do with models, and what they answer.

A command goes over the neuron's own session and is told to those who watch, with its answer.
A neuron's refusal is raised here in its own words; what it does by and by shows in the view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import anyio

from helexa.cortex.orchestrator.news import News, ProvisioningAnswered, ProvisioningSent
from helexa.cortex.orchestrator.observe import Log
from helexa.mesh.sessions.session import AnswerTimeout, PeerRefused, PeerUnsupported, Session
from helexa.mesh.transport import LinkClosed
from helexa.protocol.errors import HelexaError, PeerLost, Relayed, UpstreamFailed, UpstreamTimeout
from helexa.protocol.ids import ModelId, NodeId, new_request_id
from helexa.protocol.messages import (
    CancelPull,
    Drain,
    LoadModel,
    ModelConfig,
    ModelSource,
    PieceHolder,
    ProvisioningResponse,
    PullModel,
    RemoveModel,
    SharePieces,
    UnloadModel,
    Wire,
)

LOAD_WITHIN_S: Final = 1_800.0
TELL_WITHIN_S: Final = 10.0

Command: TypeAlias = LoadModel | UnloadModel | PullModel | CancelPull | RemoveModel
_KINDS: Final[Mapping[type[Command], str]] = {
    LoadModel: "load",
    UnloadModel: "unload",
    PullModel: "pull",
    CancelPull: "cancel",
    RemoveModel: "remove",
}


class Commands:
    """Each method returns with the neuron's answer.

    They raise Relayed for a refusal in the neuron's words, PeerLost, UpstreamTimeout and
    UpstreamFailed.
    """

    def __init__(
        self,
        session: Callable[[NodeId], Session | None],
        called: Callable[[NodeId], str],
        *,
        now_s: Callable[[], float],
        log: Log | None,
    ) -> None:
        """`session` is the one that stands with a neuron, `called` the neuron's name."""
        self._session = session
        self._called = called
        self._now_s = now_s
        self._log = log

    async def load(
        self,
        node: NodeId,
        model: ModelId,
        config: ModelConfig | None = None,
        *,
        timeout_s: float = LOAD_WITHIN_S,
    ) -> ProvisioningResponse:
        """Return when loaded. Raises HelexaError with the neuron's own words when it is not."""
        message = LoadModel(command=new_request_id(), model=model, config=config)
        return await self._provision(node, message, timeout_s)

    async def unload(
        self, node: NodeId, model: ModelId, *, if_idle: bool = False
    ) -> ProvisioningResponse:
        """Return when unloaded; with `if_idle` refused (Relayed) where a request is under way."""
        message = UnloadModel(command=new_request_id(), model=model, if_idle=if_idle)
        return await self._provision(node, message)

    async def pull(
        self,
        node: NodeId,
        model: ModelId,
        source: ModelSource,
        *,
        peers: Sequence[PieceHolder] = (),
        pin: bool = False,
    ) -> ProvisioningResponse:
        """Return when the neuron has begun, or has it already. Raises its refusal."""
        message = PullModel(
            command=new_request_id(), model=model, source=source, peers=tuple(peers), pin=pin
        )
        return await self._provision(node, message, TELL_WITHIN_S)

    async def cancel_pull(self, node: NodeId, model: ModelId) -> ProvisioningResponse:
        message = CancelPull(command=new_request_id(), model=model)
        return await self._provision(node, message, TELL_WITHIN_S)

    async def remove(self, node: NodeId, model: ModelId) -> ProvisioningResponse:
        """Return when its files are gone from that neuron's disk. Raises its refusal."""
        message = RemoveModel(command=new_request_id(), model=model)
        return await self._provision(node, message, TELL_WITHIN_S)

    async def share(self, node: NodeId, model: ModelId, peers: Sequence[PieceHolder]) -> None:
        """These neurons, and no others, may fetch pieces of the model from it."""
        await self._ask(node, SharePieces(model=model, peers=tuple(peers)), TELL_WITHIN_S)

    async def drain(self, node: NodeId, *, enabled: bool) -> None:
        await self._ask(node, Drain(enabled=enabled), TELL_WITHIN_S)

    async def _provision(
        self, node: NodeId, message: Command, timeout_s: float = LOAD_WITHIN_S
    ) -> ProvisioningResponse:
        began_s = self._now_s()
        sent = ProvisioningSent(
            node=node,
            name=self._called(node),
            command=message.command,
            model=message.model,
            kind=_KINDS[type(message)],
        )
        self._tell(sent)
        state = code = reason = ""
        try:
            begun = isinstance(message, PullModel)
            answer = await (self._begun if begun else self._ask)(node, message, timeout_s)
            if not isinstance(answer, ProvisioningResponse):
                raise UpstreamFailed("The neuron answered something else than was asked.")
            state, reason = answer.state.value, answer.reason
            return answer
        except HelexaError as error:
            code, reason = error.code, error.message
            raise
        finally:
            answered = ProvisioningAnswered(
                node=node,
                name=sent.name,
                command=sent.command,
                model=sent.model,
                kind=sent.kind,
                state=state,
                code=code,
                reason=reason,
                took_s=round(self._now_s() - began_s, 3),
            )
            self._tell(answered)

    def _tell(self, news: News) -> None:
        if self._log is not None:
            self._log.emit(news)

    async def _begun(self, node: NodeId, message: Wire, timeout_s: float) -> Wire:
        """As `_ask`, but the first word on how it goes is enough: the rest is in the view."""
        said: list[Wire] = []
        with anyio.CancelScope() as scope:

            def hear(progress: ProvisioningResponse) -> None:
                said.append(progress)
                scope.cancel()

            return await self._ask(node, message, timeout_s, hear)
        return said[0]

    async def _ask(
        self,
        node: NodeId,
        message: Wire,
        timeout_s: float,
        on_progress: Callable[[ProvisioningResponse], None] | None = None,
    ) -> Wire:
        session = self._session(node)
        if session is None:
            raise PeerLost(f"The neuron {self._called(node)} is not connected.")
        try:
            return await session.ask(message, timeout_s=timeout_s, on_progress=on_progress)
        except PeerRefused as refusal:
            raise Relayed(refusal.code, refusal.message, refusal.retry_after_s) from refusal
        except PeerUnsupported as error:
            raise UpstreamFailed("The neuron's helexa is too old for this.") from error
        except AnswerTimeout as error:
            raise UpstreamTimeout(f"The neuron did not answer in {timeout_s:g} s.") from error
        except LinkClosed as error:
            raise PeerLost(f"The neuron {self._called(node)} left.") from error
