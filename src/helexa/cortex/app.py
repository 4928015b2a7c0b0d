"""From settings to a running cortex: the one place where its parts meet.

Everything is started inside `running` and gone when its block ends, in the
reverse order: no new requests first, then the streams, then the links, then the
database.

A role is imported when its socket is given, so that a cortex costs the memory of what
it does: the HTTP server and its framework are 7 MB, the database 14, the portal's
templates 2.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import helexa
from helexa.cortex.accounts.keyring import Keyring, keyring
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.book import Book
from helexa.cortex.orchestrator.book_watch import watching
from helexa.cortex.orchestrator.entries import (
    KEPT_FILE,
    EntriesSource,
    FixedEntries,
    KeptEntries,
)
from helexa.cortex.orchestrator.fleet import Presence
from helexa.cortex.orchestrator.live_policy import FixedPolicy, LivePolicy
from helexa.cortex.orchestrator.marks import MarksKept
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.observe import CatalogueNews, Log
from helexa.cortex.orchestrator.place.opening import Place, opened
from helexa.cortex.orchestrator.provisioning.actor import Provisioner
from helexa.cortex.orchestrator.provisioning.composition import provisioning
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.orchestrator.sharing import Sharing, takes_part
from helexa.cortex.settings import CortexSettings
from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.events import State
from helexa.mesh.transport import OpenTransport
from helexa.protocol.anthropic.errors import http_refusal as anthropic_refusal
from helexa.protocol.errors import http_refusal
from helexa.protocol.ids import NodeId
from helexa.util.background import background
from helexa.util.budget import Budget
from helexa.util.home import announced, claimed, secret_token
from helexa.util.sockets import Address, listen_tcp

if TYPE_CHECKING:
    # For the types alone, see above.
    from helexa.cortex.gateway.admission.turns import Turns
    from helexa.cortex.gateway.keeper import Keeper
    from helexa.util.asgi import App
    from helexa.util.metrics import Metrics
    from helexa.util.tls_server import TlsServer

ADMIN_TOKEN_FILE: Final = "admin.token"  # noqa: S105 - the file's name
KEY_FILE: Final = "node.key"
_ERROR_BODIES_BELOW: Final = {b"/v1/messages": anthropic_refusal}
ROLES: Final = ("orchestrator", "gateway", "portal")

Emit: TypeAlias = Callable[[Mapping[str, Any]], None]
MakeApp: TypeAlias = "Callable[[], Awaitable[App]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cortex:
    """A cortex that serves. URLs of roles that are off are None or empty."""

    node_id: NodeId
    ticket: str
    mesh_addr: str
    admin_token_path: Path
    gateway_url: str | None
    orchestrator_url: str | None
    portal_urls: tuple[str, ...]
    neurons: Neurons
    book: Book
    marks: MarksKept
    sharing: Sharing
    log: Log | None
    """None where nobody can watch: without the orchestrator's socket."""
    keyring: Keyring
    place: Place
    provisioner: Provisioner | None
    """None where models are moved by hand alone."""
    roles: tuple[str, ...]
    gateway_tls: TlsServer | None
    """None where the gateway speaks plain HTTP, or is off."""

    def reread(self) -> None:
        """Take the operator's files as they are now, soon."""
        self.book.reread()
        if self.gateway_tls is not None:
            self.gateway_tls.reread()


