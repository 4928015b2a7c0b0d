"""The mesh's part of the control API: what `helexa mesh` calls, below /api/v1/mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.orchestrator.calls import Guard, answer, body_of
from helexa.cortex.orchestrator.join_answer import StepByStep
from helexa.cortex.orchestrator.mesh_control import (
    Decision,
    InviteWish,
    MeshControl,
    PeerRow,
    PendingRow,
)
from helexa.cortex.orchestrator.who import decided_about, one_node
from helexa.mesh.admission.gatekeeper import WhoUnclear
from helexa.protocol.errors import RequestRejected

TICKET_CHARS_MAX: Final = 8_192
WHO_CHARS_MAX: Final = 256
SETTINGS_MAX: Final = 64

Who = Annotated[str, Meta(min_length=1, max_length=WHO_CHARS_MAX)]
Level = Literal["known", "trusted"]


class _Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body with a field too many is a mistake, and would otherwise go unseen."""


class Join(_Call, frozen=True, kw_only=True):
    ticket: Annotated[str, Meta(max_length=TICKET_CHARS_MAX)]


class MakeTicket(_Call, frozen=True, kw_only=True):
    invite: InviteWish | None = None


class About(_Call, frozen=True, kw_only=True):
    who: Who


class Approve(_Call, frozen=True, kw_only=True):
    who: Who
    trust: Level = "known"


class TrustTo(_Call, frozen=True, kw_only=True):
    who: Who
    level: Level = "trusted"


class ChangePolicy(_Call, frozen=True, kw_only=True):
    set: Annotated[dict[str, Any], Meta(max_length=SETTINGS_MAX)] = {}
    unset: Annotated[list[str], Meta(max_length=SETTINGS_MAX)] = []


@dataclass(frozen=True, slots=True)
class MeshApi:
    """The calls, one method each."""

    mesh: MeshControl

    async def show(self, _request: Request) -> Response:
        return answer(self.mesh.status())

    async def peers(self, _request: Request) -> Response:
        return answer({"peers": self.mesh.peers()})

    async def join(self, request: Request) -> Response:
        ticket = (await body_of(request, Join)).ticket
        return StepByStep(lambda on_step: self.mesh.join(ticket, on_step))

    async def leave(self, request: Request) -> Response:
        await body_of(request, _Call)
        await self.mesh.leave()
        return answer({"left": True})

    async def ticket(self, request: Request) -> Response:
        wanted = await body_of(request, MakeTicket)
        return answer({"ticket": self.mesh.ticket(wanted.invite)})

    async def ping(self, request: Request) -> Response:
        who = (await body_of(request, About)).who
        return answer(await self.mesh.ping(one_node(who, self.mesh.peers())))

    async def pending(self, _request: Request) -> Response:
        return answer({"pending": self.mesh.pending()})

    async def approve(self, request: Request) -> Response:
        wanted = await body_of(request, Approve)
        return _decided(lambda: self.mesh.approve(self._meant(wanted.who), wanted.trust))

    async def deny(self, request: Request) -> Response:
        wanted = await body_of(request, About)
        return _decided(lambda: self.mesh.deny(self._meant(wanted.who)))

    async def trust(self, request: Request) -> Response:
        wanted = await body_of(request, TrustTo)
        return _decided(lambda: self.mesh.trust(self._meant(wanted.who), wanted.level))

    async def forget(self, request: Request) -> Response:
        wanted = await body_of(request, About)
        return _decided(lambda: self.mesh.forget(self._meant(wanted.who)))

    async def policy(self, _request: Request) -> Response:
        return _policy(self.mesh.policy())

    async def change_policy(self, request: Request) -> Response:
        wanted = await body_of(request, ChangePolicy)
        return _policy(self.mesh.set_policy(wanted.set, wanted.unset))

    def _meant(self, who: str) -> str:
        rows: list[PeerRow | PendingRow] = [*self.mesh.pending(), *self.mesh.peers()]
        return decided_about(who, rows)


def _decided(decide: Callable[[], Decision]) -> Response:
    try:
        return answer(decide())
    except WhoUnclear as error:
        raise RequestRejected(f"{error}.", "who") from error


def _policy(shown: Mapping[str, Mapping[str, Any]]) -> Response:
    return answer({"policy": shown})


def routes(mesh: MeshControl, guarded: Guard) -> list[Route]:
    """The routes, each made by `guarded`, for the application of the control API."""
    api = MeshApi(mesh)
    return [
        guarded("/api/v1/mesh", api.show),
        guarded("/api/v1/mesh/peers", api.peers),
        guarded("/api/v1/mesh/join", api.join, "POST"),
        guarded("/api/v1/mesh/leave", api.leave, "POST"),
        guarded("/api/v1/mesh/ticket", api.ticket, "POST"),
        guarded("/api/v1/mesh/ping", api.ping, "POST"),
        guarded("/api/v1/mesh/pending", api.pending),
        guarded("/api/v1/mesh/approve", api.approve, "POST"),
        guarded("/api/v1/mesh/deny", api.deny, "POST"),
        guarded("/api/v1/mesh/trust", api.trust, "POST"),
        guarded("/api/v1/mesh/forget", api.forget, "POST"),
        guarded("/api/v1/mesh/policy", api.policy),
        guarded("/api/v1/mesh/policy", api.change_policy, "POST"),
    ]
