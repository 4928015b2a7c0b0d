"""The mesh's part of the control API: what `helexa mesh` calls, below /api/v1/mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.api.join_answer import StepByStep
from helexa.cortex.orchestrator.mesh_control import (
    Decision,
    InviteWish,
    MeshControl,
    MeshStatus,
    PeerRow,
    PendingRow,
    Ping,
)
from helexa.cortex.orchestrator.who import decided_about, one_node
from helexa.mesh.admission.gatekeeper import WhoUnclear
from helexa.protocol.errors import PeerLost, PeerUnknown, RequestRejected, UpstreamTimeout

TICKET_CHARS_MAX: Final = 8_192
WHO_CHARS_MAX: Final = 256
SETTINGS_MAX: Final = 64

Who = Annotated[str, Meta(min_length=1, max_length=WHO_CHARS_MAX)]
Level = Literal["known", "trusted"]


class Join(Wish, frozen=True, kw_only=True):
    ticket: Annotated[str, Meta(max_length=TICKET_CHARS_MAX)]


class MakeTicket(Wish, frozen=True, kw_only=True):
    invite: InviteWish | None = None


class About(Wish, frozen=True, kw_only=True):
    who: Who


class Approve(Wish, frozen=True, kw_only=True):
    who: Who
    trust: Level = "known"


class TrustTo(Wish, frozen=True, kw_only=True):
    who: Who
    level: Level = "trusted"


class ChangePolicy(Wish, frozen=True, kw_only=True):
    set: Annotated[dict[str, Any], Meta(max_length=SETTINGS_MAX)] = {}  # noqa: RUF012 - msgspec copies it
    unset: Annotated[list[str], Meta(max_length=SETTINGS_MAX)] = []  # noqa: RUF012


class PeerList(msgspec.Struct, frozen=True, kw_only=True):
    peers: Sequence[PeerRow]


class PendingList(msgspec.Struct, frozen=True, kw_only=True):
    pending: Sequence[PendingRow]


class MeshTicket(msgspec.Struct, frozen=True, kw_only=True):
    ticket: str


class Left(msgspec.Struct, frozen=True, kw_only=True):
    left: bool


class PolicySetting(msgspec.Struct, frozen=True, kw_only=True):
    value: Any
    origin: str
    accepted: str


class MeshPolicy(msgspec.Struct, frozen=True, kw_only=True):
    policy: Mapping[str, PolicySetting]


@dataclass(frozen=True, slots=True)
class MeshCalls:
    mesh: MeshControl

    async def show(self, asked: Asked[Nothing, Nothing]) -> MeshStatus:  # noqa: ARG002 - a call's shape
        return self.mesh.status()

    async def peers(self, asked: Asked[Nothing, Nothing]) -> PeerList:  # noqa: ARG002
        return PeerList(peers=self.mesh.peers())

    async def join(self, asked: Asked[Nothing, Join]) -> Response:
        ticket = asked.body.ticket
        return StepByStep(lambda on_step: self.mesh.join(ticket, on_step))

    async def leave(self, asked: Asked[Nothing, Nothing]) -> Left:  # noqa: ARG002
        await self.mesh.leave()
        return Left(left=True)

    async def ticket(self, asked: Asked[Nothing, MakeTicket]) -> MeshTicket:
        return MeshTicket(ticket=self.mesh.ticket(asked.body.invite))

    async def ping(self, asked: Asked[Nothing, About]) -> Ping:
        return await self.mesh.ping(one_node(asked.body.who, self.mesh.peers()))

    async def pending(self, asked: Asked[Nothing, Nothing]) -> PendingList:  # noqa: ARG002
        return PendingList(pending=self.mesh.pending())

    async def approve(self, asked: Asked[Nothing, Approve]) -> Decision:
        wanted = asked.body
        return _decided(lambda: self.mesh.approve(self._meant(wanted.who), wanted.trust))

    async def deny(self, asked: Asked[Nothing, About]) -> Decision:
        return _decided(lambda: self.mesh.deny(self._meant(asked.body.who)))

    async def trust(self, asked: Asked[Nothing, TrustTo]) -> Decision:
        wanted = asked.body
        return _decided(lambda: self.mesh.trust(self._meant(wanted.who), wanted.level))

    async def forget(self, asked: Asked[Nothing, About]) -> Decision:
        return _decided(lambda: self.mesh.forget(self._meant(asked.body.who)))

    async def policy(self, asked: Asked[Nothing, Nothing]) -> MeshPolicy:  # noqa: ARG002
        return _policy(self.mesh.policy())

    async def change_policy(self, asked: Asked[Nothing, ChangePolicy]) -> MeshPolicy:
        return _policy(self.mesh.set_policy(asked.body.set, asked.body.unset))

    def calls(self) -> list[Call]:
        who = (PeerUnknown, RequestRejected)
        lost = (PeerLost, UpstreamTimeout)
        return [
            Call("GET", "/api/v1/mesh", "Where this cortex stands in the mesh.", self.show),
            Call("GET", "/api/v1/mesh/peers", "Every cortex that it knows.", self.peers),
            Call(
                "POST",
                "/api/v1/mesh/join",
                "Join by a ticket: a line for each step, last the report.",
                self.join,
                media={StepByStep.media_type: str},
            ),
            Call("POST", "/api/v1/mesh/leave", "Leave the mesh until the next join.", self.leave),
            Call(
                "POST",
                "/api/v1/mesh/ticket",
                "This cortex's ticket, or one with an invite.",
                self.ticket,
            ),
            Call(
                "POST",
                "/api/v1/mesh/ping",
                "One round trip to a peer.",
                self.ping,
                refuses=who + lost,
            ),
            Call("GET", "/api/v1/mesh/pending", "Who waits to be let in.", self.pending),
            Call("POST", "/api/v1/mesh/approve", "Let somebody in.", self.approve, refuses=who),
            Call("POST", "/api/v1/mesh/deny", "Never let somebody in.", self.deny, refuses=who),
            Call("POST", "/api/v1/mesh/trust", "Trust somebody.", self.trust, refuses=who),
            Call("POST", "/api/v1/mesh/forget", "Undo what was decided.", self.forget, refuses=who),
            Call("GET", "/api/v1/mesh/policy", "The federation settings in force.", self.policy),
            Call("POST", "/api/v1/mesh/policy", "Change them at once.", self.change_policy),
        ]

    def _meant(self, who: str) -> str:
        rows: list[PeerRow | PendingRow] = [*self.mesh.pending(), *self.mesh.peers()]
        return decided_about(who, rows)


def _decided(decide: Callable[[], Decision]) -> Decision:
    try:
        return decide()
    except WhoUnclear as error:
        raise RequestRejected(f"{error}.", "who") from error


def _policy(shown: Mapping[str, Mapping[str, Any]]) -> MeshPolicy:
    return msgspec.convert({"policy": shown}, MeshPolicy)
