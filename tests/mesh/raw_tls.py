"""Nodes with the `tls` transport, and a peer that does what no honest one would."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import anyio

from helexa.mesh.identity import NodeKey
from helexa.mesh.transports import _tls_wire as wire
from helexa.mesh.transports import tls
from helexa.mesh.transports._tls_proof import client_context, prove
from helexa.testing.transport_suite import LOOPBACK, both_ways

DIAL_S = 10


@asynccontextmanager
async def tls_connection(transport):
    """A TLS connection to the transport's door; nothing is said on it."""
    reader, writer = await asyncio.open_connection(
        transport.bound.host, transport.bound.port, ssl=client_context(), server_hostname=""
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def challenge(reader):
    header = await reader.readexactly(8)
    assert header[0] == wire.CHALLENGE
    return await reader.readexactly(wire.NONCE_BYTES)


@asynccontextmanager
async def raw_link(transport, node_id, key=None):
    """Both ends of a link whose dialler is a raw connection, let in like any other."""
    async with tls_connection(transport) as (reader, writer):
        nonce = await challenge(reader)
        writer.write(wire.frame(wire.PROOF, 0, prove(key or NodeKey.generate(), node_id, nonce)))
        assert (await reader.readexactly(8))[0] == wire.WELCOME
        yield await transport.accept(), reader, writer


async def rest(reader):
    """All that still comes, until the far end hangs up."""
    data = bytearray()
    while True:
        try:
            chunk = await reader.read(1 << 16)
        except ConnectionError:
            return bytes(data)
        if not chunk:
            return bytes(data)
        data += chunk


async def silent_socket(transport, source="127.0.0.1"):
    """A TCP connection from that address of this machine, on which nothing is said."""
    plain = socket.socket()
    plain.setblocking(False)
    plain.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(
        plain, (transport.bound.host, transport.bound.port)
    )
    return plain


# --- and honest ones


@asynccontextmanager
async def one_node():
    """A transport under attack, and its id."""
    key = NodeKey.generate()
    async with tls.open_transport(key, LOOPBACK) as transport:
        yield transport, key.node_id


@asynccontextmanager
async def two_nodes():
    """A transport that dials, one that is dialled, and the second one's id."""
    async with (
        tls.open_transport(NodeKey.generate(), LOOPBACK) as here,
        one_node() as (there, node_id),
    ):
        yield here, there, node_id


async def honest_visit(here, there, node_id):
    """Somebody with nothing to hide gets in and is served."""
    link = await here.dial(node_id, there.addresses, timeout_s=DIAL_S)
    accepted = await there.accept()
    await both_ways(link, accepted)
    await link.close()


@asynccontextmanager
async def linked():
    async with two_nodes() as (here, there, node_id):
        dialled = await here.dial(node_id, there.addresses, timeout_s=DIAL_S)
        yield dialled, await there.accept()


async def write_for_ever(stream):
    while True:
        await stream.write(bytes(1 << 16))


async def until(holds):
    """No event says that a counter rose in some task of the transport."""
    with anyio.fail_after(30):
        while not holds():  # noqa: ASYNC110  # As the docstring says.
            await anyio.sleep(0.002)
