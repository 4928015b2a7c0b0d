"""Loads and unloads that others see through: links that break, requests in between, new wishes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.bench import PATIENCE_S, Bench, Journal, bench, is_alive
from tests.neuron.cortexes import Cortex, cortex
from tests.neuron.states import States

from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Inbound, PeerRefused, Session
from helexa.mesh.transport import LinkClosed, TransportSettings
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.control import NeuronControl
from helexa.neuron.supervisor.roster import KEPT_AS_IT_IS
from helexa.protocol.errors import Busy, DoesNotFit, Draining, RuntimeExited
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import (
    ExecuteRequest,
    Hello,
    LoadModel,
    ModelConfig,
    ProvisioningResponse,
    Role,
    UnloadModel,
    Wire,
)
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.work import Load, ModelState
from helexa.testing.fake_runtime import FakeRuntime
from helexa.util.background import background
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio

MODEL = ModelId("m")
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def runtime(journal: Journal, *flags: str, **more: Any) -> FakeRuntime:
    return FakeRuntime(flags={MODEL: flags}, journal=journal.path, **more)


class Commanded:
    """A roster under the command of whoever opens a session: `helexa.mesh.node.Host`."""

    def __init__(self, live: Bench) -> None:
        self._control = NeuronControl(live.roster, lambda: Load(sequence=0), lambda _request: False)

    async def on_session(self, session: Session) -> None:
        await session.wait_closed()

    async def on_message(self, inbound: Inbound) -> Wire | None:
        return await self._control.answer(inbound.message)

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Any) -> None:
        raise AssertionError("nobody opens a stream here")


@asynccontextmanager
async def commanded(live: Bench) -> AsyncIterator[Cortex]:
    network = MemoryNetwork()
    hello = Hello(role=Role.NEURON, lowest=VERSION_MIN, highest=VERSION)
    memory = {"iroh": (network.open_transport, TransportSettings(bind=Address("memory", 0)))}
    async with (
        cortex(network) as far,
        MeshNode.running(NodeKey.generate(), hello, memory, Commanded(live)) as mesh,
        background() as tasks,
    ):
        tasks.start_soon(mesh.keep_connected, far.mesh.ticket())
        yield far


async def break_off(far: Cortex, message: Wire, begun: Any) -> None:
    """Ask, and lose the link once `begun` returns."""
    lost: list[LinkClosed] = []
    session = await far.connected()

    async def ask() -> None:
        try:
            await session.ask(message, timeout_s=PATIENCE_S)
        except LinkClosed as error:
            lost.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await begun()
        await session.close(reason="the cable was pulled")
    assert lost


async def test_a_load_goes_on_when_the_link_of_who_asked_breaks(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    fake = runtime(journal, "--load-waits-for", str(gate))
    async with bench(fake, {MODEL: 1000}) as live, commanded(live) as far:
        states = States(live.roster, MODEL)
        await break_off(far, LoadModel(command="c", model=MODEL), lambda: journal.heard("started"))
        assert live.roster.granted == {MODEL: 1000}
        gate.touch()
        await states.until(ModelState.LOADED)
        assert live.roster.granted == {MODEL: 1000}
    assert ModelState.UNLOADED not in states.seen[1:]


async def test_an_unload_goes_on_when_the_link_of_who_asked_breaks(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live, commanded(live) as far:
        await live.roster.load(MODEL)
        states = States(live.roster, MODEL)
        replica = await live.roster.replica(MODEL)
        async with replica.gate.present():
            await break_off(
                far,
                UnloadModel(command="c", model=MODEL, grace_s=PATIENCE_S),
                lambda: states.until(ModelState.DRAINING),
            )
            assert replica.engine is not None
        await states.until(ModelState.UNLOADED)
        assert live.roster.granted == {}


@pytest.mark.parametrize("waits", [False, True])
async def test_a_model_with_requests_is_not_unloaded_if_idle(journal: Journal, waits: bool) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live, commanded(live) as far:
        await live.roster.load(MODEL)
        replica = await live.roster.replica(MODEL)
        wanted = UnloadModel(command="c", model=MODEL, if_idle=True)
        async with replica.gate.present():
            if not waits:
                async with replica.gate.slot():
                    with pytest.raises(PeerRefused) as caught:
                        await far.ask(wanted)
            else:
                with pytest.raises(PeerRefused) as caught:
                    await far.ask(wanted)
            assert caught.value.code == Busy.code
            assert await live.roster.replica(MODEL) is replica
        answer = await far.ask(wanted)
        assert isinstance(answer, ProvisioningResponse)
        assert answer.state is ModelState.UNLOADED


async def test_nobody_slips_in_between_the_look_and_the_stop() -> None:
    """Each of many requests is served whole or refused before it began; none dies."""
    async with bench(FakeRuntime(), {MODEL: 1}, slots=4) as live:
        await live.roster.load(MODEL)
        statuses: list[int] = []

        async def request() -> None:
            statuses.append((await live.post(CHAT, ASK)).status)

        async def unload() -> None:
            with suppress(Busy):
                await live.roster.unload(MODEL, PATIENCE_S, if_idle=True)

        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(request)
                    tasks.start_soon(unload)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 0


async def test_a_model_that_is_being_loaded_for_somebody_is_not_idle(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    fake = runtime(journal, "--load-waits-for", str(gate))
    async with bench(fake, {MODEL: 1}) as live, anyio.create_task_group() as tasks:
        tasks.start_soon(live.roster.load, MODEL)
        await journal.heard("started")
        with pytest.raises(Busy, match="being loaded"):
            await live.roster.unload(MODEL, 1, if_idle=True)
        gate.touch()
        await States(live.roster, MODEL).until(ModelState.LOADED)


async def test_requests_that_wait_when_the_grace_is_over_do_not_start_it_again(
    journal: Journal,
) -> None:
    async with bench(runtime(journal, "--holds-after", "1"), {MODEL: 1}, slots=1) as live:
        replies: list[Any] = []

        async def request() -> None:
            replies.append(await live.post(CHAT, ASK))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request)
            await journal.heard("holding")
            tasks.start_soon(request)
            replica = await live.roster.replica(MODEL)
            while not replica.gate.waiting:
                await anyio.lowlevel.checkpoint()
            await live.roster.unload(MODEL, grace_s=0)
            await replica.gate.emptied()
        assert live.roster.capability(MODEL).state is ModelState.UNLOADED
        assert live.roster.granted == {}
    codes = {reply.error["code"] for reply in replies}
    assert Draining.code in codes


async def test_a_shorter_grace_shortens_an_unload_in_progress(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live:
        await live.roster.load(MODEL)
        states = States(live.roster, MODEL)
        replica = await live.roster.replica(MODEL)
        async with anyio.create_task_group() as tasks, replica.gate.present():
            tasks.start_soon(live.roster.unload, MODEL, 3600)
            await states.until(ModelState.DRAINING)
            with anyio.fail_after(PATIENCE_S):
                await live.roster.unload(MODEL, 0)
            assert replica.engine is None


async def test_a_load_with_another_configuration_starts_an_idle_replica_anew(
    journal: Journal,
) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live, commanded(live) as far:
        await live.roster.load(MODEL)
        first = (await journal.heard("started"))["pid"]
        wanted = LoadModel(command="c", model=MODEL, config=ModelConfig(slots=2))
        answer = await far.ask(wanted)
        assert isinstance(answer, ProvisioningResponse)
        assert (answer.state, answer.reason) == (ModelState.LOADED, "")
        assert live.roster.capability(MODEL).slots == 2
        assert not is_alive(first)
        second = (await journal.heard("started"))["pid"]
        await far.ask(wanted)
        assert is_alive(second)


async def test_a_busy_replica_keeps_its_configuration_and_the_answer_says_so(
    journal: Journal,
) -> None:
    async with bench(runtime(journal), {MODEL: 1}, slots=4) as live, commanded(live) as far:
        await live.roster.load(MODEL)
        replica = await live.roster.replica(MODEL)
        wanted = LoadModel(command="c", model=MODEL, config=ModelConfig(slots=2))
        async with replica.gate.present():
            answer = await far.ask(wanted)
            assert isinstance(answer, ProvisioningResponse)
            assert (answer.state, answer.reason) == (ModelState.LOADED, KEPT_AS_IT_IS)
            assert live.roster.capability(MODEL).slots == 4
        await live.roster.unload(MODEL, 1)
        await live.roster.load(MODEL)
        assert live.roster.capability(MODEL).slots == 2


async def test_what_would_not_fit_anew_is_refused_before_the_old_one_is_stopped(
    journal: Journal,
) -> None:
    fake = runtime(journal, bytes_per_slot=100)
    async with bench(fake, {MODEL: 500}, memory_bytes=1000, slots=4) as live:
        await live.roster.load(MODEL)
        with pytest.raises(DoesNotFit) as caught:
            await live.roster.load(MODEL, ModelConfig(slots=6))
        assert (caught.value.needed_bytes, caught.value.free_bytes) == (1100, 1000)
        assert live.roster.capability(MODEL).state is ModelState.LOADED
        assert (await live.post(CHAT, ASK)).status == 200


async def test_a_load_that_is_given_up_before_it_was_tried_leaves_no_grant(
    journal: Journal,
) -> None:
    fake = runtime(journal, "--say", "out of memory", "--loading-dies", "1")
    async with bench(fake, {MODEL: 1}) as live:
        replica = await live.roster.replica(MODEL)

        async def load() -> None:
            with suppress(RuntimeExited):
                await live.roster.load(MODEL)

        for turns in range(6):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(load)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            with anyio.fail_after(PATIENCE_S):
                while replica.state.holds_memory or replica.is_asked:
                    assert live.roster.granted == {MODEL: 1}
                    await anyio.lowlevel.checkpoint()
            assert live.roster.granted == {}


async def test_health_says_how_long_a_model_is_idle(journal: Journal) -> None:
    async with bench(runtime(journal, "--holds-after", "1"), {MODEL: 1}) as live:
        await live.roster.load(MODEL)
        await live.get("/healthz")
        (load,) = live.roster.loads()
        assert load.idle_s > 0
        with anyio.fail_after(PATIENCE_S):
            with await live.client.request(
                "POST", CHAT, (), json.dumps({**ASK, "stream": True}).encode()
            ):
                await journal.heard("holding")
                (load,) = live.roster.loads()
                assert load.idle_s == 0
