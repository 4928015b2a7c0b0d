"""What a node can do, does, and has done: the nouns of scheduling and accounting.

Units are in the names: tokens, bytes, seconds, nano-credits (1e-9 of a credit).
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from helexa.protocol.ids import ModelId, NodeId, OperatorId

MODELS_PER_NEURON_MAX: Final = 4_096
"""An announcement that names more is refused as a frame; real nodes have dozens."""


class WorkloadClass(enum.Enum):
    # Members are one object each; enum's own hash is a call in Python, felt in every request.
    __hash__ = object.__hash__

    CHAT_INTERACTIVE = "chat_interactive"
    CHAT_BULK = "chat_bulk"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    VISION = "vision"
    IMAGE = "image"
    AUDIO = "audio"
    OTHER = "other"
    """What costs next to nothing and whoever has the model can do, such as counting tokens."""


class Modality(enum.Enum):
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"


class ModelState(enum.Enum):
    UNLOADED = "unloaded"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    LOADED = "loaded"
    DRAINING = "draining"
    UNLOADING = "unloading"
    FAILED = "failed"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-credits a token, by disjoint token class."""

    prompt_uncached: int = 0
    prompt_cached: int = 0
    completion: int = 0
    reasoning: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one attempt, in classes that never overlap (OpenAI counts cached inside prompt)."""

    prompt_uncached: int = 0
    prompt_cached: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.prompt_uncached + self.prompt_cached

    @property
    def total(self) -> int:
        return self.prompt + self.completion + self.reasoning


OWN_MEMORY: Final = "own"
UNIFIED_MEMORY: Final = "unified"
"""The device computes in main memory, so what it holds is counted there."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One accelerator, or one part of one that was divided."""

    index: int
    vendor: str
    name: str
    memory_bytes: int
    memory_free_bytes: int = 0
    driver: str = ""
    uuid: str = ""
    compute: str = ""
    """What its maker calls this generation for programs: `9.0`, `gfx942`."""
    memory: str = OWN_MEMORY


class DeviceLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a neuron: what may be given of it, and who has it."""

    index: int
    vendor: str = ""
    uuid: str = ""
    free_bytes: int = 0
    models: tuple[ModelId, ...] = ()


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """The hardware a neuron may use, after container limits."""

    machine: str
    system: str
    cpu_model: str = ""
    cpus: float = 1.0
    memory_bytes: int = 0
    devices: tuple[Device, ...] = ()
    cpu_features: tuple[str, ...] = ()
    """Instructions for matrices that it has, such as `avx2`."""
    numa_nodes: int = 1


class DataPath(msgspec.Struct, frozen=True, kw_only=True):
    """One way to reach a neuron's work socket other than the mesh link.

    `kind` is `unix` (address: a file path, usable where `host` equals the
    reader's own host mark). The token is for the one cortex it was sent to and
    must accompany every request on that path.
    """

    kind: str
    address: str
    token: str
    host: str = ""


class NeuronDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    operator: OperatorId
    version: str
    hardware: Fingerprint
    name: str = ""
    region: str = ""
    labels: dict[str, str] = {}
    runtimes: tuple[str, ...] = ()
    """That are installed there, by name; empty for a neuron that does not say."""


class ModelCapability(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one neuron: what it is, what it can do, how it stands now."""

    model: ModelId
    state: ModelState
    digest: str = ""
    """`sha256:...` of the weights; empty until computed."""
    runtime: str = ""
    architecture: str = ""
    parameters: int = 0
    quantisation: str = ""
    classes: tuple[WorkloadClass, ...] = ()
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    context_tokens: int = 0
    slots: int = 0
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False
    memory_bytes: int = 0
    """RAM and VRAM that it needs (unloaded) or holds (loaded)."""
    tokens_per_s: float = 0.0
    """Measured decode speed of one stream; 0 when never measured."""
    price: Price = Price()
    reason: str = ""
    """Why it failed, or why it cannot be loaded."""
    load_s: float = 0.0
    """From asked to ready on this neuron: measured the last time, else estimated; 0 is unknown."""
    first_token_s: float = 0.0
    """Measured time to the first token of an unloaded queue; 0 when never measured."""
    source: str = ""
    """Where the neuron had it from; empty for a file that somebody put there."""
    disk_bytes: int = 0
    """On this neuron's disk, so far."""
    pinned: bool = False
    """Never removed to make room on the disk."""
    abilities: tuple[str, ...] = ()
    """Further words than the three above, such as `json_schema`; docs/runtimes lists them."""
    reason_code: str = ""
    """Of `reason`, one word for programs, such as `out_of_memory`."""


class ReplicaLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One model that is loaded, being loaded or asked for."""

    model: ModelId
    running: int = 0
    waiting: int = 0
    slots: int = 0
    idle_s: float = 0.0
    """Since the last request ended or it became ready; 0 while there are any."""
    queue_s: float = 0.0
    """Mean wait for a slot of the requests that got one lately."""
    memory_bytes: int = 0
    """Measured; 0 where that is unknown."""
    prefixes: tuple[int, ...] = ()
    """Heads of prompts that its cache may still hold, as `protocol.prefix` hashes them."""
    kv_share: float = 0.0
    """0..1 of its engine's room for keys and values, where the engine tells."""
    cached_tokens: int = 0
    """Prompt tokens since its start that its engine did not read again, where it tells."""


class Phase(enum.Enum):
    """What is being waited for until a model serves."""

    WAITING = "waiting"
    """For room, for a neuron, or for requests of another model to end."""
    DOWNLOADING = "downloading"
    LOADING = "loading"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a model is on its way to be served. `eta_s` is None where nothing is known yet."""

    phase: Phase
    bytes_done: int = 0
    bytes_total: int = 0
    eta_s: float | None = None


class ModelProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A pull or a load on a neuron, as of the report that it came with."""

    model: ModelId
    progress: Progress
    bytes_from_peers: int = 0
    """Of `bytes_done`, what other neurons gave."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A neuron's health, sent every few seconds; `sequence` rises by one each time."""

    sequence: int
    uptime_s: float = 0.0
    cpu_share: float = 0.0
    """0..1 of the CPUs this neuron may use."""
    memory_used_bytes: int = 0
    memory_free_bytes: int = 0
    """For more models, where models of this neuron go: on its devices, or in main memory."""
    replicas: tuple[ReplicaLoad, ...] = ()
    draining: bool = False
    progress: tuple[ModelProgress, ...] = ()
    disk_free_bytes: int = 0
    """For more models, within the operator's limit."""
    devices: tuple[DeviceLoad, ...] = ()
