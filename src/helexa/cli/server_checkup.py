"""Whether the servers of `[neuron.servers]` answer, asked as the neuron will ask them."""

from __future__ import annotations

from typing import Final

import anyio

from helexa.cli.finding import Finding
from helexa.config import Config
from helexa.neuron.models.server_look import Down, Look, Server
from helexa.neuron.models.servers import keys_of, servers_of
from helexa.runtime.openai_compatible.address import Place
from helexa.util.home import HomeUnusable
from helexa.util.sockets import Address
from helexa.util.upstream import Pool

_HERE: Final = ("localhost", "127.0.0.1", "::1")
_ANY: Final = ("0.0.0.0", "::")


def of_servers(config: Config) -> list[Finding]:
    """Nothing where none is configured."""
    try:
        servers = servers_of(config.neuron, keys_of(config.neuron))
    except HomeUnusable as error:
        return [Finding("error", "servers", str(error))]
    asked = [one for one in servers if one.place is not None]
    return anyio.run(_all, asked, config.neuron.api_socket) if asked else []


async def _all(servers: list[Server], own: Address) -> list[Finding]:
    found: dict[str, Finding] = {}

    async def one(server: Server) -> None:
        found[server.name] = await _of(server, own)

    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(one, server, name=server.name)
    return [found[server.name] for server in servers]


async def _of(server: Server, own: Address) -> Finding:
    assert server.place is not None
    if _is_same(server.place, own):
        what = f"{server.name}: it leads back to this neuron"
        return Finding("warning", "servers", what, "take it out of [neuron.servers]")
    async with Pool(server.place.reach).running() as pool:
        try:
            seen = await Look(server).at(pool)
        except Down as down:
            # A warning: the neuron starts, and serves its models once the server is back.
            detail = f" ({down.detail})" if down.detail else ""
            return Finding("warning", "servers", f"{server.name}: {down}{detail}")
    if seen.failed:
        name, why = min(seen.failed.items())
        more = f", and {len(seen.failed) - 1} more" if len(seen.failed) > 1 else ""
        return Finding("warning", "servers", f"{name}: {why}{more}")
    if not seen.models:
        what = f"{server.name}: it lists no models of its own"
        return Finding("warning", "servers", what, "name them in its models table")
    return Finding("ok", "servers", f"{server.name}: {len(seen.models)} models")


def _is_same(place: Place, own: Address) -> bool:
    """Whether a server's place is this neuron's own API, as far as its address shows."""
    reach = place.reach
    if reach.port != own.port:
        return False
    return reach.host == own.host or (reach.host in _HERE and own.host in (*_HERE, *_ANY))
