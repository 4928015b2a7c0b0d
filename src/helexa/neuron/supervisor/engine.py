"""A child of a runtime from its launch plan to the moment that it answers, and to its end.

Between `process`, which knows nothing of HTTP, and `replica`, which knows
nothing of processes.
"""

from __future__ import annotations

import secrets
import shutil
import socket as sockets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import anyio
import anyio.to_thread

from helexa.neuron.supervisor import appetite, sandbox
from helexa.neuron.supervisor.process import Terms, child
from helexa.neuron.supervisor.sandbox import Sandbox
from helexa.protocol.work import Device
from helexa.runtime import installed, visibility
from helexa.runtime.contract import (
    LIVE_MISSES_MAX,
    ChildRequest,
    CuriousAdapter,
    DetailingAdapter,
    EngineLoad,
    Exit,
    ExitReason,
    Grant,
    LaunchPlan,
    ReplicaSpec,
    ReportingAdapter,
    RuntimeAdapter,
)
from helexa.util.upstream import Pool, Unix, UpstreamError

_POLL_FIRST_S: Final = 0.01
_POLL_MOST_S: Final = 0.25
_ANSWER_BYTES_MAX: Final = 1 << 24
"""Lists of all models of a cloud are long."""
_QUESTION_TIMEOUT_S: Final = 10.0
_KEY_REFUSED: Final = (401, 403)
"""A child that is ours may say so while it starts; somebody else's means it."""


class NotStarted(Exception):
    """It was not even tried, for the reason of `exit`."""

    def __init__(self, exit: Exit) -> None:  # noqa: A002 - the contract's word
        super().__init__(exit.detail)
        self.exit = exit


class Process(Protocol):
    """What is watched of a child; `pid` is 0 for a server that somebody else keeps running."""

    pid: int

    @property
    def tail(self) -> str: ...

    async def exited(self) -> int: ...


class Elsewhere:
    """The process of a server that is not ours: nothing is known of it, nor of its end."""

    pid = 0
    tail = ""

    async def exited(self) -> int:
        await anyio.sleep_forever()
        raise AssertionError


