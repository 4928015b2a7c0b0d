"""The control protocol: what neurons and cortexes tell and ask one another.

The rules that keep old and new nodes talking:

- a new field has a default, and the default means "the sender is older";
- a field is never renamed, retyped, or reused; it is retired;
- a new message is a new tag, and a reader that lacks it answers `Unsupported`;
- only a change that breaks these raises VERSION (`version.py`), and a node
  speaks the whole range VERSION_MIN..VERSION for one release.

Direction and expected answer stand in each docstring. A message "told" has no
answer; a message "asked" is answered by the named type, `Refused` or
`Unsupported`.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from helexa.protocol.base import Message
from helexa.protocol.gossip import Gossip
from helexa.protocol.ids import ModelId, NodeId, OperatorId, RequestId
from helexa.protocol.records import Offer
from helexa.protocol.work import (
    DataPath,
    Load,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    WorkloadClass,
)


class Role(enum.Enum):
    NEURON = "neuron"
    CORTEX = "cortex"


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """Both sides, first on every link, in version 0 framing, which never changes.

    The receiver takes the highest common version or closes the link saying
    which versions it speaks.
    """

    role: Role
    lowest: int
    highest: int
    agent: str = ""
    """Program and version, for logs."""
    operator: OperatorId = OperatorId("")
    certificate: bytes = b""
    """Sealed `Certificate` behind `operator`; without one a node is its own operator."""
    invite: bytes = b""
    """Sealed `Invite` of the receiver, where the sender was given one."""
    name: str = ""
    """How the sender calls itself to people; claimed, not proven."""


class Ok(Message, frozen=True, kw_only=True, tag="ok"):
    """Done, with nothing to add."""


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """Understood and not done. `code` is one of `errors.py`; `message` is fit for a person."""

    code: str
    message: str
    retry_after_s: int | None = None


class Unsupported(Message, frozen=True, kw_only=True, tag="unsupported"):
    """The asked tag is not known to this build."""

    tag: str = ""


# --- neuron -> cortex


class Register(Message, frozen=True, kw_only=True, tag="neuron.register"):
    """Asked once per link; answered by `Registered`. Replaces what an earlier link said."""

    descriptor: NeuronDescriptor
    capabilities: tuple[ModelCapability, ...] = ()
    paths: tuple[DataPath, ...] = ()
    ticket: str = ""
    """Where other neurons can dial the sender."""


class Registered(Message, frozen=True, kw_only=True, tag="neuron.registered"):
    """The cortex's answer: how often it wants health, and after how long silence means lost."""

    health_every_s: float = 2.0
    lost_after_s: float = 6.0
    name: str = ""


class AnnounceCapabilities(Message, frozen=True, kw_only=True, tag="neuron.capabilities"):
    """Told on every change: the whole list, never a delta. Also answers `RequestCapabilities`."""

    capabilities: tuple[ModelCapability, ...]


class ReportHealth(Message, frozen=True, kw_only=True, tag="neuron.health"):
    """Told every `health_every_s`. Also answers `RequestHealth`."""

    load: Load


class ProvisioningResponse(Message, frozen=True, kw_only=True, tag="neuron.provisioning"):
    """Answers `LoadModel`, `UnloadModel` and `UpsertModelConfig`; `final` false is progress.

    `eta_s` is None where no estimate is known yet.
    """

    command: str
    model: ModelId
    state: ModelState
    final: bool = True
    reason: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    eta_s: float | None = None


class Goodbye(Message, frozen=True, kw_only=True, tag="goodbye"):
    """Told by either side before it closes on purpose, so that nobody waits for a timeout."""

    reason: str = ""


# --- cortex -> neuron


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is to be served; None leaves the neuron's own choice."""

    context_tokens: int | None = None
    slots: int | None = None
    deterministic: bool | None = None
    runtime: str = ""
    """An adapter by name; empty takes the first that serves the files."""
    arguments: tuple[str, ...] = ()
    """`NAME=VALUE` for the runtime; what it does not know is refused."""


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a source. What is empty or 0 is learnt from the origin."""

    name: str
    """Its path in the repository, or the URL's last part."""
    sha256: str = ""
    """64 hexadecimal digits; what differs is refused."""
    size: int = 0


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where weights come from.

    `hf:OWNER/REPO[@REVISION]`, `https://...` (`http:` on loopback alone), `file:/PATH`
    on the neuron, or `peer:` for a model that other neurons hold: then every file has
    its digest.
    """

    source: str
    files: tuple[SourceFile, ...] = ()
    """Those to take; empty lets the neuron choose: a single model, of `quantisation`."""
    quantisation: str = ""
    """Which of a repository's variants, such as `Q4_K_M`."""


class PieceHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A neuron to exchange pieces of files with."""

    node: NodeId
    ticket: str
    """Where it can be dialled."""


class PullModel(Message, frozen=True, kw_only=True, tag="model.pull"):
    """Asked; answered at once by a `ProvisioningResponse` that is not final, or by one that is
    where there is nothing to do. How it goes on is in health and capabilities.

    Asked again while the pull runs it replaces `peers` and `pin`. The model is called
    `model` on the neuron, whatever its files are called at the source.
    """

    command: str
    model: ModelId
    source: ModelSource
    peers: tuple[PieceHolder, ...] = ()
    """Neurons that pull or hold the same: pieces are taken from them and given to them."""
    pin: bool = False


class CancelPull(Message, frozen=True, kw_only=True, tag="model.pull.cancel"):
    """Asked; answered by a final `ProvisioningResponse`. What arrived stays for another try."""

    command: str
    model: ModelId


class RemoveModel(Message, frozen=True, kw_only=True, tag="model.remove"):
    """Asked; answered by a final `ProvisioningResponse` when its files are gone.

    Refused while it is loaded, and for files that no pull brought.
    """

    command: str
    model: ModelId


class SharePieces(Message, frozen=True, kw_only=True, tag="pieces.share"):
    """Asked; answered by `Ok`. These neurons may fetch pieces of this model from now on, and no
    others.
    """

    model: ModelId
    peers: tuple[PieceHolder, ...] = ()


class UpsertModelConfig(Message, frozen=True, kw_only=True, tag="model.config"):
    """Asked; answered by `ProvisioningResponse`. Takes effect at the next load."""

    command: str
    model: ModelId
    config: ModelConfig


class LoadModel(Message, frozen=True, kw_only=True, tag="model.load"):
    """Asked; answered by a final `ProvisioningResponse` when loaded or failed."""

    command: str
    model: ModelId
    config: ModelConfig | None = None
    """How, from this load on; None leaves what was said before."""


class UnloadModel(Message, frozen=True, kw_only=True, tag="model.unload"):
    """Asked; requests in flight end first, at most for `grace_s`."""

    command: str
    model: ModelId
    grace_s: float = 30.0
    if_idle: bool = False
    """Refused where a request runs or waits, instead of waiting for its end."""


class ExecuteRequest(Message, frozen=True, kw_only=True, tag="execute"):
    """Opens a data stream of the mesh link: after this one frame, HTTP/1.1 bytes follow."""

    request: RequestId
    model: ModelId = ModelId("")
    workload: WorkloadClass = WorkloadClass.OTHER


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """Told: stop generating for this request, whatever path it came by."""

    request: RequestId


class Drain(Message, frozen=True, kw_only=True, tag="drain"):
    """Asked; answered by `Ok` at once. New work is refused, running work goes on."""

    enabled: bool = True


class RequestCapabilities(Message, frozen=True, kw_only=True, tag="capabilities.request"):
    """Asked; answered by `AnnounceCapabilities`."""


class RequestHealth(Message, frozen=True, kw_only=True, tag="health.request"):
    """Asked; answered by `ReportHealth`."""


# --- cortex <-> cortex


class Withheld(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a cortex does not serve for the reader, and which of its rules says so."""

    reason: str
    models: tuple[ModelId, ...] = ()
    """Empty: all."""
    classes: tuple[WorkloadClass, ...] = ()
    """Empty: all."""


class ReportOffers(Message, frozen=True, kw_only=True, tag="cortex.offers"):
    """Told when a session between cortexes begins and on every change: at most once a second,
    but at once where an operator changed a rule.

    What the sender would serve for this one reader: it replaces what the
    sender's record says to everybody. Nothing offered and nothing withheld
    means that the sender serves nothing at all now.
    """

    offers: tuple[Offer, ...] = ()
    withheld: tuple[Withheld, ...] = ()


Wire: TypeAlias = (
    Hello
    | Ok
    | Refused
    | Unsupported
    | Register
    | Registered
    | AnnounceCapabilities
    | ReportHealth
    | ProvisioningResponse
    | Goodbye
    | UpsertModelConfig
    | PullModel
    | CancelPull
    | RemoveModel
    | SharePieces
    | LoadModel
    | UnloadModel
    | ExecuteRequest
    | Cancel
    | Drain
    | RequestCapabilities
    | RequestHealth
    | ReportOffers
    | Gossip
)
