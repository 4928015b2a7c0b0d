"""A cortex's settings: types, defaults and the reason for each bound. No reading of files here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from helexa.protocol.messages import SourceFile
from helexa.protocol.work import Price, WorkloadClass
from helexa.util.sockets import Address

TRANSPORTS: Final = ("tls", "iroh")
"""One that a machine lacks is left out of this default, and refused where it was asked for."""


class MeshSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a cortex finds other nodes and whom it lets in: `[mesh]`."""

    join: tuple[str, ...] = ()
    """Tickets of cortexes to begin with."""
    dns: tuple[str, ...] = ()
    """Names whose TXT records hold tickets: the only look-up outside the LAN."""
    lan: bool = True
    """Be found, and find, by multicast DNS; never on a socket that is bound to loopback."""
    realm: str = "helexa"
    """Nodes of another realm on the same LAN do not see one another."""
    preset: str = "wan"
    """Timing of membership: `wan`, `lan` or `loopback`."""
    transports: tuple[str, ...] = TRANSPORTS
    """Opened and dialled, best first."""
    admission: str = "open"
    """Other cortexes: `open`, `invite`, `approve` or `closed`."""
    neurons: str = "lan"
    """Neurons: as `admission`, or `lan`, which lets in those of this host and its networks."""
    allow: tuple[str, ...] = ()
    """Operators or nodes that are let in whatever the modes say."""
    deny: tuple[str, ...] = ()
    """Operators or nodes that never are; beats every other rule."""
    trust: tuple[str, ...] = ()
    """Operators or nodes that are let in and trusted."""
    members_max: Annotated[int, Meta(ge=16, le=65_536)] = 16_384


class FederationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is served for other operators and what is asked of them: `[federation]`.

    Lists of patterns: `*` and `?` as in file names; with a leading `!` what
    matches is out, and beats the others; an empty list, or one of `!` patterns
    alone, takes the rest.
    """

    lend_to: str = "trusted"
    """The lowest trust level whose requests are served here: known, trusted, own; `nobody`."""
    lend_classes: tuple[str, ...] = ()
    lend_models: tuple[str, ...] = ()
    lend_regions: tuple[str, ...] = ()
    """Regions of the asking cortex."""
    lend_concurrency: Annotated[int, Meta(ge=0, le=100_000)] = 64
    """Requests of one operator at once; the next is refused with 429."""
    lend_rate_per_minute: Annotated[int, Meta(ge=0, le=10_000_000)] = 6_000
    """Requests of one operator; 0 sets no limit."""
    price_prompt: Annotated[int, Meta(ge=0)] = 0
    """Nano-credits a token that other operators are asked for."""
    price_completion: Annotated[int, Meta(ge=0)] = 0
    borrow_from: str = "trusted"
    """The lowest trust level of cortexes that may be asked; `nobody`."""
    borrow_classes: tuple[str, ...] = ()
    borrow_models: tuple[str, ...] = ()
    borrow_regions: tuple[str, ...] = ()
    """Regions of the serving cortex: requests never go elsewhere."""
    borrow_price_max: Annotated[int, Meta(ge=0)] | None = None
    """Nano-credits a token, of either kind."""
    order: str = "local_first"
    """`local_first`, `cheapest` or `fastest`."""
    hops_max: Annotated[int, Meta(ge=0, le=8)] = 1
    """Cortexes that a request may pass after the one it came to; 0 turns borrowing off."""


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another name for a model. Several models may share one; `weight` is this one's part."""

    name: str
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the catalogue: what may be served, where, how: `[[models]]`.

    A model that a neuron has and no entry names is served as an entry of defaults would be.
    """

    id: str
    description: str = ""
    source: str = ""
    """`hf:OWNER/REPO[@REVISION]`, `https://...`, `file:/PATH` or `peer:`; empty: only where a
    neuron has it already."""
    files: tuple[SourceFile, ...] = ()
    quantisation: str = ""
    runtime: str = ""
    arguments: tuple[str, ...] = ()
    context_tokens: Annotated[int, Meta(ge=64, le=1 << 22)] | None = None
    slots: Annotated[int, Meta(ge=1, le=256)] | None = None
    deterministic: bool | None = None
    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    """What it needs, for placing it before any neuron has read its files; 0: by its files' size."""
    replicas_min: Annotated[int, Meta(ge=0, le=1024)] = 0
    replicas_max: Annotated[int, Meta(ge=1, le=1024)] | None = None
    """None: as many as there are neurons for it."""
    labels: dict[str, str] = {}
    """A neuron that runs it has all of these."""
    regions: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    """Neurons by name or id, or the head of an id; empty: any."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """An idle model may be unloaded for one of its own priority or a higher one."""
    keep_warm: bool = False
    """Never unloaded because nobody asks; still unloaded for one that may displace it."""
    idle_timeout_s: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    """Unloaded after so long without a request; 0: never; None: `orchestrator.idle_timeout_s`."""
    aliases: tuple[Alias, ...] = ()
    fallbacks: tuple[str, ...] = ()
    """Models to ask, in this order, when this one cannot be served."""
    price: Price | None = None
    classes: tuple[WorkloadClass, ...] = ()
    """Kinds of work that it is used for; empty: all that it can do."""
    queue_max: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    """None: `cortex.queue_max`."""
    max_wait_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """Longest wait of a request until it is served; None: `orchestrator.max_wait_s`."""
    pin: bool = False
    """Neurons never remove its files to make room on the disk."""


class OrchestratorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Placement and provisioning: `[orchestrator]`."""

    provision: bool = True
    """Load, unload and place models by demand; off: only what is asked for by hand."""
    idle_timeout_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 600.0
    """A model that nobody asked for this long is unloaded; 0: never."""
    max_wait_s: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    """Longest wait of a request for a model to be loaded; then 503 with how far it is."""
    swap_after_s: Annotated[float, Meta(ge=0, le=3_600)] = 0.1
    """How long requests for a cold model are collected at least, before a model in use gives way
    to it; for a model that loads slowly it is twice as long as it loads."""
    stay_s: Annotated[float, Meta(ge=0, le=3_600)] = 1.0
    """A model that was loaded stays at least this long, or six times what it takes to load where
    that is less."""
    settle_s: Annotated[float, Meta(ge=0, le=600)] = 5.0
    """After a start, nothing is moved for this long unless a request waits: neurons come back."""
    scale_up_queue_s: Annotated[float, Meta(gt=0, le=3_600)] = 1.0
    """Mean wait for a slot above which one more replica is loaded."""
    scale_down_after_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """How long a replica must have been superfluous before it is unloaded."""
    load_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 900.0
    share_pieces: str = "own"
    """Whose neurons give one another weights: `own`, `trusted`, `any` or `nobody`."""


class ResponsesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of responses that clients may come back for: `[responses]`."""

    retain_s: Annotated[float, Meta(ge=0, le=315_360_000)] = 2_592_000.0
    """OpenAI's thirty days; 0 keeps none."""
    stored_bytes_max: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 4 * 1024**3
    account_bytes_max: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 512 * 1024**2


class SurvivalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a request whose node fails: `[survival]`."""

    resume: bool = True
    """Have another replica of the same weights go on with a stream that broke off."""
    resume_attempts_max: Annotated[int, Meta(ge=1, le=64)] = 8
    """Times that one stream may break off."""
    resume_within_s: Annotated[float, Meta(gt=0, le=3_600)] = 60.0
    """How long somebody is looked for who goes on."""
    resume_bytes_max: Annotated[int, Meta(ge=64 * 1024, le=1 << 30)] = 16 * 1024 * 1024
    """Of one answer, as events; a longer one is not continued: some sixty thousand tokens."""
    resume_bytes_total_max: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 * 1024 * 1024
    """Kept of all answers under way, packed to about a twentieth; beside 64 KiB of each."""
    hedge_after_s: Annotated[float, Meta(ge=0, le=3_600)] = 0.0
    """Without a first byte for this long a second target is asked as well; 0: never."""
    eject_failures: Annotated[int, Meta(ge=0, le=1_000)] = 5
    """In a row, of one model at one node, until it is passed over; 0: never."""
    eject_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Of its last twenty requests that failed, from ten on."""
    eject_s: Annotated[float, Meta(gt=0, le=3_600)] = 5.0
    """Until it is tried again with one request; doubled each time that this fails, too."""
    eject_s_max: Annotated[float, Meta(gt=0, le=86_400)] = 300.0


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may ask how much, and whose turn it is: `[limits]`. 0 sets no limit."""

    requests_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """Of each key, where the key says nothing else; and so for the next six."""
    requests_burst: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests at once; 0: those of a second, and at least one."""
    tokens_per_minute: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    concurrent: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    models: tuple[str, ...] = ()
    prompt_tokens_max: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    output_tokens_max: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    fair: bool = True
    """Off: first come, first served."""
    credit_tokens: Annotated[int, Meta(ge=0, le=1 << 24)] = 1_024
    """By how much an account that comes back may be ahead of those that wait."""
    bulk_share: Annotated[float, Meta(ge=0, le=0.9)] = 0.1
    overcommit: Annotated[float, Meta(ge=0, le=16)] = 0.25
    """Requests beyond the slots of a model, in slots: no slot is to idle for a round trip."""
    lent: str = "after"
    """Requests of other operators: `after` the own clients' or `beside` them."""
    lent_weight: Annotated[float, Meta(gt=0, le=1_000)] = 1.0
    """Of each other operator, where they stand beside."""
    anonymous: bool = False
    anonymous_requests_per_minute: Annotated[float, Meta(gt=0, le=1_000_000)] = 10.0
    """Of one address, and so the rest."""
    anonymous_tokens_per_minute: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 4_000
    anonymous_concurrent: Annotated[int, Meta(ge=1, le=1_000)] = 1
    anonymous_output_tokens_max: Annotated[int, Meta(ge=1, le=1 << 24)] = 512
    anonymous_models: tuple[str, ...] = ()


class CortexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved: addresses parsed, folders absolute. A role is on when its socket is given."""

    home: Path
    """This role's own folder: node key, database, admin token, logs."""
    mesh_socket: Address = Address("0.0.0.0", 0)
    """Port 0 takes a free one at first start and the same one ever after."""
    orchestrator_socket: Address | None = None
    gateway_socket: Address | None = None
    portal_sockets: tuple[Address, ...] = ()
    gateway_tls_cert: Path | None = None
    gateway_tls_key: Path | None = None
    """PEM files; with both the gateway speaks TLS, and nothing else."""
    cors_origins: tuple[str, ...] = ()
    """Web pages whose scripts may use the gateway; `*` is all there are."""
    name: str = ""
    region: str = ""
    policy: str = "prefix_affinity"
    body_bytes_max: Annotated[int, Meta(ge=1024)] = 32 * 1024 * 1024
    """A larger body is refused with 413 before it is read; pictures fit, films do not."""
    bodies_bytes_max: Annotated[int, Meta(ge=1024)] = 1024**3
    """Of all requests under way together; one that finds no room is refused with 503."""
    header_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 20)] = 64 * 1024
    header_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 20.0
    """From the first byte of a request to the end of its headers."""
    handshake_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    body_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    write_stall_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """A client that reads nothing for this long while bytes wait for it is dropped."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 8_192
    tell_served_by: bool = True
    """Say in `x-helexa-served-by` which neuron and operator served."""
    receipts_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000
    """Requests whose `/v1/generation` is kept, in memory; the oldest goes first."""
    queue_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 1_024
    """Requests in flight per model; the next is refused with 429."""
    first_byte_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    """From dispatch to the neuron's first answer byte, a cold load included."""
    keepalive_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    health_every_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    lost_after_s: Annotated[float, Meta(ge=0.5, le=600)] = 4.0
    """A neuron silent for this long gets no new requests: four missed reports."""
    shutdown_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    relays: tuple[str, ...] = ()
    mesh: MeshSettings = MeshSettings()
    federation: FederationSettings = FederationSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    responses: ResponsesSettings = ResponsesSettings()
    survival: SurvivalSettings = SurvivalSettings()
    limits: LimitsSettings = LimitsSettings()
    models: tuple[ModelEntry, ...] = ()
    """The file's part of the catalogue."""
