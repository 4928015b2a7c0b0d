"""The cortex itself, and the three paths that every socket of a node has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from helexa.cortex.orchestrator.api.calls import JSON, Asked, Call, Nothing


class GatewayTls(msgspec.Struct, frozen=True, kw_only=True):
    certificate: str
    """The file."""
    names: Sequence[str]
    valid_until_s: float
    """Unix time."""
    fault: str
    """Why the files as they are now are not what is served; empty when they are."""


class CortexStatus(msgspec.Struct, frozen=True, kw_only=True):
    node_id: str = ""
    name: str = ""
    version: str = ""
    roles: Sequence[str] = ()
    uptime_s: float = 0.0
    ticket: str = ""
    mesh_addr: str = ""
    gateway_url: str | None = None
    orchestrator_url: str | None = None
    portal_urls: Sequence[str] = ()
    neurons: int = 0
    models: int = 0
    in_flight: int = 0
    gateway_tls: GatewayTls | None = None
    """None where the gateway speaks plain HTTP, or is off."""


class Status(Protocol):
    """What the composition root knows of this node, as a JSON object."""

    def __call__(self) -> Mapping[str, Any]: ...


class Alive(msgspec.Struct, frozen=True):
    status: str


class NotReady(msgspec.Struct, frozen=True):
    status: str
    reason: str


def calls(status: Status) -> list[Call]:
    async def show(asked: Asked[Nothing, Nothing]) -> CortexStatus:  # noqa: ARG001 - a call's shape
        return msgspec.convert(status(), CortexStatus)

    return [Call("GET", "/api/v1/status", "This cortex: id, version, ticket, roles, uptime.", show)]


_DOES = {
    "/healthz": ("Answers while the process serves.", JSON, Alive),
    "/readyz": ("Whether work would be served, and if not, why.", JSON, Alive),
    "/metrics": ("Prometheus text.", "text/plain", str),
}


def health(routes: Iterable[Route]) -> list[Call]:
    """The routes of `helexa.util.health` as calls, open to all as they are everywhere."""
    return [_open(route) for route in routes]


def _open(route: Route) -> Call:
    does, media, shape = _DOES[route.path]

    async def act(asked: Asked[Nothing, Nothing]) -> Response:
        response: Response = await route.endpoint(asked.request)
        return response

    return Call(
        "GET",
        route.path,
        does,
        act,
        media={media: shape},
        also={503: NotReady} if route.path == "/readyz" else {},
        is_open=True,
    )
