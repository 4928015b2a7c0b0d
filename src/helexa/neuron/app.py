"""From settings to a running neuron: the one place where its parts meet.

Everything is started inside `running` and gone when its block ends, in the
reverse order: goodbye first, then no new requests, then the streams within their
grace, then the links, then the children.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

import helexa
from helexa.mesh.discovery.advert import Found
from helexa.mesh.discovery.lan import Lan
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.operators.credentials import Credentials, load_credentials
from helexa.mesh.sticky import note_shared_port, sticky_port
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import OpenTransport, TransportSettings
from helexa.mesh.transports import load_all, worth_opening
from helexa.neuron import budget, hardware
from helexa.neuron.allegiance import Allegiance
from helexa.neuron.announce import Announcer, Told
from helexa.neuron.control import NeuronControl, SupplyControl
from helexa.neuron.exchange.exchange import PieceExchange
from helexa.neuron.exchange.figures import Measured
from helexa.neuron.hardware import cpu
from helexa.neuron.host import Host
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.library import Library
from helexa.neuron.models.served import Served
from helexa.neuron.models.servers import keys_of, servers_of
from helexa.neuron.models.store import DEMO_FOLDER, ModelStore
from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.models.supply.standing import SupplyStanding
from helexa.neuron.models.supply.supply import pulling, pulls_of
from helexa.neuron.serving.app import Routes
from helexa.neuron.serving.doors import ApiDoor, MeshDoor, WorkDoor
from helexa.neuron.serving.execute import Executor
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.serving.pictures.composition import pictures_of
from helexa.neuron.serving.supply import SupplyRoutes
from helexa.neuron.serving.work_socket import NAME, WorkPaths
from helexa.neuron.settings import TRANSPORTS, NeuronSettings
from helexa.neuron.supervisor import sandbox
from helexa.neuron.supervisor.engine import launched
from helexa.neuron.supervisor.grants import Machine
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.process import Terms
from helexa.neuron.supervisor.roster import Roster, World
from helexa.neuron.supervisor.run_folder import run_folder
from helexa.neuron.supervisor.sandbox import Sandbox
from helexa.neuron.telling import Emit, StateEvents, descriptor_of, load_of, status_of
from helexa.protocol.errors import HelexaError, http_refusal
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import Hello, Role
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.via import VIA_HEADER, new_mark
from helexa.protocol.work import Fingerprint, Load
from helexa.runtime import adapters
from helexa.util.background import background
from helexa.util.home import HomeUnusable, announced, claimed, secret_token
from helexa.util.http_server import App, ServerLimits, serving
from helexa.util.keeper import Keeper, keeping
from helexa.util.sockets import Address, listen_tcp, listen_unix

TOKEN_FILE: Final = "api.token"  # noqa: S105 - the file's name
KEY_FILE: Final = "node.key"
PORT_FILE: Final = "control.port"
DIGESTS_FILE: Final = "digests.json"
LOAD_TIMES_FILE: Final = "loads.json"
ENGINES_FOLDER: Final = "engines"
"""The home of all children: engines keep there what they compiled for this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron:
    """A neuron that serves."""

    node_id: NodeId
    ticket: str
    api_url: str
    control_addr: str
    admin_token_path: Path
    roster: Roster
    announcer: Announcer
    mesh: MeshNode
    pulls: Pulls
    exchange: PieceExchange


