"""What a runtime is, to a neuron.

An adapter answers questions about one runtime: can it serve these files, how is
a child started, how does a request have to look for it, what did its exit or
its refusal mean. It opens no socket and starts no process, so one supervisor
serves every runtime and an adapter is tested without one.

A child speaks HTTP/1.1 in OpenAI's shapes on the Unix socket (or loopback port)
it was granted. Where the program does not, the adapter's own child script does.

What every adapter has is `RuntimeAdapter`. The kinds of work that it can be asked
for are small protocols of their own - `Chat`, `Text`, `Embedding`, `Rerank` - and
so is each further ability; an adapter has the methods of those that it can do.
Vision is `Chat` whose capabilities name pictures among the modalities.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar, runtime_checkable

from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, Usage, WorkloadClass
from helexa.util.dialling import Dial

ArgumentValue: TypeAlias = int | float | bool | str
T = TypeVar("T")


class Ability(enum.Enum):
    """What a replica can do besides plain text in and plain text out.

    The words are what clients and cortexes are told, and rows of the matrix in docs/runtimes.
    """

    TOOLS = "tools"
    """`tools` with `tool_choice` auto or none."""
    TOOL_CHOICE = "tool_choice"
    """`required`, or a function by its name, holds."""
    PARALLEL_TOOLS = "parallel_tools"
    """Several calls in one answer."""
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    """The answer is sure to follow it."""
    GRAMMAR = "grammar"
    """`grammar`, in the engine's own notation."""
    REASONING = "reasoning"
    """Thoughts come apart from the answer, as `reasoning_content`."""
    LOGPROBS = "logprobs"
    CHOICES = "choices"
    """`n` above 1."""
    SEED = "seed"
    """The same seed gives the same answer, all else being equal."""
    PENALTIES = "penalties"
    """`frequency_penalty` and `presence_penalty`."""
    LOGIT_BIAS = "logit_bias"
    DETERMINISTIC = "deterministic"
    """May be served so that an answer does not depend on what else runs."""
    DIMENSIONS = "dimensions"
    """Vectors may be asked for shorter than they are."""
    CONTINUE_TEXT = "continue_text"
    """A last message of the assistant's is gone on with, not answered."""
    CONTINUE_IDS = "continue_ids"
    """A prompt of token ids is gone on with, exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a replica can do, as discovered from its files (or its engine) before it runs."""

    classes: tuple[WorkloadClass, ...]
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    abilities: frozenset[Ability] = frozenset()

    @property
    def tools(self) -> bool:
        return Ability.TOOLS in self.abilities

    @property
    def structured_output(self) -> bool:
        return Ability.JSON_SCHEMA in self.abilities

    @property
    def reasoning(self) -> bool:
        return Ability.REASONING in self.abilities


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model as it lies on disk, and what its own metadata says. Made by the model store.

    One that another server has lies on no disk of ours: its `format` is `server`.
    """

    model: ModelId
    weights: Path
    projector: Path | None = None
    """The multimodal projector (mmproj) beside it."""
    sees: bool = False
    """Its own weights have a part for pictures; a GGUF has a `projector` instead."""
    format: str = "gguf"
    architecture: str = ""
    model_class: str = ""
    """That config.json names, such as LlamaForCausalLM; other formats name none."""
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
    """`none`, `mean`, `cls`, `last`, `rank`; empty for a generative model.

    `other` is what no engine does: its files want something else, or do not say what.
    """
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
    token_bytes_max: int = 0
    """Of text that one token stands for, at most; 0 where nobody knows."""
    multiplied: tuple[tuple[int, int], ...] = ()
    """Bytes of the matrices that are multiplied, by ggml's number of their type."""
    dimensions: tuple[int, ...] = ()
    """That its vectors were trained to be cut to, besides their whole length."""
    server: str = ""
    """By name, of `[neuron.servers]`; empty for a model on this neuron's disk."""
    called: str = ""
    """Its name at that server."""
    told: Capabilities | None = None
    """What that server, or the operator, says that it can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where an engine is, in the operator's words. Nobody else may set these: they run programs.

    From `[neuron.runtimes.NAME]`, or `[neuron.servers.NAME]` for a model that names a server.
    """

    python: Path | None = None
    """The interpreter of an environment that has the engine; None is this neuron's own."""
    program: Path | None = None
    """An executable in place of the packaged engine."""
    arguments: tuple[str, ...] = ()
    """Further words for its command line, as they are."""
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    """Of a server that runs already, up to before `/chat/completions`."""
    key: str = ""
    """What it is shown as a bearer token."""
    command: tuple[str, ...] = ()
    """That starts a server; words in braces are filled in."""
    ready_path: str = ""
    ready_within_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where on the machine a replica may run, in the operator's words."""

    devices: tuple[str, ...] | None = None
    """By number or UUID; none at all is the processor alone, None leaves it to the neuron."""
    count: int = 0
    """Of devices; 0 leaves it to the adapter."""
    shared: bool = False
    """Its devices may be lent to others, too, byte by byte."""
    or_cpu: bool = False
    """It runs on the processor where no device is free for it."""
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """How one copy is to be served. `context_tokens` is per request, not shared among slots."""

    files: ModelFiles
    context_tokens: int
    slots: int
    deterministic: bool = False
    threads: int = 0
    """0 leaves it to the runtime."""
    picture_pixels_max: int = 0
    """Of one picture that can reach it, once decoded."""
    request_pixels_max: int = 0
    """Of all pictures of one request together."""
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict)
    """Checked by `arguments.read` against what the adapter takes."""
    placement: Placement = field(default_factory=Placement)
    installation: Installation = field(default_factory=Installation)
    learnt: Mapping[str, str] = field(default_factory=dict)
    """What the running child answered to the adapter's `questions`; empty before it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the neuron lends this replica: a way to be reached, a scratch folder, some devices."""

    socket: Path
    scratch: Path
    port: int = 0
    """Free on loopback a moment ago, for an engine that takes no Unix socket."""
    secret: str = ""
    """This child's alone; who listens on a port asks for it, since others can reach it, too."""
    devices: Sequence[int] = ()
    """By their numbers on the machine. The variables that show the child these and no others are
    set for it; none are the processor alone.
    """
    device_shares: Sequence[float] = ()
    """Of the memory of each of them, what it may take: 0..1."""
    cpus: Sequence[int] = ()
    """It runs on these alone; empty is all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """`env` is the whole environment of the child besides PATH, HOME and the locale."""

    argv: Sequence[str]
    """Empty where nothing is started: somebody else keeps that server running."""
    env: Mapping[str, str] = field(default_factory=dict)
    reach: Dial | None = None
    """Where it answers; None is the Unix socket of the grant."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """That go with every request to it."""
    ready_path: str = "/health"
    """Answers 200 when the child serves; anything else, or no answer, means not yet."""
    ready_within_s: float = 300.0
    stop_grace_s: float = 5.0
    live_path: str = ""
    """Asked now and then of one that serves; empty is `ready_path`.

    No answer within `live_within_s`, `LIVE_MISSES_MAX` times on end, means that it hangs.
    """
    live_within_s: float = 30.0
    live_every_s: float = 10.0


LIVE_MISSES_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of memory, by what they hold. Estimated from metadata before anything is loaded."""

    weights: int
    kv_cache: int
    overhead: int
    reserve: int = 0
    """What may be taken later, prompt by prompt, and is not before."""
    on_devices: int = 0
    """Of all these, what lies in the memory of devices where it is lent any, and not beside them.

    Where it is lent none, all of it is main memory.
    """
    cpu_only: int = 0
    """Of all these, what is taken only where it is lent no device."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWish:
    """How many devices an engine would use for a replica, and of which makers."""

    least: int = 1
    most: int = 1
    """As few as hold its bytes are taken; they are divided evenly."""
    bytes_each: int = 0
    """That the engine takes of every device besides: its context there, its code."""
    vendors: tuple[str, ...] = ("nvidia",)
    needed: bool = False
    """This build of the engine does not run on a processor alone."""


@runtime_checkable
class AcceleratedAdapter(Protocol):
    """An optional ability of an adapter: its engine computes on devices."""

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        """None where it would use none: for such settings, or as the engine was built.

        Asked for every announcement on machines that have devices: quick.
        """
        ...


@runtime_checkable
class TunableAdapter(Protocol):
    """An optional ability of an adapter: arguments for its engine."""

    arguments: Sequence[Argument]


@runtime_checkable
class ReplaceableAdapter(Protocol):
    """An optional ability of an adapter: a program of the operator's in place of its engine."""

    program: str
    """Which one that is, by its usual name."""


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
    OVERGROWN = "overgrown"
    """It took far more memory than it was granted."""
    HANGS = "hangs"
    """It served, and does not answer any more."""
    UNREACHABLE = "unreachable"
    """A server that somebody else keeps running is not there."""
    UNKNOWN = "unknown"

    @property
    def retry_helps(self) -> bool:
        """Whether starting the same child again could end differently."""
        return self in (
            ExitReason.KILLED,
            ExitReason.UNKNOWN,
            ExitReason.SOCKET_TAKEN,
            ExitReason.OVERGROWN,
            ExitReason.HANGS,
            ExitReason.UNREACHABLE,
        )


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
    RERANK = "/v1/rerank"


