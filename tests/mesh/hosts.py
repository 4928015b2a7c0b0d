"""A host for tests: records what came, answers what it is told to."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio

from helexa.mesh.sessions.session import Session
from helexa.protocol.messages import Hello, Ok, Role

HELLO = Hello(role=Role.NEURON, lowest=1, highest=1, agent="test")


class Recorder:
    def __init__(self, answer=None, serve=None):
        self.messages = []
        self.sessions = []
        self.arrived = anyio.Condition()
        self._answer = answer
        self._serve = serve

    async def on_session(self, session):
        await self._note(self.sessions, session)
        await session.wait_closed()

    async def on_message(self, inbound):
        await self._note(self.messages, inbound.message)
        return Ok() if self._answer is None else await self._answer(inbound)

    async def on_stream(self, session, request, stream):
        if self._serve is not None:
            await self._serve(session, request, stream)

    async def until(self, holds):
        async with self.arrived:
            while not holds():
                await self.arrived.wait()

    async def _note(self, where, what):
        async with self.arrived:
            where.append(what)
            self.arrived.notify_all()


@asynccontextmanager
async def talking(roads, ours=None, theirs=None, **options):
    """Both sides of one session: the dialler's and the acceptor's."""
    ours, theirs = ours or Recorder(), theirs or Recorder()
    async with roads.linked() as (dialled, accepted), anyio.create_task_group() as tasks:
        # Each needs the other's Hello, so one of them runs in a task of its own.
        other = Side(accepted, theirs, options)
        tasks.start_soon(other.run)
        async with Session.running(
            dialled, HELLO, ours.on_message, ours.on_stream, **options
        ) as mine:
            await other.ready.wait()
            yield mine, other.session
            other.stop.set()


class Side:
    def __init__(self, link, host, options):
        self.link, self.host, self.options = link, host, options
        self.ready, self.stop = anyio.Event(), anyio.Event()
        self.session = None

    async def run(self):
        async with Session.running(
            self.link, HELLO, self.host.on_message, self.host.on_stream, **self.options
        ) as self.session:
            self.ready.set()
            await self.stop.wait()