@asynccontextmanager
async def running(  # noqa: PLR0915 - the one composition, read from top to bottom
    settings: NeuronSettings,
    *,
    events: Emit | None = None,
    open_transports: Mapping[str, OpenTransport] | None = None,
) -> AsyncIterator[Neuron]:
    """Yield when it serves: requests on its sockets, cortexes that dial in, models on demand.

    `events` is told what happens, as JSON-shaped objects; `open_transports`, by name,
    stand in for those of the settings. Raises AddressTaken, HomeUnusable,
    KeyUnusable, TicketMalformed and TransportUnusable, each with the words for
    an operator, before anything serves.
    """
    started_s = time.monotonic()
    if open_transports is None:
        by_name, names = settings.transports != TRANSPORTS, tuple(settings.transports)
        if not by_name:
            names = tuple(worth_opening(names, settings.control_socket))
        open_transports = load_all(names, each=by_name)
    tickets = [Ticket.parse(text) for text in settings.cortexes]
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(settings.home))
        # The socket first: a taken one must refuse the start, not half of it.
        listener, api_url = _listening(settings.api_socket)
        stack.callback(listener.close)
        key = NodeKey.load_or_create(settings.home / KEY_FILE)
        credentials = load_credentials(settings.home, key, time.time(), role=Role.NEURON)
        token_path = settings.home / TOKEN_FILE
        token = secret_token(token_path)
        machine = await anyio.to_thread.run_sync(hardware.fingerprint)

        digests = Digests(settings.home / DIGESTS_FILE)
        await stack.enter_async_context(digests.running())
        store = _store(settings, digests)
        await store.scan()
        pulls = pulls_of(settings, store)
        supply = SupplyStanding(pulls, store.disk_bytes)
        store.absence = supply.absence
        keys = keys_of(settings)
        mark = new_mark()
        served = Served(servers_of(settings, keys, ((VIA_HEADER, mark),)))
        library = Library(store, served)
        memory = _memory_of(settings, machine)
        run = stack.enter_context(run_folder(settings.home))
        world = World(
            memory=memory,
            run=run,
            threads=cpu.compute_threads(machine.cpus),
            machine=Machine(
                devices=machine.devices,
                look=hardware.devices,
                cores=cpu.cores(hardware.SYSTEM_ROOT),
                pins=settings.pin_cpus,
            ),
            load_times=LoadTimes(settings.home / LOAD_TIMES_FILE),
            completed=supply.completed,
            find_adapter=partial(
                adapters.adapter_for, order=settings.runtime_order, elsewhere=settings.runtimes
            ),
            keys=keys,
            launch=partial(
                launched,
                terms=_terms(settings, stack.enter_context(keeping())),
                box=await _sandbox(settings),
            ),
        )
        roster = Roster(library, settings, world)
        await stack.enter_async_context(roster.running())
        if events is not None:
            roster.observe(StateEvents(roster, events).look)

        metrics = NeuronMetrics(roster)
        metrics.metrics.of_process()
        executor = Executor(
            roster,
            metrics,
            body_bytes_max=settings.body_bytes_max,
            keepalive_s=settings.keepalive_s,
            pictures=pictures_of(settings),
            mark=mark,
        )
        work_path, work_door = run / NAME, WorkDoor()

        def load(sequence: int) -> Load:
            found = load_of(roster, pulls, memory(), sequence, time.monotonic() - started_s)
            return msgspec.structs.replace(found, replicas=executor.prompts.beside(found.replicas))

        descriptor = descriptor_of(key, settings, credentials, machine)
        told = Told(descriptor=descriptor, load=load, ticket=lambda: str(mesh.ticket()))
        announcer = Announcer(roster, told, WorkPaths(work_path, work_door))
        of_tickets = frozenset(ticket.node for ticket in tickets)
        served.is_own = lambda node: node in announcer.cortexes | of_tickets
        allegiance = Allegiance(
            [ticket.node for ticket in tickets],
            credentials,
            takes_found=settings.lan and not tickets and not settings.control_socket.is_loopback,
            unix=time.time,
        )
        exchange = PieceExchange(
            key.node_id,
            pulls,
            is_kin=allegiance.is_kin,
            origin_lanes=settings.pull_connections,
        )
        control = NeuronControl(
            roster,
            lambda: load(0),
            executor.cancel,
            supply=SupplyControl(roster, pulls, exchange.give),
        )
        metrics.metrics.registry.register(Measured(exchange.figures))
        host = Host(announcer, control, allegiance, exchange)
        mesh = await stack.enter_async_context(
            _mesh(key, settings, credentials, host, open_transports)
        )
        await stack.enter_async_context(exchange.running(mesh))
        await stack.enter_async_context(pulling(settings, pulls, roster.is_in_use, exchange))
        neuron = Neuron(
            node_id=key.node_id,
            ticket=str(mesh.ticket()),
            api_url=api_url,
            control_addr=str(next(iter(mesh.transports.values())).bound),
            admin_token_path=token_path,
            roster=roster,
            announcer=announcer,
            mesh=mesh,
            pulls=pulls,
            exchange=exchange,
        )

        def status() -> Mapping[str, Any]:
            return {
                **_run_facts(neuron),
                **status_of(descriptor, load(0), mesh, announcer),
                "models": roster.capabilities(),
                "servers": [
                    {"server": name, "reason": why} for name, why in served.troubles.items()
                ],
                "exchange": exchange.standing(),
                "last_faults": metrics.last_faults,
            }

        routes = Routes(roster, executor, metrics.metrics, status, SupplyRoutes(roster, pulls))
        api = routes.behind(ApiDoor(settings.api_socket, token), management=True)
        work = routes.behind(work_door, path_check=True)
        # Entered after the mesh and the roster, so left before them and with their full grace.
        tasks = await stack.enter_async_context(background())
        host.streams = await stack.enter_async_context(
            _serving(settings, routes.behind(MeshDoor()), [])
        )
        # Peers that wait for news of a piece are no reason to stay.
        host.pieces = await stack.enter_async_context(_serving(settings, exchange.app, [], 0))
        await stack.enter_async_context(_serving(settings, work, [listen_unix(work_path)]))
        await stack.enter_async_context(_serving(settings, api, [listener]))
        stack.push_async_callback(announcer.goodbye, "this neuron shuts down")
        host.opened.set()
        for ticket in tickets:
            tasks.start_soon(mesh.keep_connected, ticket, name="cortex")
        if allegiance.takes_found:
            await stack.enter_async_context(_looking_around(settings, allegiance, mesh, tasks))
        for model in settings.preload:
            tasks.start_soon(_preload, roster, model, events, name="preload")
        stack.enter_context(announced(settings.home, _run_facts(neuron)))
        yield neuron