class Rewrite(Protocol):
    """Turns what one engine says for one request into what OpenAI would say.

    Made for each request, and fed in order. Raises RuntimeRefused for what it cannot read.
    """

    def event(self, payload: bytes) -> Sequence[bytes]:
        """The JSON of one SSE event (never [DONE]) to that of none, one or several."""
        ...

    def end(self) -> Sequence[bytes]:
        """What is left to say before [DONE]."""
        ...

    def whole(self, body: bytes) -> bytes:
        """An answer that was not streamed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequest:
    """What to send to the child for one client request."""

    path: str
    body: bytes
    streamed: bool
    """Whether the child will answer in SSE; it may although the client did not ask for it."""
    method: str = "POST"
    rewrite: Callable[[], Rewrite] | None = None
    """None where the engine's own words are OpenAI's, which is faster."""


Asking: TypeAlias = Generator[ChildRequest, bytes, T]
"""Several questions to the child, one after the other. What is yielded is asked, what comes back is
the body of a 200 answer, and what is returned is what came of it. Any other answer ends it: it is
the adapter's `refusal`.
"""


class RuntimeAdapter(Protocol):
    """One file in `adapters/` exports one of these as `adapter`; the file name is its word."""

    name: str

    def serves(self, files: ModelFiles) -> Capabilities | None:
        """What this runtime would offer for these files, or None when it cannot run them.

        Asked for every request: quick, and the same for the same files.
        """
        ...

    def footprint(self, spec: ReplicaSpec) -> Footprint: ...

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan: ...

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        """The typed meaning of a non-200 answer, or of an error event (status 500) of a stream."""
        ...

    def usage(self, event: bytes) -> Usage | None:
        """Token counts of an SSE payload or a whole body, or None when it holds none."""
        ...

    def explain_exit(self, status: int, log_tail: str) -> Exit: ...


# --- the kinds of work. Each method makes the child's request out of a client's body.
#
# The prompt is passed as it is. What may change: `stream` and usage options (a streamed child
# notices a disconnect, a plain one does not), a cap on the output where the client set none.
# Raises RequestRejected, CapabilityMissing or ModalityUnsupported for what the engine would
# misunderstand or silently leave out. `runtime.openai` has what most of them need.


@runtime_checkable
class Chat(Protocol):
    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest: ...


@runtime_checkable
class Text(Protocol):
    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest: ...


@runtime_checkable
class Embedding(Protocol):
    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest: ...


@runtime_checkable
class Rerank(Protocol):
    """The engine is asked for the score of every document, 0 to 1; the neuron does the rest."""

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest: ...


# --- further abilities of an adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A text as its model reads it."""

    count: int
    ids: Sequence[int] = ()
    """As many, or none where some of them have no ids: those of pictures."""
    pieces: Sequence[bytes] = ()
    """The text of each; a character may be divided among several. None where they are unknown."""


