"""The engine's life under a neuron: it is loaded, unloaded, killed, and leaves nothing behind."""

from __future__ import annotations

import signal
from typing import Final

import anyio
import psutil

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import NotTestable, Subject, is_alive

_GONE_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.02


@case(rows.UNKNOWN_MODEL)
async def a_model_that_is_not_here_is_a_404_that_names_it(subject: Subject) -> None:
    """Engines mostly answer for any name; a neuron does not."""
    body = {"model": "no-such-model", "messages": rows.USER}
    reply = await subject.post("/v1/chat/completions", body)
    assert reply.status == 404, reply.content[:300]
    assert reply.error["code"] == "model_not_found"
    assert "no-such-model" in reply.error["message"]


@case(rows.COMES_BACK)
async def a_killed_engine_is_started_again_for_the_next_request(subject: Subject) -> None:
    """With all that it had started; the client hears nothing of it."""
    before = await subject.processes()
    if not before:
        raise NotTestable("the engine is no process of this machine")
    before[0].send_signal(signal.SIGKILL)
    await _works(subject)
    assert (await subject.engine()).process.pid != before[0].pid
    await _gone(before)


@case(rows.LOADS_AGAIN)
async def an_unloaded_model_leaves_no_process_and_loads_again(subject: Subject) -> None:
    """Not the engine, nor its workers."""
    processes = await subject.processes()
    reply = await subject.manage("unload")
    assert reply.status == 200, reply.content
    assert reply.json["state"] == "unloaded", reply.json
    await _gone(processes)
    reply = await subject.manage("load")
    assert (reply.status, reply.json.get("state")) == (200, "loaded"), reply.content
    await _works(subject)


async def _works(subject: Subject) -> None:
    offered = await subject.offered()
    for row in (rows.CHAT, rows.TEXT, rows.EMBEDDING, rows.RERANK):
        assert row.declared is not None
        assert row.asks is not None
        if row.declared(offered):
            endpoint, body = row.asks
            await subject.answer(dict(body), endpoint)
            return
    raise NotTestable("it offers no kind of work that is known here")


async def _gone(processes: list[psutil.Process]) -> None:
    with anyio.move_on_after(_GONE_WITHIN_S):
        while any(is_alive(each) for each in processes):  # noqa: ASYNC110 - not our children
            await anyio.sleep(_LOOK_EVERY_S)
    left = [each for each in processes if is_alive(each)]
    assert not left, f"still there: {left}"
