"""Whether the servers of `[neuron.servers]` answer, asked as the neuron will ask them."""

from __future__ import annotations

import anyio

from helexa.cli.finding import Finding
from helexa.config import Config
from helexa.neuron.models.server_look import Down, Look, Server
from helexa.neuron.models.servers import keys_of, servers_of
from helexa.util.home import HomeUnusable
from helexa.util.upstream import Pool


def of_servers(config: Config) -> list[Finding]:
    """Nothing where none is configured."""
    try:
        servers = servers_of(config.neuron, keys_of(config.neuron))
    except HomeUnusable as error:
        return [Finding("error", "servers", str(error))]
    asked = [one for one in servers if one.place is not None]
    return anyio.run(_all, asked) if asked else []


async def _all(servers: list[Server]) -> list[Finding]:
    found: dict[str, Finding] = {}

    async def one(server: Server) -> None:
        found[server.name] = await _of(server)

    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(one, server, name=server.name)
    return [found[server.name] for server in servers]


async def _of(server: Server) -> Finding:
    assert server.place is not None
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
    return Finding("ok", "servers", f"{server.name}: {len(seen.models) or 'no'} models")