@runtime_checkable
class TokenizingAdapter(Protocol):
    """The engine says how its model reads texts. Nothing is computed for that."""

    def tokens_of_text(
        self, text: str | Sequence[str], spec: ReplicaSpec, *, special: bool = True
    ) -> Asking[Tokens]:
        """Several texts are read one by one, and their tokens follow one another.

        `special` adds what the model expects around a text; the text itself may name special
        tokens only with it.
        """
        ...

    def tokens_of_chat(
        self, body: bytes, spec: ReplicaSpec, *, special: bool | None = None
    ) -> Asking[Tokens]:
        """The prompt that the body of a chat completion comes to. Raises what `chat` raises."""
        ...

    def text_of(self, ids: Sequence[int], spec: ReplicaSpec) -> Asking[str]: ...


@runtime_checkable
class SeeingAdapter(Protocol):
    """Its engine reads some of the types of pictures that clients may send."""

    picture_types: Collection[str]
    """Of `png`, `jpeg`, `webp` and `gif`; an adapter without this reads all of them."""


@runtime_checkable
class CuriousAdapter(Protocol):
    """There are things about a model that only its running child knows."""

    def questions(self, spec: ReplicaSpec) -> Sequence[ChildRequest]:
        """What to ask, in order, right after the child became ready and before it gets work."""
        ...

    def learn(self, spec: ReplicaSpec, answers: Sequence[tuple[int, bytes]]) -> Mapping[str, str]:
        """From status and body of each answer (0 where there was none) to `spec.learnt`.

        Never raises.
        """
        ...


@runtime_checkable
class ThinkingOnAdapter(Protocol):
    """Its engine goes on with a last message of the assistant's also where that is a thought.

    The thought is the message's `reasoning_content`; it is over where there is a `content`.
    """

    thinks_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an engine says of itself; None is what it does not say."""

    running: int | None = None
    waiting: int | None = None
    kv_share: float | None = None
    """0..1 of its room for keys and values."""
    cached_tokens: int | None = None
    """Prompt tokens since its start that it did not have to read again."""


@runtime_checkable
class ReportingAdapter(Protocol):
    """The engine can be asked how busy it is. This is also the question whether it lives."""

    load_path: str

    def load(self, body: bytes) -> EngineLoad:
        """Of a 200 answer. Never raises."""
        ...


@runtime_checkable
class DetailingAdapter(Protocol):
    """A `ReportingAdapter` whose engine says the rest of it at a second address."""

    detail_path: str

    def detailed(self, load: EngineLoad, body: bytes) -> EngineLoad:
        """`load`, with what a 200 answer adds to it. Never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that an engine lives in, and how an operator gets it."""

    module: str
    install: str
    """A command line."""


@runtime_checkable
class PackagedAdapter(Protocol):
    """The engine is a package that need not be installed."""

    requirement: Requirement