@asynccontextmanager
async def running(
    settings: CortexSettings,
    *,
    events: Emit = lambda _event: None,
    policy: LivePolicy | None = None,
    entries: EntriesSource | None = None,
    open_transports: Mapping[str, OpenTransport] | None = None,
) -> AsyncIterator[Cortex]:
    """Yield when every socket that was asked for serves.

    `events` is told what happens, as JSON-shaped objects. `policy` holds the
    federation settings where they may change at run time, and `entries` the file's
    part of the catalogue; `open_transports`, by name, stand in for those of the
    settings. Raises AddressTaken, HomeUnusable,
    StoreUnusable, KeyUnusable, TlsUnusable, TransportUnusable and RequestRejected (an unknown
    policy), each with the words for an operator, before anything serves.
    """
    started_s = time.monotonic()
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(settings.home))
        # All sockets first: a taken one must refuse the start, not half of it.
        sockets = _Sockets(stack)
        tls = await _gateway_tls(stack, settings)
        gateway_url = sockets.open("gateway", settings.gateway_socket, is_tls=tls is not None)
        orchestrator_url = sockets.open("orchestrator", settings.orchestrator_socket)
        portal_urls = tuple(
            url for address in settings.portal_sockets if (url := sockets.open("portal", address))
        )
        key = NodeKey.load_or_create(settings.home / KEY_FILE)
        token_path = settings.home / ADMIN_TOKEN_FILE
        admin_token = secret_token(token_path)
        keys = stack.enter_context(keyring(settings.home, settings.limits))
        watched = "orchestrator" in sockets.by_role
        log = Log(epoch=token_hex(4), monotonic=time.monotonic, unix=time.time) if watched else None
        source = entries or FixedEntries(settings.models, settings.orchestrator)
        book = Book(KeptEntries(settings.home / KEPT_FILE), source, events)
        neurons = Neurons(
            catalogue=lambda: book.catalogue,
            policy=policies.named(settings.policy),
            timing=Timing(settings.health_every_s, settings.lost_after_s),
            name=settings.name,
            monotonic=time.monotonic,
            random=random.random,
            events=events,
            log=log,
            survival=settings.survival,
        )
        book.watch(neurons.catalogue_changed)
        if log is not None:
            book.watch(CatalogueNews(book, log).changed)
        marks = await stack.enter_async_context(MarksKept.running(settings.home, neurons))
        neurons.watch(marks.changed)
        roles = tuple(role for role in ROLES if role in sockets.by_role)
        place = await stack.enter_async_context(
            opened(
                settings,
                key,
                neurons,
                policy=policy or FixedPolicy(settings.federation),
                roles=roles,
                lends=bool(roles),
                emit=events,
                open_transports=open_transports,
            )
        )
        sharing = await stack.enter_async_context(
            Sharing.running(neurons, partial(_shares, book, place))
        )
        neurons.watch(sharing.changed)
        tasks = await stack.enter_async_context(background())
        tasks.start_soon(neurons.keep_time)
        await stack.enter_async_context(watching(book, source))
        provisioner = None
        if roles and settings.orchestrator.provision:
            provisioner = provisioning(
                lambda: book.orchestrator, neurons, place.fabric, peers=sharing.peers, emit=events
            )
            tasks.start_soon(provisioner.run, name="provisioner")

        cortex = Cortex(
            node_id=key.node_id,
            ticket=str(place.node.ticket()),
            mesh_addr=str(next(iter(place.node.transports.values())).bound),
            admin_token_path=token_path,
            gateway_url=gateway_url,
            orchestrator_url=orchestrator_url,
            portal_urls=portal_urls,
            neurons=neurons,
            book=book,
            marks=marks,
            sharing=sharing,
            log=log,
            keyring=keys,
            place=place,
            provisioner=provisioner,
            roles=roles,
            gateway_tls=tls,
        )
        if sockets.by_role:
            from helexa.util.metrics import Metrics  # Prometheus; only a served socket has numbers.

            metrics = Metrics()
            turns = _turns(settings, cortex, metrics)
            shelf = await _shelf(stack, settings) if gateway_url else None
            bodies = Budget(settings.bodies_bytes_max)
            metrics.gauge(
                "gateway_body_bytes", "Of the bodies of requests under way."
            ).set_function(lambda: float(bodies.held))
            apps = _apps(settings, cortex, admin_token, started_s, metrics, turns, shelf, bodies)
            await _lend(stack, settings, cortex, turns, bodies)
            await _serve(stack, settings, sockets.by_role, apps, tls)
        stack.enter_context(announced(settings.home, _run_facts(cortex)))
        yield cortex


async def _gateway_tls(stack: AsyncExitStack, settings: CortexSettings) -> TlsServer | None:
    """Raises TlsUnusable."""
    certificate, key = settings.gateway_tls_cert, settings.gateway_tls_key
    if settings.gateway_socket is None or certificate is None or key is None:
        return None
    from helexa.util.tls_pair import TlsFiles  # With Python's ssl; see the top.
    from helexa.util.tls_server import TlsServer

    files = TlsFiles(certificate=certificate, key=key)
    return await stack.enter_async_context(TlsServer.running(files, name="gateway"))


def _turns(settings: CortexSettings, cortex: Cortex, metrics: Metrics) -> Turns:
    from helexa.cortex.gateway.app import turns_of  # The gateway's way of a request.

    fabric = cortex.place.fabric
    turns = turns_of(settings, fabric, metrics)
    fabric.queues = turns.waits
    return turns


async def _lend(
    stack: AsyncExitStack, settings: CortexSettings, cortex: Cortex, turns: Turns, bodies: Budget
) -> None:
    from helexa.cortex.gateway.peer_door import lending  # The gateway's way of a request.

    await stack.enter_async_context(
        lending(
            settings,
            fabric=cortex.place.fabric,
            peers=cortex.place.peers,
            turns=turns,
            bodies=bodies,
            monotonic=time.monotonic,
        )
    )


async def _shelf(stack: AsyncExitStack, settings: CortexSettings) -> Keeper | None:
    from helexa.cortex.gateway.keeper import keeping  # The database.

    return await stack.enter_async_context(
        keeping(settings.home, settings.responses, line_bytes_max=settings.body_bytes_max)
    )


