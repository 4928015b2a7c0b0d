"""A neuron's settings: types, defaults and the reason for each bound. No reading of files here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from helexa.util.sockets import Address

TRANSPORTS: Final = ("tls", "iroh")
"""One that a machine lacks is left out of this default, and refused where it was asked for."""
SANDBOXES: Final = ("none", "bubblewrap", "systemd")


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model is served: `[neuron.models.NAME]`. None leaves the neuron's choice."""

    context_tokens: Annotated[int, Meta(ge=64, le=1 << 22)] | None = None
    slots: Annotated[int, Meta(ge=1, le=256)] | None = None
    deterministic: bool | None = None
    """Answers do not depend on what else runs; costs speed (llama.cpp: no flash attention)."""
    runtime: str = ""
    """By name; empty takes the first that serves the files."""
    arguments: tuple[str, ...] = ()
    """`NAME=VALUE` for the runtime."""
    dimensions: tuple[Annotated[int, Meta(ge=1, le=1 << 20)], ...] = ()
    """That its vectors were trained to be cut to, besides those that its files name."""
    devices: tuple[str, ...] | None = None
    """By number or UUID; none at all is the processor alone."""
    device_count: Annotated[int, Meta(ge=1, le=64)] | None = None
    devices_shared: bool | None = None
    or_cpu: bool | None = None
    """It runs on the processor where no device is free for it."""
    cpus: str = ""
    """`0-7,16`: the CPUs that it runs on."""
    server: str = ""
    """Of `[neuron.servers]`: whose command runs these files, with the runtime openai_compatible."""


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an engine is: `[neuron.runtimes.NAME]`. It names programs, so no cortex may set it."""

    python: Path | None = None
    """The interpreter of an environment that has the engine; None is this neuron's own."""
    program: Path | None = None
    """An executable in place of the packaged engine, where the runtime can take one."""
    arguments: tuple[str, ...] = ()
    """Further words for the engine's command line, as they are."""
    environment: dict[str, str] = {}


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible server, reached or run: `[neuron.servers.NAME]`."""

    url: str = ""
    """Of one that runs already, up to before `/chat/completions`."""
    command: tuple[str, ...] = ()
    """That starts one for a model; words in braces are filled in."""
    key_file: Path | None = None
    """Holds what it is shown as a bearer token."""
    models: dict[str, str] = {}
    """NAME here = NAME there; empty takes all that it lists, under their own names."""
    offers: tuple[str, ...] = ()
    """What its models can do, where it does not say so itself."""
    context_tokens: Annotated[int, Meta(ge=64, le=1 << 22)] | None = None
    slots: Annotated[int, Meta(ge=1, le=4096)] | None = None
    environment: dict[str, str] = {}
    ready_path: str = ""
    ready_within_s: Annotated[float, Meta(gt=0, le=7200)] | None = None
    """None is 5 for a URL, which answers or does not, and 300 for a command."""


class NeuronSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved: addresses parsed, folders absolute."""

    home: Path
    """This role's own folder: node key, logs, sockets."""
    control_socket: Address = Address("0.0.0.0", 0)
    api_socket: Address = Address("127.0.0.1", 8060)
    models_dir: Path
    cortexes: tuple[str, ...] = ()
    """Tickets to dial."""
    name: str = ""
    region: str = ""
    labels: dict[str, str] = {}
    demo_models: bool = True
    preload: tuple[str, ...] = ()
    memory_limit: int = 0
    """Bytes that all replicas together may use; 0 takes what the machine or container has."""
    memory_reserve: int = 512 * 1024 * 1024
    """Bytes left to the rest of the machine."""
    disk_limit: int = 0
    """Bytes that the models folder may take; 0 takes what the disk has less `disk_reserve`."""
    disk_reserve: int = 2 * 1024 * 1024 * 1024
    """Bytes of the disk that a pull leaves free."""
    pulls_max: Annotated[int, Meta(ge=1, le=64)] = 2
    """Models pulled at once; the others wait in order."""
    pull_connections: Annotated[int, Meta(ge=1, le=32)] = 4
    """For each file that is pulled."""
    pull_stall_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """A connection that brings nothing for this long is given up for another."""
    hub: str = "https://huggingface.co"
    """What `hf:` sources are asked of."""
    hub_token_file: Path | None = None
    """Holds the hub's token, which goes to the hub alone."""
    file_folders: tuple[Path, ...] = ()
    """Where `file:` sources may lie, besides the models folder."""
    share_devices: bool = False
    """Several models may be on one device, each with its bytes; else each has its own devices."""
    pin_cpus: bool = False
    """Every model runs on cores of its own: its `threads`, or half of them."""
    context_tokens: Annotated[int, Meta(ge=64, le=1 << 22)] = 8_192
    """Per request, where a model does not say; never above what the model was trained for."""
    slots: Annotated[int, Meta(ge=1, le=256)] = 4
    """Requests served at once by one replica."""
    make_room: bool = True
    """For what is asked of this neuron's own API: idle models leave for one that does not fit."""
    stay_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """A model that has just been loaded does not leave for another before."""
    idle_timeout_s: Annotated[float, Meta(ge=0, le=2_592_000)] = 0.0
    """A model that nobody used for so long is unloaded; 0: never, cortexes decide."""
    sandbox: str = "none"
    """What runtimes are put into: `none`, `bubblewrap`, `systemd`."""
    sandbox_readable: tuple[Path, ...] = ()
    """What they may read besides the system, their model and their engine."""
    child_nice: Annotated[int, Meta(ge=0, le=19)] = 0
    """How far children stand back from other programs of the machine."""
    child_memory_factor: Annotated[float, Meta(ge=0, le=100)] = 2.0
    """A child that takes more than so many times what it was granted, and a GiB, is ended."""
    child_file_bytes_max: int = 0
    """Of one file that a child writes; 0 sets no limit."""
    queue_max: Annotated[int, Meta(ge=0, le=65_536)] = 256
    """Requests waiting per model; the next is refused with 429."""
    body_bytes_max: Annotated[int, Meta(ge=1024)] = 32 * 1024 * 1024
    images_max: Annotated[int, Meta(ge=0, le=4096)] = 16
    """Pictures in one request."""
    image_bytes_max: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    """Of one picture, as it is sent."""
    image_pixels_max: Annotated[int, Meta(ge=1, le=1 << 32)] = 16_000_000
    """Of one picture, as its header says: a small file can unfold to gigabytes."""
    images_pixels_max: Annotated[int, Meta(ge=1, le=1 << 32)] = 32_000_000
    """Of all pictures of a request: engines hold them decoded at the same time."""
    image_urls: bool = False
    """Whether pictures are fetched from the URLs that clients name."""
    image_url_hosts: tuple[str, ...] = ()
    """The only hosts that are asked, as names or `*.NAME`; empty is every public one."""
    image_url_ports: tuple[Annotated[int, Meta(ge=1, le=65_535)], ...] = (80, 443)
    image_url_networks: tuple[str, ...] = ()
    """That pictures may be fetched from although they are not public."""
    image_url_timeout_s: Annotated[float, Meta(gt=0, le=300)] = 10.0
    """For one picture with all its redirects."""
    keepalive_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """A silent stream gets an SSE comment this often, so that proxies do not cut it."""
    shutdown_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    relays: tuple[str, ...] = ()
    lan: bool = True
    """Look for cortexes by multicast DNS when `cortexes` names none; never from loopback."""
    realm: str = "helexa"
    """Nodes of another realm on the same LAN do not see one another."""
    transports: tuple[str, ...] = TRANSPORTS
    """Opened and dialled, best first."""
    runtime_order: tuple[str, ...] = ()
    """The first of these that serves a model's files and is installed runs it; those that are
    not named come after them.
    """
    models: dict[str, ModelSettings] = {}
    runtimes: dict[str, RuntimeSettings] = {}
    servers: dict[str, ServerSettings] = {}
