"""A process that is on the LAN: prints a line when it is, and one for everyone it finds."""

from __future__ import annotations

import asyncio
import json
import sys

import anyio
import uvloop

from helexa.mesh.discovery.advert import Advert
from helexa.mesh.discovery.lan import Lan


def say(**line):
    print(json.dumps(line), flush=True)


async def main(realm, node, *hosts):
    def on_found(found):
        say(found=found.ticket.node, addresses=found.ticket.addresses, name=found.name)

    advert = Advert(node=node, ports={"tls": 4433}, name="child", hosts=hosts) if node else None
    async with Lan.running(advert, on_found, realm=realm, rescan_s=0.2):
        say(running=True)
        await anyio.sleep_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(*sys.argv[1:]))