async def _preload(roster: Roster, model: str, events: Emit | None) -> None:
    try:
        await roster.load(model)
    except HelexaError as error:
        # Serving the other models is better than not starting; the operator is told.
        if events is not None:
            events({"event": "preload_failed", "model": model, "reason": error.message})


def _listening(address: Address) -> tuple[socket.socket, str]:
    """The API's socket, and the URL that a client on this machine can use."""
    if address.path:
        return listen_unix(Path(address.path)), str(address)
    listener = listen_tcp(address)
    return listener, f"http://{address.reachable_host()}:{listener.getsockname()[1]}"


def _store(settings: NeuronSettings, digests: Digests) -> ModelStore:
    try:
        settings.models_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(
            f"cannot use the models folder {settings.models_dir}: {error.strerror or error}"
        ) from error
    demo = DEMO_FOLDER if settings.demo_models and DEMO_FOLDER.is_dir() else None
    return ModelStore(settings.models_dir, digests, demo_folder=demo)


def _memory_of(settings: NeuronSettings, machine: Fingerprint) -> Callable[[], budget.Memory]:
    total = machine.memory_bytes
    if settings.memory_limit:
        total = min(total, settings.memory_limit + settings.memory_reserve)

    def memory() -> budget.Memory:
        return budget.Memory(
            total=total,
            available=cpu.memory_available(hardware.SYSTEM_ROOT),
            reserve=settings.memory_reserve,
        )

    return memory


async def _sandbox(settings: NeuronSettings) -> Sandbox | None:
    """Raises SandboxUnusable."""
    if settings.sandbox == "none":
        return None
    await anyio.to_thread.run_sync(sandbox.check, settings.sandbox)
    return Sandbox(
        kind=settings.sandbox, of_user=os.geteuid() != 0, readable=settings.sandbox_readable
    )


def _terms(settings: NeuronSettings, keeper: Keeper) -> Terms:
    """Under which children live."""
    home = settings.home / ENGINES_FOLDER
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Terms(
        home=home,
        nice=settings.child_nice,
        file_bytes_max=settings.child_file_bytes_max,
        memory_factor=settings.child_memory_factor,
        keeper=keeper,
    )


def _mesh(
    key: NodeKey,
    settings: NeuronSettings,
    credentials: Credentials,
    host: Host,
    open_transports: Mapping[str, OpenTransport],
) -> Any:
    hello = Hello(
        role=Role.NEURON,
        lowest=VERSION_MIN,
        highest=VERSION,
        agent=f"helexa/{helexa.__version__}",
        operator=credentials.operator,
        certificate=credentials.certificate_blob,
        name=settings.name or platform.node(),
    )
    transport = TransportSettings(bind=settings.control_socket, relays=settings.relays)
    note = settings.home / PORT_FILE
    if len(open_transports) > 1:
        note_shared_port(note, settings.control_socket)
    transports = {
        name: (sticky_port(opener, note), transport) for name, opener in open_transports.items()
    }
    return MeshNode.running(key, hello, transports, host)


def _looking_around(
    settings: NeuronSettings, allegiance: Allegiance, mesh: MeshNode, tasks: TaskGroup
) -> AbstractAsyncContextManager[Lan]:
    def on_found(found: Found) -> None:
        allegiance.found(found, tasks, mesh.keep_connected, mesh.is_connected)

    return Lan.running(None, on_found, realm=settings.realm)


def _serving(
    settings: NeuronSettings, app: App, sockets: list[socket.socket], grace_s: float | None = None
) -> Any:
    return serving(
        app,
        sockets,
        ServerLimits(),
        error_body=http_refusal,
        shutdown_grace_s=settings.shutdown_grace_s if grace_s is None else grace_s,
    )


def _run_facts(neuron: Neuron) -> Mapping[str, Any]:
    return {
        "role": "neuron",
        "node_id": neuron.node_id,
        "ticket": neuron.ticket,
        "api_url": neuron.api_url,
        "control_addr": neuron.control_addr,
        "version": helexa.__version__,
    }
