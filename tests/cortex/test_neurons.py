"""Neurons over a real session: registration, the way to them, and what a bad one gets."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.cortex.fleets import capability
from tests.cortex.scripted import Fabric, Scripted, fabric, scripted

from helexa.cortex.orchestrator.fleet import Presence, TimePassed
from helexa.mesh.identity import NodeKey
from helexa.mesh.sessions.session import PeerRefused
from helexa.protocol.errors import CapabilityMissing, ModelUnknown, NoCapacity, PeerLost, Relayed
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Drain,
    Goodbye,
    LoadModel,
    Ok,
    ProvisioningResponse,
    Refused,
    Register,
    Registered,
    ReportHealth,
)
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import DataPath, Load, ModelState, WorkloadClass
from helexa.util.asgi import Receive, Scope, Send, header
from helexa.util.host import host_mark
from helexa.util.http_server import ServerLimits, serving

pytestmark = pytest.mark.anyio

M = ModelId("m")
CHAT = WorkloadClass.CHAT_INTERACTIVE


async def register(neuron: Scripted, *paths: DataPath, name: str = "scripted") -> Registered:
    message = Register(
        descriptor=neuron.descriptor(name), capabilities=(capability(),), paths=paths
    )
    answer = await neuron.session.ask(message, timeout_s=5)
    assert isinstance(answer, Registered)
    return answer


def only_target(world: Fabric) -> NodeId:
    (target,) = world.neurons.route(CHAT, M, RouteHints()).targets
    return target.node


async def test_a_registered_neuron_is_routed_to_and_told_how_often_to_report() -> None:
    async with fabric() as world, scripted(world) as neuron:
        answer = await register(neuron)
        assert (answer.health_every_s, answer.lost_after_s) == (0.5, 2.0)
        assert only_target(world) == neuron.node


async def test_a_neuron_that_claims_another_ones_id_is_refused() -> None:
    async with fabric() as world, scripted(world) as neuron:
        other = NodeKey.generate().node_id
        lie = msgspec.structs.replace(neuron.descriptor(), node=other)
        with pytest.raises(PeerRefused) as refusal:
            await neuron.session.ask(Register(descriptor=lie), timeout_s=5)
        assert refusal.value.code == "not_allowed"
        assert not world.neurons.view.neurons


async def test_an_announcement_without_registration_changes_nothing() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await neuron.session.tell(AnnounceCapabilities(capabilities=(capability(),)))
        await register(neuron)
        await neuron.session.tell(AnnounceCapabilities(capabilities=(capability("other"),)))
        with anyio.fail_after(5):
            while M in world.neurons.view.holders:
                await anyio.lowlevel.checkpoint()
        assert list(world.neurons.view.holders) == ["other"]


async def test_a_neuron_that_says_goodbye_is_gone_with_its_words() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        await neuron.session.tell(Goodbye(reason="going home"))
        event = await world.wait_event("neuron_left")
        assert event["reason"] == "going home"
        with pytest.raises(NoCapacity, match="gone for 0 s: going home"):
            world.neurons.route(CHAT, M, RouteHints())


async def test_a_neuron_that_vanishes_is_gone_when_the_link_notices() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        world.network.vanish(neuron.mesh.transports["memory"])
        event = await world.wait_event("neuron_left")
        assert event["reason"].startswith("link lost")


async def test_a_neuron_that_comes_back_replaces_its_own_dead_link() -> None:
    key = NodeKey.generate()
    async with fabric() as world, scripted(world, key) as first:
        await register(first, name="first")
        async with scripted(world, key) as second:
            await register(second, name="second")
            await first.session.close(reason="the old one ends late")
            await first.session.wait_closed()
            assert only_target(world) == key.node_id
            view = world.neurons.view.neurons[key.node_id]
            assert view.descriptor.name == "second"
            assert view.presence is Presence.PRESENT
            # And the old link's frames would say nothing about the new one.
            target = world.neurons.route(CHAT, M, RouteHints()).targets[0]
            assert world.neurons.way(target).kind == "mesh"


async def test_silence_ends_new_work_and_a_report_brings_it_back() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        now_s = world.neurons.now_s()
        world.neurons.post(TimePassed(now_s=now_s + 3, lost_after_s=2, forget_after_s=99))
        with pytest.raises(NoCapacity, match="silent"):
            world.neurons.route(CHAT, M, RouteHints())
        assert list(world.neurons.silent()) == [neuron.node]
        await neuron.session.tell(ReportHealth(load=Load(sequence=1)))
        with anyio.fail_after(5):
            while world.neurons.view.neurons[neuron.node].presence is not Presence.PRESENT:
                await anyio.lowlevel.checkpoint()
        assert only_target(world) == neuron.node
        assert list(world.neurons.silent()) == []


async def test_a_cortex_that_stood_still_itself_reads_reports_before_it_calls_anybody_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Over(Exception):
        pass

    async with fabric() as world:
        took_s = iter((0.1, 60.0, 0.1))
        stood_s = [0.0]
        looks: list[float] = []
        world.neurons.look_again(lambda: looks.append(stood_s[0]))
        monkeypatch.setattr(world.neurons, "_monotonic", lambda: stood_s[0])

        async def sleep(_s: float) -> None:
            stood_s[0] += next(took_s, 0.0) or over()

        def over() -> float:
            raise Over

        with monkeypatch.context() as patched:
            patched.setattr("helexa.cortex.orchestrator.neurons.anyio.sleep", sleep)
            with pytest.raises(Over):
                await world.neurons.keep_time()
        assert looks == pytest.approx([0.1, 60.2])


async def test_nobody_connected_is_not_an_unknown_model() -> None:
    async with fabric() as world:
        with pytest.raises(NoCapacity, match="No neuron is connected"):
            world.neurons.route(CHAT, M, RouteHints())
        async with scripted(world) as neuron:
            await register(neuron)
            with pytest.raises(ModelUnknown):
                world.neurons.route(CHAT, ModelId("nope"), RouteHints())


async def test_work_that_a_model_never_does_is_the_callers_mistake_and_not_a_matter_of_time() -> (
    None
):
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        with pytest.raises(CapabilityMissing, match="embedding"):
            world.neurons.route(WorkloadClass.EMBEDDING, M, RouteHints())


async def test_a_target_that_left_after_the_decision_is_lost_and_not_a_crash() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        target = world.neurons.route(CHAT, M, RouteHints()).targets[0]
        await neuron.session.close()
        await world.wait_event("neuron_left")
        with pytest.raises(PeerLost):
            world.neurons.way(target)


async def test_loading_answers_in_the_neurons_own_words() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        neuron.answers = lambda message: ProvisioningResponse(
            command=getattr(message, "command", ""), model=M, state=ModelState.LOADED
        )
        assert (await world.neurons.commands.load(neuron.node, M)).state is ModelState.LOADED
        assert isinstance(neuron.asked[-1], LoadModel)
        neuron.answers = lambda _message: Refused(code="does_not_fit", message="too big by far")
        with pytest.raises(Relayed) as refusal:
            await world.neurons.commands.load(neuron.node, M)
        assert refusal.value.status == 507
        assert refusal.value.message == "too big by far"


async def test_draining_is_asked_of_the_neuron() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        neuron.answers = lambda _message: Ok()
        await world.neurons.drain(neuron.node, enabled=True)
        assert neuron.asked[-1] == Drain(enabled=True)


# --- the data path


@contextmanager
def work_socket(folder: Path) -> Iterator[tuple[str, object]]:
    path = folder / "work.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(16)
    listener.setblocking(False)
    try:
        yield str(path), listener
    finally:
        listener.close()


def answering(token: str, *, proof_key: str | None = None):
    """A work socket's application: proves the token, then says which path a request came by."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonce = header(scope, b"x-helexa-nonce") or b""
        if scope["path"] == "/helexa/v1/path":
            key = (proof_key or token).encode()
            body = hmac.new(key, nonce, hashlib.sha256).hexdigest().encode()
        else:
            body = header(scope, b"x-helexa-token") or b"no token"
        length = str(len(body)).encode()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    return app


