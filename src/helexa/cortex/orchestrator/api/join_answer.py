"""The answer to a join: one JSON line for each step as it ends, then one with the whole report.

A join that fails may take half a minute, and whoever waits for it wants to see where.
A refusal before the first step is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from helexa.cortex.orchestrator.mesh_control import OnStep
from helexa.protocol.errors import HelexaError, body_of

STEPS_AHEAD_MAX: Final = 64
"""Steps that wait for a slow reader; later ones are left to the report, which has all."""


class StepByStep(Response):
    """Runs `join` while it is sent."""

    media_type = "application/x-ndjson"

    def __init__(self, join: Callable[[OnStep], Awaitable[Mapping[str, Any]]]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._join = join
        self._report: Mapping[str, Any] = {}
        self._refusal: HelexaError | None = None

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        told, steps = anyio.create_memory_object_stream[bytes](STEPS_AHEAD_MAX)
        begun = False
        with steps:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run, told)
                async for line in steps:
                    if not begun:
                        begun = True
                        await self._begin(send)
                    await _send(send, line)
        if self._refusal is not None and not begun:
            raise self._refusal
        if not begun:
            await self._begin(send)
        last = {"error": body_of(self._refusal)} if self._refusal is not None else self._report
        await _send(send, _line(last))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, told: MemoryObjectSendStream[bytes]) -> None:
        def on_step(step: Mapping[str, Any]) -> None:
            with suppress(anyio.WouldBlock):
                told.send_nowait(_line({"step": step}))

        with told:
            try:
                self._report = await self._join(on_step)
            except HelexaError as error:
                self._refusal = error

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


async def _send(send: Send, line: bytes) -> None:
    await send({"type": "http.response.body", "body": line, "more_body": True})


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
