"""What a runtime is, to a neuron.

An adapter answers questions about one runtime: can it serve these files, how is
a child started, how does a request have to look for it, what did its exit or
its refusal mean. It opens no socket and starts no process, so one supervisor
serves every runtime and an adapter is tested without one.

A child speaks HTTP/1.1 in OpenAI's shapes on the Unix socket (or loopback port)
it was granted. Where the program does not, the adapter's own child script does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, Usage, WorkloadClass

ArgumentValue: TypeAlias = int | float | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model as it lies on disk, and what its own metadata says. Made by the model store."""

    model: ModelId
    weights: Path
    projector: Path | None = None
    """The multimodal projector (mmproj) beside it."""
    format: str = "gguf"
    architecture: str = ""
    name: str = ""
    description: str = ""
    parameters: int = 0
    quantisation: str = ""
    context_tokens_trained: int = 0
    weights_bytes: int = 0
    projector_bytes: int = 0
    projector_work_bytes: int = 0
    """Of one picture on its way through it."""
    chat_template: str = ""
    pooling: str = ""
    """`none`, `mean`, `cls`, `last`, `rank`; empty for a generative model."""
    layers: int = 0
    kv_bytes_per_token: int = 0
    """At f16, in the layers that see every token."""
    window_tokens: int = 0
    """How far the other layers look back."""
    window_kv_bytes_per_token: int = 0
    state_bytes: int = 0
    """That recurrent layers keep of one conversation."""
    heads: int = 0
    embedding_length: int = 0
    feed_forward_length: int = 0
    vocabulary: int = 0
    multiplied: tuple[tuple[int, int], ...] = ()
    """Bytes of the matrices that are multiplied, by ggml's number of their type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """How one copy is to be served. `context_tokens` is per request, not shared among slots."""

    files: ModelFiles
    context_tokens: int
    slots: int
    deterministic: bool = False
    threads: int = 0
    """0 leaves it to the runtime."""
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict)
    """Checked by `arguments.read` against what the adapter takes."""
    learnt: Mapping[str, str] = field(default_factory=dict)
    """What the running child answered to the adapter's `questions`; empty before it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the neuron lends this replica: a socket, a folder for scratch files, some devices."""

    socket: Path
    scratch: Path
    devices: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """`env` is the whole environment of the child besides PATH, HOME and the locale."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/health"
    """Answers 200 when the child serves; anything else, or no answer, means not yet."""
    ready_within_s: float = 300.0
    stop_grace_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a replica can do, as discovered from its files (or its engine) before it runs."""

    classes: tuple[WorkloadClass, ...]
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of memory, by what they hold. Estimated from metadata before anything is loaded."""

    weights: int
    kv_cache: int
    overhead: int
    reserve: int = 0
    """What may be taken later, prompt by prompt, and is not before."""

    @property
    def use(self) -> int:
        """What it takes once every slot has worked: this is what a measurement is held against."""
        return self.weights + self.kv_cache + self.overhead

    @property
    def total(self) -> int:
        """What has to be there for it."""
        return self.use + self.reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One thing about a runtime that an operator may set: `NAME=VALUE`.

    `kind` is int, float, bool or str; a str is one of `choices`.
    """

    name: str
    kind: type[int | float | bool | str]
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


@runtime_checkable
class TunableAdapter(Protocol):
    """An optional ability of an adapter: arguments for its engine."""

    arguments: Sequence[Argument]


class ExitReason(enum.Enum):
    OUT_OF_MEMORY = "out_of_memory"
    MODEL_UNREADABLE = "model_unreadable"
    ARCHITECTURE_UNKNOWN = "architecture_unknown"
    SETTINGS_UNSUITABLE = "settings_unsuitable"
    """The engine takes such settings, but not together or not for this model."""
    SOCKET_TAKEN = "socket_taken"
    NOT_INSTALLED = "not_installed"
    KILLED = "killed"
    STOPPED = "stopped"
    """Asked to."""
    NEVER_READY = "never_ready"
    UNKNOWN = "unknown"

    @property
    def retry_helps(self) -> bool:
        """Whether starting the same child again could end differently."""
        return self in (ExitReason.KILLED, ExitReason.UNKNOWN, ExitReason.SOCKET_TAKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    reason: ExitReason
    detail: str
    """One line fit for an operator, from the child's own words where it had any."""


class Endpoint(enum.Enum):
    """The kinds of work a child is asked for, by their OpenAI path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequest:
    """What to send to the child for one client request."""

    path: str
    body: bytes
    streamed: bool
    """Whether the child will answer in SSE; it may although the client did not ask for it."""
    prompt_tokens_known: int | None = None


@runtime_checkable
class CuriousAdapter(Protocol):
    """An optional ability of an adapter: things about a model that only its running child knows."""

    def questions(self, spec: ReplicaSpec) -> Sequence[ChildRequest]:
        """What to ask, in order, right after the child became ready and before it gets work."""
        ...

    def learn(self, spec: ReplicaSpec, answers: Sequence[tuple[int, bytes]]) -> Mapping[str, str]:
        """From status and body of each answer to `spec.learnt` for `shape`. Never raises."""
        ...


class RuntimeAdapter(Protocol):
    """One file in `adapters/` exports one of these as `adapter`; the file name is its word."""

    name: str

    def serves(self, files: ModelFiles) -> Capabilities | None:
        """What this runtime would offer for these files, or None when it cannot run them."""
        ...

    def footprint(self, spec: ReplicaSpec) -> Footprint: ...

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan: ...

    def shape(self, endpoint: Endpoint, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        """The child's request for a client's body.

        The prompt is passed as it is. What may change: `stream` and usage
        options (a streamed child notices a disconnect, a plain one does not), a
        cap on the output where the client set none. Raises RequestRejected or
        ModalityUnsupported for what the engine would misunderstand.
        """
        ...

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        """The typed meaning of a non-200 answer."""
        ...

    def usage(self, event: bytes) -> Usage | None:
        """Token counts of an SSE payload or a whole body, or None when it holds none."""
        ...

    def explain_exit(self, status: int, log_tail: str) -> Exit: ...