async def _serve(
    stack: AsyncExitStack,
    settings: CortexSettings,
    listeners: Mapping[str, Sequence[socket.socket]],
    apps: Mapping[str, MakeApp],
    gateway_tls: TlsServer | None,
) -> None:
    from helexa.util.http_server import ServerLimits, serving  # uvicorn; see the top.

    limits = ServerLimits(
        header_bytes_max=settings.header_bytes_max,
        header_timeout_s=settings.header_timeout_s,
        handshake_timeout_s=settings.handshake_timeout_s,
        write_stall_s=settings.write_stall_s,
        connections_max=settings.connections_max,
    )
    # The gateway is entered last, so it is left first and with its full grace.
    for role in ("portal", "orchestrator", "gateway"):
        if role in listeners:
            await stack.enter_async_context(
                serving(
                    await apps[role](),
                    listeners[role],
                    limits,
                    error_body=http_refusal,
                    error_bodies_below=_ERROR_BODIES_BELOW if role == "gateway" else None,
                    websockets=role == "orchestrator",
                    tls=gateway_tls if role == "gateway" else None,
                    shutdown_grace_s=settings.shutdown_grace_s if role == "gateway" else 1.0,
                )
            )


class _Sockets:
    """Listening sockets by role, closed with the stack unless a server took them over."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.by_role: dict[str, list[socket.socket]] = {}

    def open(self, role: str, address: Address | None, *, is_tls: bool = False) -> str | None:
        """The URL a client on this machine can use, or None when the role is off."""
        if address is None:
            return None
        listener = listen_tcp(address)
        self._stack.callback(listener.close)
        self.by_role.setdefault(role, []).append(listener)
        scheme = "https" if is_tls else "http"
        return f"{scheme}://{address.reachable_host()}:{listener.getsockname()[1]}"


def _apps(
    settings: CortexSettings,
    cortex: Cortex,
    admin_token: str,
    started_s: float,
    metrics: Metrics,
    turns: Turns,
    shelf: Keeper | None,
    bodies: Budget,
) -> Mapping[str, MakeApp]:
    """By role, what makes its app; each brings its own imports."""
    from helexa.cortex.gateway.observe import FederationCounts

    metrics.of_process()
    _fleet_metrics(metrics, cortex.neurons)
    _mesh_metrics(metrics, cortex.place)
    if cortex.provisioner is not None:
        _provisioning_metrics(metrics, cortex.provisioner)
    if shelf is not None:
        _responses_metrics(metrics, shelf)
    cortex.place.fabric.count = FederationCounts(metrics)
    if cortex.log is not None:
        cortex.place.fabric.routed = cortex.log.routed

    def status() -> Mapping[str, Any]:
        return {
            "node_id": cortex.node_id,
            "name": settings.name,
            "version": helexa.__version__,
            "roles": cortex.roles,
            "uptime_s": round(time.monotonic() - started_s, 3),
            "ticket": cortex.ticket,
            "mesh_addr": cortex.mesh_addr,
            "gateway_url": cortex.gateway_url,
            "orchestrator_url": cortex.orchestrator_url,
            "portal_urls": cortex.portal_urls,
            "neurons": len(cortex.neurons.view.neurons),
            "models": len(cortex.neurons.view.holders),
            "in_flight": sum(cortex.neurons.in_flight.values()),
            "gateway_tls": _tls_facts(cortex.gateway_tls),
        }

    async def portal() -> App:
        from helexa.cortex.portal.app import portal as portal_app  # Jinja2.
        from helexa.cortex.portal.overview import Overview, model_rows, neuron_rows

        def overview(host: str) -> Overview:
            scheme, _, port = (cortex.gateway_url or "").rpartition(":")
            scheme = scheme.partition(":")[0]
            view = cortex.neurons.view
            return Overview(
                name=settings.name,
                version=helexa.__version__,
                node=str(cortex.node_id),
                base_url=f"{scheme}://{host}:{port}/v1" if port else "",
                roles=cortex.roles,
                models=model_rows(view),
                neurons=neuron_rows(view, cortex.neurons.now_s()),
            )

        return portal_app(overview)

    async def orchestrator() -> App:
        from helexa.cortex.orchestrator.api import Signatures, application  # Starlette.
        from helexa.util.health import health_routes

        return application(
            admin_token=admin_token,
            neurons=cortex.neurons,
            keys=cortex.keyring.opened,
            status=status,
            health=health_routes(why_not_ready=lambda: "", metrics=metrics),
            explain=cortex.place.fabric.explained,
            marks=cortex.marks,
            mesh=cortex.place.control,
            log=cortex.log,
            sharing=cortex.sharing,
            book=cortex.book,
            signatures=Signatures(
                cortex.node_id, cortex.place.acquaintances.is_own, unix=time.time
            ),
        )

    async def gateway() -> App:
        from helexa.cortex.gateway.app import gateway as gateway_app  # Starlette.

        keys = await cortex.keyring.opened()
        return gateway_app(
            settings,
            keys=keys,
            fleet=cortex.place.fabric,
            metrics=metrics,
            node=cortex.node_id,
            shelf=shelf,
            turns=turns,
            bodies=bodies,
        )

    return {"gateway": gateway, "orchestrator": orchestrator, "portal": portal}


def _tls_facts(tls: TlsServer | None) -> Mapping[str, Any] | None:
    if tls is None:
        return None
    return {
        "certificate": str(tls.files.certificate),
        "names": tls.pair.names,
        "valid_until_s": tls.pair.valid_until_s,
        "fault": tls.fault,
    }


def _shares(book: Book, place: Place, node: NodeId) -> bool:
    standing = place.acquaintances.standing_of(node)
    own = place.fabric.own
    mode = book.orchestrator.share_pieces
    return takes_part(mode, standing, has_operator=str(own.operator) != own.node)


def _fleet_metrics(metrics: Metrics, neurons: Neurons) -> None:
    gauge = metrics.gauge("neurons", "Neurons by presence.", ["presence"])

    def count(presence: Presence) -> float:
        return float(sum(one.presence is presence for one in neurons.view.neurons.values()))

    for presence in Presence:
        gauge.labels(presence.value).set_function(partial(count, presence))
    metrics.gauge("models", "Models that some neuron lists.").set_function(
        lambda: float(len(neurons.view.holders))
    )
    metrics.gauge("passed_over", "Models at a node that failed too often.").set_function(
        lambda: float(neurons.breakers.open_at(neurons.now_s()))
    )


def _provisioning_metrics(metrics: Metrics, provisioner: Provisioner) -> None:
    def waiting() -> Mapping[tuple[str, ...], float]:
        return {(model,): count for model, count in provisioner.room.places.items()}

    def commands() -> Mapping[tuple[str, ...], float]:
        return {key: float(count) for key, count in provisioner.commands.items()}

    metrics.read_gauge("waiting", "Requests that wait for a model.", ["model"], waiting)
    metrics.read_counter(
        "provisioning_commands",
        "Commands to neurons by kind and outcome.",
        ["kind", "outcome"],
        commands,
    )


def _responses_metrics(metrics: Metrics, keeper: Keeper) -> None:
    metrics.gauge("responses_bytes", "Of responses that are kept.").set_function(
        lambda: float(keeper.kept_bytes)
    )
    metrics.gauge("responses_pending", "Responses that are not on the disk yet.").set_function(
        lambda: float(keeper.pending)
    )
    metrics.read_counter(
        "responses_not_kept",
        "Responses that were to be kept and are not.",
        [],
        lambda: {(): float(keeper.not_kept)},
    )


def _mesh_metrics(metrics: Metrics, place: Place) -> None:
    node = place.node

    def members() -> Mapping[tuple[str, ...], float]:
        found = Counter(member.state for member in place.overlay.core.members.values())
        return {(state.value,): found[state] for state in State}

    def rejected() -> Mapping[tuple[str, ...], float]:
        by_reason = place.overlay.core.counters.rejected.items()
        frames = node.frames_rejected + sum(one.frames_rejected for one in node.sessions)
        return {("frame",): frames, **{(reason,): count for reason, count in by_reason}}

    def sent_and_received() -> Mapping[tuple[str, ...], float]:
        sent, received = place.overlay.traffic()
        return {("sent",): sent, ("received",): received}

    def links() -> Mapping[tuple[str, ...], float]:
        found = Counter(session.transport for session in node.sessions)
        return {(name,): found[name] for name in node.transports}

    def refused() -> Mapping[tuple[str, ...], float]:
        return {(name,): count for name, count in node.refused().items()}

    metrics.read_gauge("mesh_members", "Other cortexes by state.", ["state"], members)
    metrics.read_gauge("mesh_links", "Sessions that stand.", ["transport"], links)
    metrics.read_counter("mesh_rejected", "What peers said wrong.", ["reason"], rejected)
    metrics.read_counter("mesh_refused", "Links that came to nothing.", ["transport"], refused)
    metrics.read_counter("mesh_bytes", "Of control messages.", ["direction"], sent_and_received)


def _run_facts(cortex: Cortex) -> dict[str, Any]:
    tls = cortex.gateway_tls
    return {
        "role": "cortex",
        "node_id": cortex.node_id,
        "ticket": cortex.ticket,
        "gateway_url": cortex.gateway_url,
        "gateway_certificate": None if tls is None else str(tls.files.certificate.absolute()),
        "orchestrator_url": cortex.orchestrator_url,
        "portal_urls": cortex.portal_urls,
    }