async def reply(world: Fabric, path: str = "/v1/x") -> bytes:
    way = world.neurons.way(world.neurons.route(CHAT, M, RouteHints()).targets[0])
    with await way.pool.request("POST", path, way.headers, b"{}") as response:
        await response.head()
        return await response.read(1000)


async def test_a_neuron_on_this_host_is_reached_by_its_socket_with_its_token(
    tmp_path: Path,
) -> None:
    with work_socket(tmp_path) as (path, listener):
        served = serving(
            answering("secret"),
            [listener],
            ServerLimits(),
            error_body=lambda _status, _message: b"",
            shutdown_grace_s=0,
        )
        async with served, fabric() as world, scripted(world) as neuron:
            await register(
                neuron, DataPath(kind="unix", address=path, token="secret", host=host_mark())
            )
            target = world.neurons.route(CHAT, M, RouteHints()).targets[0]
            assert world.neurons.way(target).kind == "unix"
            assert await reply(world) == b"secret"


@pytest.mark.parametrize("wrong", ["host", "proof", "missing"])
async def test_a_path_that_is_not_proven_is_not_taken(tmp_path: Path, wrong: str) -> None:
    """A descriptor may name any socket on this machine; only the neuron's own will do."""
    with work_socket(tmp_path) as (path, listener):
        served = serving(
            answering("secret", proof_key="another" if wrong == "proof" else None),
            [listener],
            ServerLimits(),
            error_body=lambda _status, _message: b"",
            shutdown_grace_s=0,
        )
        async with served, fabric() as world, scripted(world) as neuron:
            await register(
                neuron,
                DataPath(
                    kind="unix",
                    address=path + ".none" if wrong == "missing" else path,
                    token="secret",
                    host="elsewhere" if wrong == "host" else host_mark(),
                ),
            )
            target = world.neurons.route(CHAT, M, RouteHints()).targets[0]
            assert world.neurons.way(target).kind == "mesh"