class Engine:
    """A started child. `spec.learnt` is filled once `ready` has returned."""

    def __init__(
        self,
        adapter: RuntimeAdapter,
        spec: ReplicaSpec,
        plan: LaunchPlan,
        process: Process,
        box: Sandbox | None = None,
        *,
        memory_bytes: int = 0,
        memory_factor: float = 0.0,
    ) -> None:
        """`memory_bytes` were granted to it; more than `memory_factor` times that ends it."""
        self.adapter = adapter
        self.spec = spec
        self.plan = plan
        self.process = process
        self._box = box
        self._memory = memory_bytes, memory_factor
        self.load = EngineLoad()
        """As it was said last."""
        self.pool: Pool
        self._status = 0
        """Of its last answer while it was not ready."""

    async def ready(self) -> Exit | None:
        """Return None when it serves, or why it is held to be stuck."""
        refused = None
        with anyio.move_on_after(self.plan.ready_within_s) as deadline:
            refused = await self._answering()
            if refused is None:
                await self._learn()
        if refused is not None:
            return refused
        if deadline.cancelled_caught:
            return Exit(
                reason=ExitReason.NEVER_READY if self.process.pid else ExitReason.UNREACHABLE,
                detail=f"not ready within {self.plan.ready_within_s:g} s"
                f"{self._last_status()}{self._last_words()}",
            )
        return None

    async def overgrown(self) -> Exit:
        """Return once it takes far more memory than it was granted."""
        return await appetite.overgrown(self.process.pid, *self._memory)

    async def hung(self) -> Exit:
        """Ask now and then whether it lives and how busy it is; return once it seems dead."""
        misses = 0
        while True:
            await anyio.sleep(self.plan.live_every_s)
            misses = 0 if await self._lives() else misses + 1
            if misses == LIVE_MISSES_MAX:
                return Exit(
                    reason=ExitReason.HANGS if self.process.pid else ExitReason.UNREACHABLE,
                    detail=f"it stopped answering{self._last_words()}",
                )

    def _is_there(self, status: int) -> bool:
        # A server elsewhere is up or not; some of them have no list of models to show it by.
        return not self.process.pid and status in (404, 405, 501)

    def _last_status(self) -> str:
        return f"; it answered {self._status}" if self._status not in (0, 503) else ""

    def _last_words(self) -> str:
        last = self.process.tail.strip().splitlines()[-1:]
        return f"; last words: {last[0][:300]}" if last else ""

    async def exited(self) -> Exit:
        status = await self.process.exited()
        if self._box is not None:
            status = sandbox.exit_status(self._box, status)
        return self.adapter.explain_exit(status, self.process.tail)

    async def _lives(self) -> bool:
        reporting = self.adapter if isinstance(self.adapter, ReportingAdapter) else None
        path = reporting.load_path if reporting else self.plan.live_path or self.plan.ready_path
        try:
            with await self.pool.request(
                "GET",
                path,
                self.plan.headers,
                first_byte_timeout_s=self.plan.live_within_s,
            ) as response:
                body = await response.read(_ANSWER_BYTES_MAX)
                # An engine that says that it is broken (vLLM: 500) is; one that says no is not.
                lives = response.status < 500
            if reporting and response.status == 200:
                self.load = await self._detailed(reporting.load(body))
        except UpstreamError:
            return False
        return lives

    async def _detailed(self, load: EngineLoad) -> EngineLoad:
        if not isinstance(self.adapter, DetailingAdapter):
            return load
        status, body = await self._ask(
            ChildRequest(method="GET", path=self.adapter.detail_path, body=b"", streamed=False)
        )
        return self.adapter.detailed(load, body) if status == 200 else load

    async def _answering(self) -> Exit | None:
        """Return once it serves, or why it never will."""
        pause_s = _POLL_FIRST_S
        while True:
            try:
                with await self.pool.request(
                    "GET", self.plan.ready_path, self.plan.headers
                ) as response:
                    if response.status == 200 or self._is_there(response.status):
                        await response.read(_ANSWER_BYTES_MAX)
                        return None
                    self._status = response.status
                    if response.status in _KEY_REFUSED and not self.process.pid:
                        return Exit(
                            reason=ExitReason.SETTINGS_UNSUITABLE,
                            detail=f"the server does not take its key ({response.status})",
                        )
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
                question.method,
                question.path,
                ((b"content-type", b"application/json"), *self.plan.headers),
                question.body,
                first_byte_timeout_s=_QUESTION_TIMEOUT_S,
            ) as response:
                return response.status, await response.read(_ANSWER_BYTES_MAX)
        except UpstreamError:
            return 0, b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What of the machine a replica gets for itself."""

    devices: tuple[Device, ...] = ()
    shares: tuple[float, ...] = ()
    """Of the memory of each."""
    cpus: tuple[int, ...] = ()
    threads: int = 0
    """That compute well on these CPUs."""
    memory_bytes: int = 0
    """Of main memory."""


@asynccontextmanager
async def launched(
    adapter: RuntimeAdapter,
    spec: ReplicaSpec,
    run: Path,
    lent: Lent,
    *,
    terms: Terms | None = None,
    box: Sandbox | None = None,
) -> AsyncIterator[Engine]:
    """A child in the making, with a folder in `run`; both are gone after the block.

    Raises NotStarted, OSError.
    """
    _check_installed(adapter, spec)
    folder = Path(tempfile.mkdtemp(prefix="", dir=run))
    try:
        # llama.cpp takes a host name for a path by this ending alone.
        socket = folder / "child.sock"
        grant = Grant(
            socket=socket,
            scratch=folder,
            port=_free_port(),
            secret=secrets.token_urlsafe(24),
            devices=tuple(one.index for one in lent.devices),
            device_shares=lent.shares,
            cpus=lent.cpus,
        )
        if lent.cpus:
            spec = replace(spec, threads=lent.threads)
        plan = adapter.plan(spec, grant)
        # These last: a device that was lent to somebody else is nobody's to take.
        plan = replace(plan, env={**plan.env, **visibility.variables(lent.devices)})
        terms = terms or Terms()
        if box is not None and plan.argv:
            boxed = partial(_boxed, box, spec, plan, _needs(terms, folder, lent, plan))
            plan = await anyio.to_thread.run_sync(boxed)
            terms = replace(terms, new_privileges=sandbox.gives_up_privileges(box))
        async with _process(plan, folder, lent, terms) as process:
            engine = Engine(
                adapter,
                spec,
                plan,
                process,
                box,
                memory_bytes=lent.memory_bytes,
                memory_factor=terms.memory_factor,
            )
            reach = plan.reach or Unix(str(socket))
            async with Pool(reach, connections_max=4096).running() as engine.pool:
                yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _needs(terms: Terms, folder: Path, lent: Lent, plan: LaunchPlan) -> sandbox.Needs:
    return sandbox.Needs(
        scratch=folder,
        home=terms.home,
        devices=lent.devices,
        # Whoever is dialled at an address has to be where we are.
        network=plan.reach is not None and not isinstance(plan.reach, Unix),
        memory_bytes=lent.memory_bytes,
    )


def _boxed(box: Sandbox, spec: ReplicaSpec, plan: LaunchPlan, needs: sandbox.Needs) -> LaunchPlan:
    """Looks at the disk."""
    needs = replace(needs, readable=sandbox.readable(spec, plan.argv))
    return replace(plan, argv=sandbox.wrapped(box, plan.argv, needs))


@asynccontextmanager
async def _process(
    plan: LaunchPlan, folder: Path, lent: Lent, terms: Terms
) -> AsyncIterator[Process]:
    if not plan.argv:
        yield Elsewhere()
        return
    async with child(
        plan.argv,
        plan.env,
        folder=str(folder),
        grace_s=plan.stop_grace_s,
        terms=terms,
        cpus=lent.cpus,
    ) as process:
        yield process


def _check_installed(adapter: RuntimeAdapter, spec: ReplicaSpec) -> None:
    missing = installed.missing(adapter, spec.installation)
    if missing is not None:
        raise NotStarted(missing)


def _free_port() -> int:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
