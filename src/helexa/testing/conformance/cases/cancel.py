"""A client that leaves before its answer is complete."""

from __future__ import annotations

from typing import Any, Final

import anyio

from helexa.runtime.contract import Ability, Endpoint
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import NotTestable, Subject, family

_LEAVERS: Final = 6
_ROUNDS: Final = 3
_LOOK_EVERY_S: Final = 0.001
_QUIET_S: Final = 0.3
_CPU_SEEN_S: Final = 0.3
"""Below this the clock of processes is too coarse to tell anything."""


@case(rows.CANCEL)
async def a_client_that_leaves_frees_its_place(subject: Subject) -> None:
    """Whoever comes next is served, whether the one who left was streaming or not."""
    slots = (await subject.spec()).slots
    for more in ({"stream": True}, {}):
        for _ in range(2 * slots):
            await _leave(subject, more)
        await subject.until_idle()
        question = subject.knowledge.questions[0]
        reply = await subject.answer(subject.chat(question))
        assert subject.knowledge.is_right(question, reply.text), reply.text


@case(rows.CANCEL)
async def an_engine_does_not_go_on_for_a_client_that_left(subject: Subject) -> None:
    """It computes much less for clients that leave at the first word than for those that stay."""
    engine = await subject.engine()
    if not engine.process.pid:
        raise NotTestable("the engine is no process of this machine")
    for _ in range(_ROUNDS):
        began = await _cpu_s(engine.process.pid)
        for _ in range(_LEAVERS):
            await subject.answer(await endless(subject))
        stayed = await _cpu_when_quiet_s(engine.process.pid) - began
        if stayed < _CPU_SEEN_S:
            raise NotTestable(f"{_LEAVERS} of its longest answers take {stayed:.2f} s of a CPU")
        began = await _cpu_s(engine.process.pid)
        for _ in range(_LEAVERS):
            await _leave(subject, {"stream": True})
        left = await _cpu_when_quiet_s(engine.process.pid) - began
        # On a busy machine a client may be woken when the answer is all but made; so some rounds.
        if left < 0.6 * stayed:
            return
    raise AssertionError(f"{left:.2f} s of CPU for those who left, {stayed:.2f} s for a whole")


async def endless(subject: Subject) -> dict[str, Any]:
    body = {"temperature": 0, **subject.knowledge.endless}
    if Ability.LOGIT_BIAS in (await subject.offered()).abilities:
        body.update(subject.knowledge.unending)
    spec = await subject.spec()
    return {**body, "max_tokens": min(body["max_tokens"], spec.context_tokens * 3 // 4)}


async def _leave(subject: Subject, more: dict[str, Any]) -> None:
    """Ask for a long answer; hang up at its first word, or once it is being made."""
    body = {"model": subject.model, **await endless(subject), **more}
    replica = await subject.replica()
    with anyio.fail_after(subject.patience_s):
        with await subject.send(Endpoint.CHAT.value, body) as response:
            if "stream" in more:
                await response.head()
                await response.chunk()
                return
            while not (replica.gate.running or await response.head(_LOOK_EVERY_S)):
                pass


async def _cpu_s(pid: int) -> float:
    times = [process.cpu_times() for process in family(pid)]
    return float(sum(each.user + each.system for each in times))


async def _cpu_when_quiet_s(pid: int) -> float:
    """Once it stopped computing."""
    with anyio.move_on_after(30.0):
        before = await _cpu_s(pid)
        while True:
            await anyio.sleep(_QUIET_S)
            now = await _cpu_s(pid)
            if now - before <= _QUIET_S / 10:
                return now
            before = now
    return await _cpu_s(pid)
