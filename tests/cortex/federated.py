"""Several whole cortexes in one process over the memory mesh, each with neurons that a test writes.

Real gateways on real sockets, real sessions, real doors; only membership is left out: who
stands how with whom is said by the test.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from tests.gateway.parts import DONE, KEY, USAGE, Answer, MemoryKeys, token

from helexa.cortex.gateway.app import gateway, turns_of
from helexa.cortex.gateway.observe import FederationCounts
from helexa.cortex.gateway.peer_door import lending
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fabric import Fabric
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Reception, Timing
from helexa.cortex.settings import CortexSettings, FederationSettings, ModelEntry
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream, TransportSettings
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import http_refusal
from helexa.protocol.ids import ModelId, NodeId, OperatorId, new_request_id
from helexa.protocol.messages import ExecuteRequest, Hello, Register, Role, Wire
from helexa.protocol.records import Offer, Record
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.work import (
    Fingerprint,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    WorkloadClass,
)
from helexa.util.asgi import Receive, Scope, Send, header
from helexa.util.background import background
from helexa.util.byte_streams import StreamTransport
from helexa.util.http_server import HttpServer, ServerLimits, serving
from helexa.util.metrics import Metrics
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Headers, Pool, Response, Tcp, UpstreamBroken

BIND = TransportSettings(bind=Address("memory", 0))
WAIT_S = 10


def hello(role: Role) -> Hello:
    return Hello(role=role, lowest=VERSION_MIN, highest=VERSION)


def model(
    name: str,
    *,
    state: ModelState = ModelState.LOADED,
    slots: int = 4,
    **more: Any,
) -> ModelCapability:
    classes = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.COMPLETION)
    return ModelCapability(
        model=ModelId(name), state=state, slots=slots, **{"classes": classes, **more}
    )


def served_by(answer: Answer) -> str:
    """`local`, or the name of the cortex that it came through."""
    _, _, via = answer.headers["x-helexa-served-by"].partition("; via=")
    return via.rpartition("=")[2] or "local"


@dataclass
class Ticks:
    """A clock of the test's for rates; everything else runs on the real one."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Neuron:
    """What a test's neuron says, and what it saw. `go` lets each further token out."""

    node: NodeId
    status: int = 200
    refusal: bytes = b""
    words: tuple[str, ...] = ("one", "two")
    holds_at: int | None = None
    """The token before which it waits for `go`."""
    go: anyio.Event = field(default_factory=anyio.Event)
    asked: list[tuple[Scope, bytes]] = field(default_factory=list)
    began: anyio.Event = field(default_factory=anyio.Event)
    client_left: anyio.Event = field(default_factory=anyio.Event)
    acts: Callable[[Scope, bytes, Send], Awaitable[None]] | None = None
    """What it does instead of all this."""

    def header(self, name: bytes) -> bytes | None:
        """Of the last request."""
        return header(self.asked[-1][0], name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        self.asked.append((scope, body))
        if self.acts is not None:
            await self.acts(scope, body, send)
            return
        if self.status != 200:
            await self._whole(send, self.status, self.refusal)
            return
        async with background() as tasks:
            tasks.start_soon(self._watch, receive)
            if json.loads(body).get("stream"):
                await self._stream(send)
            else:
                await self._hold(0)
                text = {"choices": [{"message": {"content": " ".join(self.words)}}]}
                await self._whole(send, 200, json.dumps(text).encode())

    async def _stream(self, send: Send) -> None:
        await self._hold(-1)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, word in enumerate(self.words):
            await self._hold(number)
            await send({"type": "http.response.body", "body": token(word), "more_body": True})
            self.began.set()
        await send({"type": "http.response.body", "body": USAGE + DONE})

    async def _hold(self, number: int) -> None:
        if number == self.holds_at:
            self.began.set()
            await self.go.wait()

    async def _whole(self, send: Send, status: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _watch(self, receive: Receive) -> None:
        if (await receive())["type"] == "http.disconnect":
            self.client_left.set()


class NeuronHost:
    def __init__(self, server: HttpServer) -> None:
        self.connected = anyio.Event()
        self.session: Session
        self._server = server

    async def on_session(self, session: Session) -> None:
        self.session = session
        self.connected.set()
        await session.wait_closed()

    async def on_message(self, inbound: Inbound) -> Wire | None:
        return None

    async def on_stream(self, _session: Session, _request: ExecuteRequest, stream: Stream) -> None:
        await self._server.serve_stream(stream)


class World:
    """The mesh, and who stands how with whom: `trust[asked, asking]`."""

    def __init__(self) -> None:
        self.network = MemoryNetwork(silence_s=0.05)
        self.members: dict[NodeId, Member] = {}
        self.trust: dict[tuple[NodeId, NodeId], Trust] = {}

    def stands(self, here: NodeId, other: NodeId) -> Standing:
        trust = self.trust.get((here, other), Trust.TRUSTED)
        return replace(self.members[other].own, trust=trust)


class Member:
    """One operator's cortex."""

    def __init__(
        self,
        world: World,
        own: Standing,
        neurons: Neurons,
        peers: Peers,
        fabric: Fabric,
        metrics: Metrics,
    ) -> None:
        self.world = world
        self.own = own
        self.node = own.node
        self.neurons = neurons
        self.peers = peers
        self.fabric = fabric
        self.metrics = metrics
        self.mesh: MeshNode
        self.client: Pool
        self.ticks = Ticks()
        self._tasks: TaskGroup
        self._receptions: dict[Session, Reception] = {}
        self.events: list[str] = []

    # --- as helexa.mesh.node.Host

    async def on_session(self, session: Session) -> None:
        if session.hello.role is Role.NEURON:
            await self._reception(session).attend(session)
        else:
            await self.peers.attend(session, self.world.stands(self.node, session.peer))

    async def on_message(self, inbound: Inbound) -> Wire | None:
        if inbound.session.hello.role is Role.NEURON:
            return await self._reception(inbound.session).on_message(inbound)
        return await self.peers.on_message(inbound)

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        await self.peers.on_stream(session, request, stream)

    def _reception(self, session: Session) -> Reception:
        return self._receptions.setdefault(session, self.neurons.reception())

    # --- for tests

    async def until(self, is_so: Callable[[], bool]) -> None:
        with anyio.fail_after(WAIT_S):
            while not is_so():
                await anyio.lowlevel.checkpoint()

    async def until_offered(self, *models: str, by: Member) -> None:
        await self.until(lambda: set(models) <= set(self.peers.offered_by(by.node)))

    async def until_offered_nothing_by(self, other: Member) -> None:
        """Its word came, which is that it has nothing; records said later stand beside it."""
        await self.until(lambda: other.node in self.peers._peers)
        peer = self.peers._peers[other.node]
        await self.until(lambda: peer.told is not None)
        peer.told = None
        self.peers._holders.put(peer)

    async def until_lost(self, other: Member) -> None:
        await self.until(lambda: self.peers.standing(other.node) is None)

    async def until_idle(self, *others: Member) -> None:
        """Return when no request is under way here or at the others."""
        for one in (self, *others):
            await self.until(lambda one=one: not (one.neurons.in_flight or one.peers.in_flight))

    async def until_sessions(self, other: Member, count: int) -> None:
        await self.until(lambda: len(self.peers._peers[other.node].sessions) == count)

    def terms(self, **settings: Any) -> None:
        self.fabric.set_terms(Terms.of(FederationSettings(**settings)))

    async def link(self, other: Member) -> Session:
        return await self.mesh.connect(other.mesh.ticket())

    def record_of(self, other: Member, *models: str, sequence: int = 1, **more: Any) -> None:
        """Membership took a record of another cortex, which offers these models."""
        offers = tuple(Offer(model=ModelId(name), slots=1, free=1, ready=True) for name in models)
        record = Record(
            node=other.node, sequence=sequence, issued_s=0, expires_s=1, offers=offers, **more
        )
        self.peers.gossiped(other.node, self.world.stands(self.node, other.node), record)

    async def neuron(self, *capabilities: ModelCapability, **behaviour: Any) -> Neuron:
        """A neuron that is registered here and serves these models until the cortex ends."""
        return await self._tasks.start(self._run_neuron, capabilities, behaviour)

    async def _run_neuron(
        self,
        capabilities: tuple[ModelCapability, ...],
        behaviour: dict[str, Any],
        *,
        task_status: TaskStatus[Neuron],
    ) -> None:
        key = NodeKey.generate()
        neuron = Neuron(key.node_id, **behaviour)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            server = await enter(
                serving(neuron, [], ServerLimits(), error_body=http_refusal, shutdown_grace_s=0)
            )
            host = NeuronHost(server)
            transports = {"memory": (self.world.network.open_transport, BIND)}
            mesh = await enter(MeshNode.running(key, hello(Role.NEURON), transports, host))
            tasks = await enter(background())
            tasks.start_soon(mesh.keep_connected, self.mesh.ticket())
            with anyio.fail_after(WAIT_S):
                await host.connected.wait()
            descriptor = NeuronDescriptor(
                node=key.node_id,
                operator=OperatorId(key.node_id),
                version="0",
                name=f"{self.own.name}-neuron",
                hardware=Fingerprint(machine="x", system="y"),
            )
            await host.session.ask(Register(descriptor=descriptor, capabilities=capabilities))
            task_status.started(neuron)
            await anyio.sleep_forever()

    async def ask(
        self,
        name: str,
        *,
        stream: bool = False,
        policy: str = "",
        body: dict[str, Any] | None = None,
    ) -> Answer:
        with await self.send(name, stream=stream, policy=policy, body=body) as response:
            with anyio.fail_after(WAIT_S):
                return Answer(response, await response.read(1 << 24))

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        sent = [(b"authorization", b"Bearer " + KEY.encode())]
        data = json.dumps(body).encode()
        with await self.client.request("POST", path, sent, data) as response:
            with anyio.fail_after(WAIT_S):
                return Answer(response, await response.read(1 << 24))

    async def send(
        self,
        name: str,
        *,
        stream: bool = False,
        policy: str = "",
        body: dict[str, Any] | None = None,
    ) -> Response:
        """The head of the answer; the caller reads or drops the rest."""
        asked = {"model": name, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        sent: list[tuple[bytes, bytes]] = [(b"authorization", b"Bearer " + KEY.encode())]
        if policy:
            sent.append((b"x-helexa-policy", policy.encode()))
        data = json.dumps({**asked, **(body or {})}).encode()
        with anyio.fail_after(WAIT_S):
            return await self.client.request("POST", "/v1/chat/completions", sent, data)

    async def get(self, path: str) -> Answer:
        sent = [(b"authorization", b"Bearer " + KEY.encode())]
        with await self.client.request("GET", path, sent) as response:
            return Answer(response, await response.read(1 << 24))

    async def at_door_of(
        self, other: Member, headers: Headers, name: str = "m", path: str = "/v1/chat/completions"
    ) -> Answer:
        """What this cortex is answered when it writes the headers itself."""
        session = self.mesh.session_with(other.node)
        assert session is not None
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}

        class Raw:
            label, authority, reusable = "raw", "raw", False

            async def dial(self, protocol: Any, tasks: Any) -> None:
                stream = await session.open_data(ExecuteRequest(request=new_request_id()))
                tasks.start_soon(StreamTransport(stream, protocol).run)

        async with Pool(Raw()).running() as pool:
            data = json.dumps(body).encode()
            try:
                with await pool.request("POST", path, headers, data) as response:
                    return Answer(response, await response.read(1 << 20))
            except UpstreamBroken:
                pass
        raise ConnectionResetError

    def count(self, direction: str, outcome: str) -> float:
        found = self.metrics.registry.get_sample_value(
            "helexa_federation_requests_total", {"direction": direction, "outcome": outcome}
        )
        return found or 0.0


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    yield World()


@asynccontextmanager
async def member(
    world: World,
    name: str,
    *,
    region: str = "",
    connects: bool = False,
    lends: bool = True,
    entries: tuple[ModelEntry, ...] = (),
    **settings: Any,
) -> AsyncIterator[Member]:
    """A cortex with a gateway and a door. `settings` are `[federation]`; both ways trust all.
    `entries` are its catalogue.
    """
    key = NodeKey.generate()
    own = Standing(
        node=key.node_id,
        operator=OperatorId(NodeKey.generate().node_id),
        trust=Trust.OWN,
        name=name,
        region=region,
    )
    late: list[Member] = []

    def heard(event: Any) -> None:
        late[0].events.append(f"{event['event']} {event.get('name', '')}".strip())

    async def connect(node: NodeId) -> Session:
        return await late[0].link(world.members[node])

    book = catalogue(entries)
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(0.5, 60.0),
        name=name,
        monotonic=anyio.current_time,
        random=random.Random(1).random,
        events=heard,
        catalogue=lambda: book,
    )
    peers = Peers(
        neurons,
        Terms.of(FederationSettings(**settings)),
        monotonic=anyio.current_time,
        connect=connect if connects else None,
        events=heard,
    )
    metrics = Metrics()
    fabric = Fabric(
        neurons, peers, own, random=random.Random(2).random, count=FederationCounts(metrics)
    )
    one = Member(world, own, neurons, peers, fabric, metrics)
    late.append(one)
    world.members[own.node] = one
    cortex_settings = CortexSettings(home=Path("/nowhere"), shutdown_grace_s=0)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(peers.running())
        turns = turns_of(cortex_settings, fabric, metrics)
        if lends:
            await enter(
                lending(
                    cortex_settings,
                    fabric=fabric,
                    peers=peers,
                    turns=turns,
                    monotonic=one.ticks,
                )
            )
        transports = {"memory": (world.network.open_transport, BIND)}
        one.mesh = await enter(MeshNode.running(key, hello(Role.CORTEX), transports, one))
        app = gateway(
            cortex_settings, keys=MemoryKeys(), fleet=fabric, metrics=metrics, turns=turns
        )
        listener = listen_tcp(Address("127.0.0.1", 0))
        port = listener.getsockname()[1]
        await enter(
            serving(app, [listener], ServerLimits(), error_body=http_refusal, shutdown_grace_s=0)
        )
        one._tasks = await enter(background())
        one.client = await enter(Pool(Tcp("127.0.0.1", port)).running())
        yield one
    assert not any(neurons.in_flight.values()), "a started request was never finished"
    assert not any(peers.in_flight.values()), "a started request was never finished"


@asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[tuple[Member, Member, Neuron]]:
    """`a` without neurons, `b` with the model m, linked; each trusts the other."""
    async with world() as mesh, member(mesh, "a", **settings) as a, member(mesh, "b") as b:
        neuron = await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        yield a, b, neuron
