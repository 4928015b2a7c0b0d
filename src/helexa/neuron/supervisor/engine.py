"""A child of a runtime from its launch plan to the moment that it answers, and to its end.

Between `process`, which knows nothing of HTTP, and `replica`, which knows
nothing of processes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio

from helexa.neuron.supervisor.process import Child, child
from helexa.runtime.contract import (
    ChildRequest,
    CuriousAdapter,
    Exit,
    ExitReason,
    Grant,
    LaunchPlan,
    ReplicaSpec,
    RuntimeAdapter,
)
from helexa.util.upstream import Pool, Unix, UpstreamError

_POLL_FIRST_S: Final = 0.01
_POLL_MOST_S: Final = 0.25
_ANSWER_BYTES_MAX: Final = 1 << 20
_QUESTION_TIMEOUT_S: Final = 10.0


class Engine:
    """A started child. `spec.learnt` is filled once `ready` has returned."""

    def __init__(
        self, adapter: RuntimeAdapter, spec: ReplicaSpec, plan: LaunchPlan, process: Child
    ) -> None:
        self.adapter = adapter
        self.spec = spec
        self.plan = plan
        self.process = process
        self.pool: Pool

    async def ready(self) -> Exit | None:
        """Return None when it serves, or why it is held to be stuck."""
        with anyio.move_on_after(self.plan.ready_within_s) as deadline:
            await self._answering()
            await self._learn()
        if deadline.cancelled_caught:
            last = self.process.tail.strip().splitlines()[-1:]
            words = f"; last words: {last[0][:300]}" if last else ""
            return Exit(
                reason=ExitReason.NEVER_READY,
                detail=f"not ready within {self.plan.ready_within_s:g} s{words}",
            )
        return None

    async def exited(self) -> Exit:
        status = await self.process.exited()
        return self.adapter.explain_exit(status, self.process.tail)

    async def _answering(self) -> None:
        pause_s = _POLL_FIRST_S
        while True:
            try:
                with await self.pool.request("GET", self.plan.ready_path) as response:
                    if response.status == 200:
                        await response.read(_ANSWER_BYTES_MAX)
                        return
            except UpstreamError:
                pass  # Not listening yet, or in the middle of starting.
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_MOST_S)

    async def _learn(self) -> None:
        if not isinstance(self.adapter, CuriousAdapter):
            return
        answers = [await self._ask(question) for question in self.adapter.questions(self.spec)]
        learnt: Mapping[str, str] = self.adapter.learn(self.spec, answers)
        self.spec = replace(self.spec, learnt=learnt)

    async def _ask(self, question: ChildRequest) -> tuple[int, bytes]:
        try:
            with await self.pool.request(
                "POST",
                question.path,
                ((b"content-type", b"application/json"),),
                question.body,
                first_byte_timeout_s=_QUESTION_TIMEOUT_S,
            ) as response:
                return response.status, await response.read(_ANSWER_BYTES_MAX)
        except UpstreamError:
            return 0, b""


@asynccontextmanager
async def launched(
    adapter: RuntimeAdapter, spec: ReplicaSpec, run: Path, devices: tuple[int, ...] = ()
) -> AsyncIterator[Engine]:
    """A child in the making, with a folder in `run`; both are gone after the block.

    Raises OSError.
    """
    folder = Path(tempfile.mkdtemp(prefix="", dir=run))
    try:
        # llama.cpp takes a host name for a path by this ending alone.
        socket = folder / "child.sock"
        plan = adapter.plan(spec, Grant(socket=socket, scratch=folder, devices=devices))
        async with child(
            plan.argv, plan.env, folder=str(folder), grace_s=plan.stop_grace_s
        ) as process:
            engine = Engine(adapter, spec, plan, process)
            async with Pool(Unix(str(socket)), connections_max=4096).running() as engine.pool:
                yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)