async def test_a_neuron_elsewhere_is_reached_by_streams_of_its_link() -> None:
    served = serving(
        answering("unused"),
        [],
        ServerLimits(),
        error_body=lambda _status, _message: b"",
        shutdown_grace_s=0,
    )
    async with served as server, fabric() as world, scripted(world) as neuron:
        neuron.serve = server.serve_stream
        await register(neuron)
        assert await reply(world) == b"no token"
        assert await reply(world) == b"no token"


async def test_a_decision_without_a_choice_is_kept_until_anything_changes() -> None:
    async with fabric() as world, scripted(world) as neuron:
        await register(neuron)
        neurons = world.neurons
        first = neurons.route(CHAT, M, RouteHints(request="a"))
        assert neurons.route(CHAT, M, RouteHints(request="b")) is first
        assert neurons.decide(CHAT, M, RouteHints()) == first
        with pytest.raises(NoCapacity):
            neurons.route(CHAT, M, RouteHints(exclude=(neuron.node,)))
        with pytest.raises(CapabilityMissing):
            neurons.route(WorkloadClass.RERANK, M, RouteHints())
        neurons.set_yielding(frozenset({(neuron.node, M)}))
        with pytest.raises(NoCapacity):
            neurons.route(CHAT, M, RouteHints())
        neurons.set_yielding(frozenset())
        assert neurons.route(CHAT, M, RouteHints()) == first
        async with scripted(world) as other:
            await register(other, name="other")
            assert len(neurons.route(CHAT, M, RouteHints()).targets) == 2
            await other.session.tell(Goodbye(reason="on purpose"))
            with anyio.fail_after(5):
                while neurons.view.neurons[other.node].presence is Presence.PRESENT:
                    await anyio.lowlevel.checkpoint()
            assert only_target(world) == neuron.node
